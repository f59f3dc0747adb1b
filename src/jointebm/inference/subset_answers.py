"""Answers from any part of a row: of a `LevelEnergy`, by one pass or a path over noise, and of a `PictureEnergy`.

Legend: N rows, D reals of a row, S configurations of all labels where they are enumerated.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.energies.caption import CaptionEnergy
from jointebm.energies.level_energy import LevelEnergy
from jointebm.energies.picture import PictureEnergy
from jointebm.inference.caption_answers import caption_prediction
from jointebm.inference.corrected import with_given_values
from jointebm.inference.noise_path import NoisePath, PathDraws
from jointebm.inference.picture_answers import picture_log_density, picture_prediction, picture_rows
from jointebm.inference.prediction import Prediction
from jointebm.kernels import Kernel, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.sampling.sample import sample
from jointebm.sampling.weighted_draws import effective_size
from jointebm.spaces.space import Position, Space

__all__ = [
    "PART_ENERGIES",
    "SubsetDraws",
    "SubsetPath",
    "anneal_given",
    "annealed_rows",
    "exact_rows",
    "known_table",
    "subset_log_density",
    "subset_prediction",
]

PART_ENERGIES = (LevelEnergy, PictureEnergy)  # which answer from any part of a row
ROWS_PER_PASS = 500  # of one pass of the network


@torch.no_grad()
def known_table(energy: AnySubsetEnergy, position: Position) -> Tensor:
    """f of what is known of each row at every configuration of the labels, (N, S); minus infinity where they disagree."""
    reals, agreement = energy.reals(position), energy.label_table(position).log()
    pieces = zip(reals.nan_to_num().split(ROWS_PER_PASS), energy.known_noise(reals).split(ROWS_PER_PASS), strict=True)
    return torch.cat([energy.table(*piece) for piece in pieces]) + agreement


@torch.no_grad()
def subset_log_density(energy: LevelEnergy | PictureEnergy, position: Position, log_normalizer: float = 0.0) -> Tensor:
    """f of what is known of each row, missing labels summed out, shape (N,), nats; NaN is missing.

    `log_normalizer`, log Z of F, is subtracted in rows that have every real; f of a part is as training normalised it.
    """
    if isinstance(energy, PictureEnergy):
        return picture_log_density(energy, position)
    reals = energy.reals(position)
    whole, noise, found = ~reals.isnan().any(dim=1), energy.known_noise(reals), []
    for start in range(0, len(reals), ROWS_PER_PASS):
        rows = slice(start, start + ROWS_PER_PASS)
        labels = {name: position[name][rows] for name in energy.space.discrete}
        found.append(energy.density(reals[rows].nan_to_num(), noise[rows], labels).known)
    return torch.cat(found) - log_normalizer * whole


def subset_prediction(
    energy: LevelEnergy | PictureEnergy,
    space: Space,
    position: Position,
    targets: Sequence[str],
    *,
    joint: bool = False,
) -> Prediction:
    """Probabilities of labels given whatever is known of each row, in one pass.

    Args:
        energy: f.
        space: its blocks.
        position: N rows, NaN is missing; known labels keep every bit.
        targets: names of discrete blocks.
        joint: whether `labels` are those of the most probable configuration of all labels, instead of the most probable
            class of each.

    Raises:
        FloatingPointError: f is not finite in a row.
    """
    if isinstance(energy, PictureEnergy):
        return picture_prediction(energy, space, position, targets, joint=joint)
    if isinstance(energy, CaptionEnergy):
        return caption_prediction(energy, space, position)
    assert isinstance(energy, AnySubsetEnergy)
    table = known_table(energy, position)
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


class SubsetPath(NamedTuple):
    """Paths of N rows from the highest noise level to the lowest, with what is known clamped at every level.

    Args:
        energy: f.
        position: what is known, NaN elsewhere.
        path: its `walk` or `draw` moves the free reals; labels that are not known are summed out along it.
    """

    energy: LevelEnergy
    position: dict[str, Tensor]
    path: NoisePath

    @classmethod
    def begin(
        cls, energy: LevelEnergy, num: int, given: Mapping[str, Any] | None, generator: Generator
    ) -> "SubsetPath":
        """Paths before their first level; the arguments are those of `anneal_given`."""
        space, like = energy.space, energy.mean
        blank = {name: like.new_full((num, *block.position_shape), torch.nan) for name, block in space.items()}
        position, _ = space.clamp(given, num_chains=num, generator=generator, init=blank)
        labels = {name: position[name] for name in space.discrete}
        return cls(energy, position, NoisePath(energy, energy.reals(position), labels, energy.num_levels))

    def ended(self, drawn: PathDraws, generator: Generator) -> SubsetDraws:
        """The rows at the end of the path, with unknown labels drawn from F (`LevelEnergy.draw_labels`)."""
        rows = self.energy.draw_labels({**self.position, **self.energy.blocks(drawn.reals)}, generator)
        exact = ~self.path.free.any(dim=1)
        same = all(torch.equal(of.nan_to_num(-1.0), of[:1].nan_to_num(-1.0).expand_as(of)) for of in self._known())
        ess = effective_size(drawn.log_weights) if same else drawn.log_weights.new_ones(())
        return SubsetDraws(rows, exact, torch.where(exact, torch.inf, ess), drawn.accept_rate)

    def _known(self) -> list[Tensor]:
        """What is known of the blocks, and which entries are."""
        return [of for value in self.position.values() for of in (value, value.isnan().to(value))]


def anneal_given(energy: LevelEnergy, num: int, given: Mapping[str, Any] | None, generator: Generator) -> SubsetDraws:
    """Draws N rows by paths from the highest noise level to the lowest, with what is known clamped at every level.

    Unknown labels are summed out along the path and drawn from F at its end.

    Args:
        energy: f.
        num: N.
        given: per block, values that broadcast to (N, *variable_shape); NaN, -1 or an absent block is free.
        generator: source of all draws.
    """
    annealing = SubsetPath.begin(energy, num, given, generator)
    return annealing.ended(annealing.path.draw(generator), generator)


def exact_rows(
    energy: PictureEnergy, space: Space, num: int, given: Mapping[str, Any] | None, generator: Generator
) -> dict[str, Tensor]:
    """Positions of N independent rows, drawn exactly given what is known; the arguments are those of `anneal_given`."""
    like = energy.templates
    blank = {name: like.new_full((num, *block.position_shape), torch.nan) for name, block in space.items()}
    position, _ = space.clamp(given, num_chains=num, generator=generator, init=blank)
    return picture_rows(energy, position, generator)


def annealed_rows(
    log_density: LogDensity,
    energy: LevelEnergy | PictureEnergy,
    space: Space,
    kernel: Kernel,
    num: int,
    given: Mapping[str, Any] | None,
    *,
    num_steps: int,
    generator: Generator,
) -> Answer[dict[str, Tensor]]:
    """Values of N rows from `anneal_given`, ended by steps of a kernel of F, or drawn exactly from pictures."""
    if isinstance(energy, PictureEnergy):
        values = space.decode(exact_rows(energy, space, num, given, generator))
        return Answer(with_given_values(space, values, given or {}, num), Diagnostics.of_exact(num))
    start = anneal_given(energy, num, given, generator)
    samples = sample(
        log_density,
        space,
        kernel,
        num_chains=num,
        num_steps=num_steps,
        given=given,
        init=start.position,
        generator=generator,
    )
    moved = samples.diagnostics
    rates = {"path": start.accept_rate, **moved.accept_rate}
    found = Diagnostics(start.exact, start.ess, accept_rate=rates, r_hat=moved.r_hat)
    return Answer(with_given_values(space, samples.values, given or {}, num), found)
