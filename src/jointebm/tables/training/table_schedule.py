"""The training of a table's network: its length, batches and steps, and the loop."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jointebm.references.network_prior import prior_groups
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_problem import TableAttempt, TableProblem
from jointebm.training.loop import Loop
from jointebm.training.objectives import PseudoLikelihood
from jointebm.training.training_state import Descent, cosine_decay
from jointebm.training.world import ALONE, World

__all__ = ["PRECISIONS", "loop_of_table", "planned_iterations"]

MIN_BATCH = 32  # rows of an iteration, if there are as many
FEW_ITERATIONS = 1000  # below, iterations take fewer rows
SMALL_BATCH = 128  # rows, but no fewer than that
FEW_COLUMNS = 10  # with more, steps are smaller and fewer
FEW_ROWS = 500  # for training; with fewer, and many columns, steps are not smaller, but fewer still
AVERAGED = 50  # the moving average reaches over about 1 in 50 iterations
SNAPSHOT_EVERY, MAX_ROLLBACKS = 100, 5
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def planned_iterations(num_rows: int, num_columns: int, config: TableConfig) -> int:
    """Iterations of a fit, at most."""
    batch_size = _rows_per_batch(num_rows, config)
    power = 2 if num_rows < FEW_ROWS else 1
    most = config.max_iterations * min(1.0, FEW_COLUMNS / num_columns) ** power
    return max(1, math.ceil(min(most, config.num_visits * num_rows / batch_size)))


def loop_of_table(
    energy: TableEnergy,
    completed: CompletedRows,
    *,
    bins: Sequence[Sequence[int] | None],
    config: TableConfig,
    num_iterations: int,
    generator: torch.Generator,
    observed: Tensor | None = None,
    world: World = ALONE,
) -> Loop[Tensor, TableAttempt]:
    """The loop that trains the network of an energy.

    Args:
        energy: F, whose reference is what the network is trained over; its network is trained in place.
        completed: completions of the training rows; of several processes those of this one.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        config: of the fit.
        num_iterations: over which the learning rate rises and falls.
        generator: source of all draws.
        observed: all training rows, shape (N, V), -1 is missing; None: those that are completed.
        world: the processes that train together.
    """
    observed = completed.observed if observed is None else observed
    objective = config.objective
    of_conditionals = objective if isinstance(objective, PseudoLikelihood) else None
    problem = TableProblem(
        energy,
        completed,
        observed=observed,
        pseudo_likelihood=of_conditionals or PseudoLikelihood(),
        pseudo_weight=config.pseudo_weight if of_conditionals is None else None,
        bins=bins,
        batch_size=world.share(_rows_per_batch(len(observed), config), "batch_size"),
        precision=PRECISIONS[config.precision],
        generator=generator,
    )
    descent = _descent(problem.module, config, len(observed), num_iterations)
    return Loop(problem, descent, snapshot_every=SNAPSHOT_EVERY, max_rollbacks=MAX_ROLLBACKS, world=world)


def _rows_per_batch(num_rows: int, config: TableConfig) -> int:
    """Rows of an iteration: of a small table a quarter, and fewer where each row is visited a few times only."""
    most = min(config.batch_size, max(MIN_BATCH, num_rows // 4), num_rows)
    return min(most, max(SMALL_BATCH, config.num_visits * num_rows // FEW_ITERATIONS))


def _descent(curves: Curves, config: TableConfig, num_rows: int, num_iterations: int) -> Descent:
    """Adam, whose rate rises and then falls to zero, and a moving average over the last part of training."""
    num_columns = len(curves.residual.offsets) - 1
    power = 0 if num_rows < FEW_ROWS else 1.5
    peak = config.learning_rate * min(1.0, FEW_COLUMNS / num_columns) ** power

    def learning_rate(iteration: int) -> float:
        rising = min(1.0, (iteration + 1) / (config.warmup_share * num_iterations + 1))
        return peak * rising * cosine_decay(iteration, num_iterations)

    @torch.no_grad()
    def average(means: Sequence[Tensor], parameters: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        weight = max(1 / int(num_averaged), min(1.0, AVERAGED / num_iterations))
        torch._foreach_lerp_(list(means), list(parameters), weight)

    groups = prior_groups(
        curves.named_parameters(),
        num_columns=num_columns,
        width=len(curves.residual.bias),
        strength=config.weight_prior / num_rows,
    )
    adam = torch.optim.Adam(groups, lr=1.0, betas=(0.9, 0.99))
    adam.register_step_post_hook(lambda *_: curves.give_vectors())
    return Descent(adam, learning_rate, average)
