"""The negative phase of one iteration: chains that carry weights are reweighted, resampled and moved.

Legend: N chains of a batch.
"""

from typing import NamedTuple

from torch import Tensor

from jointebm.kernels import Chain, Cycle, Jump, Kernel, LogDensity, evaluate, parts_of
from jointebm.randomness.draws import Generator
from jointebm.references.reference import Reference
from jointebm.training.chain_weights import MIN_SHARE, log_mean_exp, resampled
from jointebm.training.replay_buffer import Drawn
from jointebm.training.watch import Moved

__all__ = ["Negative", "Reweighted", "reweight", "with_jumps"]


class Reweighted(NamedTuple):
    """Chains of a batch after their weights took up the change of F, and before they move.

    Args:
        position: of the chains, resampled where their weights were too uneven.
        f: F there, shape (N,).
        log_weights: shape (N,), float64, nats.
        share: effective share before resampling, a scalar.
        log_normalizer: log of the mean weight, a scalar, nats.
    """

    position: dict[str, Tensor]
    f: Tensor
    log_weights: Tensor
    share: Tensor
    log_normalizer: Tensor

    def as_moved(self) -> Moved:
        """The chains as they are, for a phase without moves."""
        chain = Chain(self.position, self.f, None)
        return Moved(chain, self.f.new_empty(0, len(self.f)), self.f.isfinite())


class Negative(NamedTuple):
    """The chains of a negative phase.

    Args:
        moved: where they are.
        reweighted: their weights; None if they carry none.
        drawn_afresh: whether they are fresh draws of the reference that did not move.
    """

    moved: Moved
    reweighted: Reweighted | None = None
    drawn_afresh: bool = False


def reweight(
    log_density: LogDensity, drawn: Drawn, generator: Generator, *, min_share: float = MIN_SHARE
) -> Reweighted:
    """Updates the log-weights of chains at their fixed positions, and resamples below `min_share`.

    Args:
        log_density: F as it is now.
        drawn: chains with weights.
        generator: source of one uniform.
        min_share: effective share below which chains are resampled.
    """
    assert drawn.weights is not None
    f = evaluate(log_density, drawn.position, with_score=False).f
    log_weights = drawn.weights.updated(f)
    chosen = resampled(log_weights, generator, min_share=min_share)
    position = {name: value[chosen.origins] for name, value in drawn.position.items()}
    return Reweighted(position, f[chosen.origins], chosen.log_weights, chosen.share, log_mean_exp(log_weights))


def with_jumps(kernel: Kernel, reference: Reference) -> Kernel:
    """The kernel with a jump from the reference before it, unless it jumps already."""
    if any(isinstance(part, Jump) for part in parts_of(kernel)):
        return kernel
    return Cycle((Jump(reference), kernel))
