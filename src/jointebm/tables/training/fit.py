"""Fits the energy of a table and stops on held-out rows."""

import math
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from jointebm.randomness.row_streams import row_keys
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.mixture import fit_mixture
from jointebm.tables.training.completions import Completions
from jointebm.tables.training.config import Progress, TableConfig
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.trainer import _shuffled, _Trainer
from jointebm.tables.training.validation import Validation

__all__ = ["fit_energy"]


MAX_LOSS = 0.05  # of what the warm start gained in held-out log score; chains that lose more are not followed


MIN_HELD_OUT = 5  # rows; with fewer nothing tells whether the network helps, and the base stands alone


def fit_energy(
    codes: Tensor,
    num_classes: tuple[int, ...],
    *,
    ordered: tuple[bool, ...],
    config: TableConfig,
    seed: int,
    on_progress: Callable[[Progress], object] | None = None,
) -> TableEnergy:
    """Fits base and network to rows with missing entries; what comes back is never worse on held-out rows than the base.

    Args:
        codes: shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        ordered: per column, whether neighbouring codes are alike.
        config: how to train.
        seed: of all draws.
        on_progress: is told how far it is at every look at the held-out rows.

    Raises:
        Diverged: the loss is not finite.
    """
    started = time.perf_counter()
    # Hashed, because rows that somebody drew with torch and the same small seed must not decide their own order.
    seeds = row_keys(torch.tensor([[seed, 0], [seed, 1]])).abs().tolist()
    generator, looking = (torch.Generator().manual_seed(each) for each in seeds)
    order = _shuffled(len(codes), generator)
    num_held_out = min(int(config.validation_fraction * len(codes)), config.max_validation)
    trains = num_held_out >= MIN_HELD_OUT and config.num_visits > 0 and max(num_classes) > 1
    held_out, training = order.split([num_held_out, len(codes) - num_held_out]) if trains else (order[:0], order)
    guide = fit_mixture(
        codes[training],
        num_classes,
        num_components=max(1, min(config.max_components, len(training) // config.rows_per_component)),
        generator=generator,
        prior_strength=config.prior_strength,
    )
    independent = config.base == "independent"
    base = fit_mixture(codes[training], num_classes, num_components=1, generator=generator) if independent else guide
    residual = Residual(num_classes, width=config.width, num_layers=config.num_layers)
    energy = TableEnergy(base, residual, guide)
    if not trains:
        return energy
    residual.initialise(generator)
    completions = Completions(codes[training], guide, generator)
    trainer = _Trainer(energy, completions, Curves(residual, ordered), config, generator)
    validation = Validation(codes[held_out], guide, looking, trainer.precision)
    best, best_score, num_worse = deepcopy(residual), validation.score(energy), 0
    base_score, look_every = best_score, math.ceil(trainer.num_iterations / config.num_looks)

    follows = trainer.num_warm < trainer.num_iterations

    def look(iteration: int) -> float:
        score = validation.score(trainer.average)
        if on_progress is not None:
            on_progress(Progress(iteration / trainer.num_iterations, score, time.perf_counter() - started))
        return score

    for iteration in trainer.run(0, trainer.num_warm):
        if iteration % look_every and iteration < trainer.num_warm:
            continue
        score = look(iteration)
        if score > best_score:
            best, best_score, num_worse = deepcopy(trainer.average.residual), score, 0
        else:
            num_worse += 1
        # Where hardly a row is whole, the score has missing entries summed out, which a warm start does not learn.
        if num_worse >= config.patience and not (validation.is_rough and follows):
            break
    if validation.is_rough and follows and score > base_score:
        best = deepcopy(trainer.average.residual)
    if follows:
        trainer.follow_chains(best)
        for iteration in trainer.run(trainer.num_warm, trainer.num_iterations):
            if iteration % look_every == 0 or iteration == trainer.num_iterations:
                score = look(iteration)
        # The likelihood is not the log score of single entries, but chains that cost much of that have gone astray.
        if score >= best_score - MAX_LOSS * (best_score - base_score):
            best = trainer.average.residual
    return TableEnergy(base, best, guide)
