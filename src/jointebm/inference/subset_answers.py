"""Answers of an `AnySubsetEnergy`: one pass for densities and labels of any part, one path over noise levels for draws.

Legend: N rows, D reals of a row, S configurations of all labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.corrected import with_given_values
from jointebm.inference.noise_path import NoisePath
from jointebm.inference.prediction import Prediction
from jointebm.kernels import Kernel, LogDensity, parts_of
from jointebm.randomness.draws import Generator
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.sampling.sample import sample
from jointebm.sampling.weighted_draws import effective_size
from jointebm.spaces.space import Position

__all__ = ["SubsetDraws", "anneal_given", "annealed_rows", "known_table", "subset_log_density", "subset_prediction"]

ROWS_PER_PASS = 500  # of one pass of the network


@torch.no_grad()
def known_table(energy: AnySubsetEnergy, position: Position) -> Tensor:
    """f of what is known of each row at every configuration of the labels, (N, S); minus infinity where they disagree."""
    reals, agreement = energy.reals(position), energy.label_table(position).log()
    missing = reals.isnan()
    noise = torch.where(missing, torch.inf, energy.min_noise).to(reals)
    pieces = zip(reals.nan_to_num().split(ROWS_PER_PASS), noise.split(ROWS_PER_PASS), strict=True)
    return torch.cat([energy.table(*piece) for piece in pieces]) + agreement


def subset_log_density(energy: AnySubsetEnergy, position: Position, log_normalizer: float = 0.0) -> Tensor:
    """f of what is known of each row, missing labels summed out, shape (N,), nats; NaN is missing.

    `log_normalizer`, log Z of F, is subtracted in rows that have every real; f of a part is as training normalised it.
    """
    whole = ~energy.reals(position).isnan().any(dim=1)
    return known_table(energy, position).logsumexp(dim=1) - log_normalizer * whole


def subset_prediction(
    energy: AnySubsetEnergy, position: Position, targets: Sequence[str], *, joint: bool = False
) -> Prediction:
    """Probabilities of labels given whatever is known of each row, in one pass.

    Args:
        energy: f.
        position: N rows, NaN is missing; known labels keep every bit.
        targets: names of discrete blocks.
        joint: whether `labels` are those of the most probable configuration of all labels, instead of the most probable
            class of each.

    Raises:
        FloatingPointError: f is not finite in a row.
    """
    space, table = energy.space, known_table(energy, position)
    best, configuration = table.max(dim=1)
    if not bool(best.isfinite().all()):
        row = int((~best.isfinite()).nonzero()[0])
        raise FloatingPointError(f"log-density: its maximum over all configurations is {float(best[row])} in row {row}")
    configurations = space.configurations(dtype=table.dtype, device=table.device)
    weights, labels, probs = table.softmax(dim=1), {}, {}
    for name in targets:
        of_all = configurations[name]
        marginal = (weights @ of_all.reshape(len(of_all), -1)).reshape(-1, *of_all.shape[1:])
        probs[name] = torch.where(position[name].isnan(), marginal, position[name])
        labels[name] = space[name].decode(of_all[configuration] if joint else probs[name])
    return Prediction(labels, probs)


class SubsetDraws(NamedTuple):
    """N rows drawn given what is known.

    Args:
        position: of all blocks.
        exact: rows without a free real, whose labels are drawn exactly, bool (N,).
        ess: effective number of the paths, by their weights, that rows of one condition share; 1 if conditions differ, and
            infinite in exact rows. Shape (N,), float64.
        accept_rate: mean acceptance of the Metropolis steps of the paths.
    """

    position: dict[str, Tensor]
    exact: Tensor
    ess: Tensor
    accept_rate: float


def anneal_given(
    energy: AnySubsetEnergy, num: int, given: Mapping[str, Any] | None, generator: Generator
) -> SubsetDraws:
    """Draws N rows by paths from the highest noise level to the lowest, with what is known clamped at every level.

    Unknown labels are summed out along the path and drawn from their exact conditional at its end.

    Args:
        energy: f.
        num: N.
        given: per block, values that broadcast to (N, *variable_shape); NaN, -1 or an absent block is free.
        generator: source of all draws.
    """
    space, like = energy.space, energy.mean
    blank = {name: like.new_full((num, *block.position_shape), torch.nan) for name, block in space.items()}
    position, _ = space.clamp(given, num_chains=num, generator=generator, init=blank)
    known, agreement = energy.reals(position), energy.label_table(position).log()
    path = NoisePath(energy, known, agreement, energy.num_levels)
    drawn = path.draw(generator)
    index = path.labels(drawn.reals, generator)
    configurations = space.configurations(dtype=like.dtype, device=like.device)
    labels = {
        name: torch.where(position[name].isnan(), of[index], position[name]) for name, of in configurations.items()
    }
    exact = ~path.free.any(dim=1)
    alike = torch.equal(known.nan_to_num(), known[:1].nan_to_num().expand_as(known)) and torch.equal(
        path.free, path.free[:1].expand_as(path.free)
    )
    same = alike and torch.equal(agreement, agreement[:1].expand_as(agreement))
    ess = effective_size(drawn.log_weights) if same else drawn.log_weights.new_ones(())
    return SubsetDraws(
        {**energy.blocks(drawn.reals), **labels}, exact, torch.where(exact, torch.inf, ess), drawn.accept_rate
    )


def annealed_rows(
    log_density: LogDensity,
    energy: AnySubsetEnergy,
    kernel: Kernel,
    num: int,
    given: Mapping[str, Any] | None,
    *,
    num_steps: int,
    generator: Generator,
) -> Answer[dict[str, Tensor]]:
    """Values of N rows from `anneal_given`, ended by steps of a kernel of F; known reals as they were given."""
    start = anneal_given(energy, num, given, generator)
    samples = sample(
        log_density,
        energy.space,
        kernel,
        num_chains=num,
        num_steps=num_steps,
        given=given,
        init=start.position,
        generator=generator,
    )
    rates = zip([type(part).__name__ for part in parts_of(kernel)], samples.accept_rate, strict=False)
    found = Diagnostics(start.exact, start.ess, accept_rate={"path": start.accept_rate, **dict(rates)})
    return Answer(with_given_values(energy.space, samples.values, given or {}, num), found)
