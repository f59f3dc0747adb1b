"""The two phases of an iteration (Eqs. 2 and 8): rows of data, completed where they have gaps, and chains of the model.

Legend: N rows or chains.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.data.datasets import Batch
from jointebm.kernels import Kernel, LogDensity, evaluate, without_laziness
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import run_chain
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space
from jointebm.training.config import TrainConfig
from jointebm.training.divergence import Moved, Watch
from jointebm.training.objectives import Phases, conditional_likelihood, maximum_likelihood, summed_maximum_likelihood
from jointebm.training.row_completions import Completions, missing_entries
from jointebm.training.unlabelled_objectives import label_information, label_roughness

__all__ = ["Positive", "both_phases", "complete", "move", "without_nan"]


class Positive(NamedTuple):
    """Rows of data without a gap.

    Args:
        position: N rows, completed.
        missing: what was not observed, per block (N, *variable_shape), bool; None if everything was.
        moved: which rows' completions a kernel moved, and are to be kept, shape (number of such rows,), int64.
        numbers: of all rows, shape (N,), int64; None if they have none.
    """

    position: Position
    missing: Mask | None = None
    moved: Tensor | None = None
    numbers: Tensor | None = None

    def keep(self, completions: Completions) -> None:
        """Keeps the completions that a kernel moved."""
        if self.moved is not None:
            assert self.numbers is not None and self.missing is not None
            rows = {name: value[self.moved] for name, value in self.position.items()}
            completions.write(self.numbers[self.moved], rows, {n: mask[self.moved] for n, mask in self.missing.items()})


def complete(
    batch: Batch,
    completions: Completions,
    *,
    log_density: LogDensity,
    space: Space,
    kernel: Kernel,
    config: TrainConfig,
    noise: Noise,
    watch: Watch,
    generator: Generator,
    where: str,
) -> Positive:
    """Rows of data with their gaps filled, given what is observed: the positive phase of Eq. 8.

    A kernel moves the missing entries, from where it left them at the row's last visit, with everything observed clamped.
    Where the objective sums y out and only labels are missing, no kernel is needed: they are summed out too. Rows without
    a gap are passed on as they are, and if no row has one nothing is drawn.

    Args:
        batch: the rows, NaN is missing.
        completions: what is kept of earlier visits; not changed, see `Positive.keep`.
        log_density: f.
        space: the blocks.
        kernel: what moves chains; parts that rest now and then do not rest here.
        config: says how many steps, and whether y is summed out.
        noise: what the first visit starts from.
        watch: looks at the data and the completions, and raises `Diverged`.
        generator: source of all draws.
        where: completes messages, such as "iteration 7".
    """
    position, numbers = batch
    missing = missing_entries(space, position) if numbers is not None else None
    if numbers is None or missing is None:
        watch.check_data(position, where)
        return Positive(position)
    watch.check_data({name: without_nan(value) for name, value in position.items()}, where)
    completed = completions.draw(numbers, position, noise=noise, generator=generator)
    filled = space.continuous if config.objective == "summed" else tuple(space)
    gaps = [missing[name].reshape(len(numbers), -1).any(dim=1) for name in filled]
    rows = torch.stack(gaps).any(dim=0).nonzero().flatten() if gaps else numbers[:0]
    if not len(rows):
        return Positive(completed, missing)
    moved = move(
        log_density,
        without_laziness(kernel),
        {name: value[rows] for name, value in completed.items()},
        free={name: mask[rows] for name, mask in missing.items()},
        num_steps=config.num_completion_steps,
        generator=generator,
    )
    watch.check_completions(moved, position, where)
    completed |= {name: completed[name].index_copy(0, rows, value) for name, value in moved.chain.position.items()}
    return Positive(completed, missing, rows, numbers)


def move(
    log_density: LogDensity, kernel: Kernel, start: Position, *, free: Mask, num_steps: int, generator: Generator
) -> Moved:
    """Moves chains by so many steps of a kernel, and says whether all stayed finite on the way."""
    chain = evaluate(log_density, start, with_score=kernel.uses_score)
    accept_probs, finite = [], [chain.f.isfinite()]
    steps = run_chain(log_density, kernel, chain, free=free, generator=generator)
    for chain, infos in itertools.islice(steps, num_steps):
        accept_probs.append(torch.stack([info.accept_prob for info in infos]))
        finite.append(chain.f.isfinite())
    if chain.score is not None:
        finite += [score.reshape(len(chain.f), -1).isfinite().all(dim=1) for score in chain.score.known().values()]
    return Moved(chain, torch.stack(accept_probs).mean(dim=0), torch.stack(finite).all(dim=0))


def both_phases(
    log_density: LogDensity,
    space: Space,
    config: TrainConfig,
    positive: Positive,
    negative: Position,
    labelled: Position | None,
    generator: Generator,
) -> Phases:
    """The loss that the configuration asks for.

    Args:
        log_density: f with parameters.
        space: the blocks.
        config: says which objective, and which terms are added to it with which weight.
        positive: data.
        negative: chains.
        labelled: rows that the conditional likelihood is of, NaN is missing; None takes those of `positive`.
        generator: source of the directions in which labels may not change; nothing is drawn if that has no weight.
    """
    if config.objective == "summed":
        phases = summed_maximum_likelihood(
            log_density,
            space,
            positive.position,
            negative,
            missing=_labels(space, positive.missing),
            sampled_share=config.sampled_share,
        )
    else:
        phases = maximum_likelihood(log_density, positive.position, negative)
    loss = phases.loss
    if config.conditional_weight:
        rows, missing = (
            (positive.position, positive.missing) if labelled is None else (labelled, missing_entries(space, labelled))
        )
        loss = loss + config.conditional_weight * conditional_likelihood(log_density, space, rows, missing=missing)
    if config.information_weight:
        loss = loss - config.information_weight * label_information(log_density, space, positive.position)
    if config.roughness_weight:
        roughness = label_roughness(
            log_density, space, positive.position, radius=config.roughness_radius, generator=generator
        )
        loss = loss + config.roughness_weight * roughness
    return phases._replace(loss=loss)


def _labels(space: Space, missing: Mask | None) -> Mask | None:
    """What is missing of the labels; None if nothing is, although reals may be."""
    if missing is None or not any(bool(missing[name].any()) for name in space.discrete):
        return None
    return missing


def without_nan(value: Tensor) -> Tensor:
    """0 where an entry is missing; what is infinite stays so."""
    return value.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
