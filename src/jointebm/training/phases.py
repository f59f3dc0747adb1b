"""Moves of one iteration: of chains, and of the missing entries of rows (Eqs. 2 and 8).

Legend: N rows or chains.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.data.datasets import Batch
from jointebm.kernels import Kernel, LogDensity, evaluate, without_laziness
from jointebm.sampling.sample import run_chain
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space
from jointebm.training.compiled_moves import CompiledMoves
from jointebm.training.row_completions import Completions, missing_entries
from jointebm.training.watch import Moved, Watch

__all__ = ["Completer", "Positive", "move", "without_nan"]


class Positive(NamedTuple):
    """Completed rows of data.

    Args:
        position: N rows without missing entries.
        missing: which entries were not observed, per block (N, *variable_shape), bool; None if all were.
        moved: places in the batch of the rows that a kernel completed, int64; None without any.
        numbers: of all rows, shape (N,), int64; None if they have none.
    """

    position: Position
    missing: Mask | None = None
    moved: Tensor | None = None
    numbers: Tensor | None = None

    def keep(self, completions: Completions) -> None:
        """Writes the completions that a kernel moved."""
        if self.moved is not None:
            assert self.numbers is not None and self.missing is not None
            rows = {name: value[self.moved] for name, value in self.position.items()}
            completions.write(self.numbers[self.moved], rows, {n: mask[self.moved] for n, mask in self.missing.items()})


@dataclass(frozen=True)
class Completer:
    """Fills the missing entries of rows given the observed ones: the positive phase of Eq. 8.

    A kernel moves the missing entries from where it left them at the row's last visit, with every observed entry clamped.
    If labels are summed out and only labels are missing, no kernel is needed. Complete rows are passed on as they are; if
    all are complete, nothing is drawn.

    Args:
        space: the blocks.
        kernel: what moves chains; its lazy parts are applied at every step here.
        num_steps: kernel steps at each visit, >= 1.
        noise: start of the first visit.
        watch: checks data and completions.
        sums_labels_out: whether the objective sums missing labels out.
    """

    space: Space
    kernel: Kernel
    num_steps: int
    noise: Noise
    watch: Watch
    sums_labels_out: bool = False

    def complete(
        self, batch: Batch, completions: Completions, *, log_density: LogDensity, generator: torch.Generator, where: str
    ) -> Positive:
        """Completes a batch.

        Args:
            batch: the rows, NaN is missing.
            completions: of earlier visits; not changed, see `Positive.keep`.
            log_density: f.
            generator: source of all draws.
            where: completes messages, such as "iteration 7".

        Raises:
            Diverged: data or completions are not finite, or completions are far from the observed entries.
        """
        position, numbers = batch
        missing = missing_entries(self.space, position) if numbers is not None else None
        if numbers is None or missing is None:
            self.watch.check_data(position, where)
            return Positive(position)
        self.watch.check_data({name: without_nan(value) for name, value in position.items()}, where)
        completed = completions.draw(numbers, position, noise=self.noise, generator=generator)
        filled = self.space.continuous if self.sums_labels_out else tuple(self.space)
        incomplete = [missing[name].reshape(len(numbers), -1).any(dim=1) for name in filled]
        rows = torch.stack(incomplete).any(dim=0).nonzero().flatten() if incomplete else numbers[:0]
        if not len(rows):
            return Positive(completed, missing)
        moved = move(
            log_density,
            without_laziness(self.kernel),
            {name: value[rows] for name, value in completed.items()},
            free={name: mask[rows] for name, mask in missing.items()},
            num_steps=self.num_steps,
            generator=generator,
        )
        self.watch.check_completions(moved, position, where)
        completed |= {name: completed[name].index_copy(0, rows, value) for name, value in moved.chain.position.items()}
        return Positive(completed, missing, rows, numbers)


def move(
    log_density: LogDensity,
    kernel: Kernel,
    start: Position,
    *,
    free: Mask,
    num_steps: int,
    generator: torch.Generator,
    compiled: CompiledMoves | None = None,
) -> Moved:
    """Moves chains by `num_steps` steps of a kernel, and says whether all stayed finite on the way.

    With `compiled`, as many steps as are compiled are made by it, and the rest by the kernel.
    """
    chain = evaluate(log_density, start, with_score=kernel.uses_score)
    accept_probs: list[Tensor] = []
    finite = [chain.f.isfinite()]
    fused = None if compiled is None else compiled.steps(chain, free=free, generator=generator)
    while fused is not None and num_steps >= fused.num_steps:
        chains, of_steps = fused(chain, generator)
        chain, num_steps = chains[-1], num_steps - fused.num_steps
        accept_probs += of_steps.unbind()
        finite += [each.f.isfinite() for each in chains]
    steps = run_chain(log_density, kernel, chain, free=free, generator=generator)
    for chain, infos in itertools.islice(steps, num_steps):
        accept_probs.append(torch.stack([info.accept_prob for info in infos]))
        finite.append(chain.f.isfinite())
    if chain.score is not None:
        finite += [score.reshape(len(chain.f), -1).isfinite().all(dim=1) for score in chain.score.known().values()]
    return Moved(chain, torch.stack(accept_probs).mean(dim=0), torch.stack(finite).all(dim=0))


def without_nan(value: Tensor) -> Tensor:
    """0 where an entry is missing; infinite entries stay infinite."""
    return value.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
