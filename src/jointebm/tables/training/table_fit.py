"""The fit of a table's energy: a base by EM, then a network by the loop of all training, with early stopping.

The network is trained in one or two stages. The pseudo-likelihood comes first, until held-out rows stop improving. It learns
fast how columns depend on one another, but little about how often each kind of row occurs: its conditionals only compare a
row with its neighbours. With the objective `MaximumLikelihood`, persistent chains follow, which show where the model has
rows that the data lack.

Legend: N training rows, V columns, K_j classes of column j.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import shuffled
from jointebm.randomness.row_streams import row_keys
from jointebm.storage.checkpoint import Checkpoint
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.mixture import Mixture, fit_mixture
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_problem import TableAttempt, TableProblem
from jointebm.tables.training.validation import Validation
from jointebm.training.divergence import Intervention
from jointebm.training.loop import Loop
from jointebm.training.objectives import MaximumLikelihood, PseudoLikelihood
from jointebm.training.training_state import Descent, cosine_decay, prefixed, require_shapes, without_prefix

__all__ = ["TableFit", "TableMetrics"]

HELD_OUT = 0.1  # share of the rows, but no more than
MAX_HELD_OUT = 1000
MIN_HELD_OUT = 5  # rows; with fewer nothing shows whether the network helps, and the base stands alone
MIN_BATCH = 32  # rows of an iteration, if there are as many
MIN_ITERATIONS = 10  # per visit; a small table needs more visits than a large one
MIN_FOLLOWED = 1000  # training rows; with fewer no chains follow a warm start: they would teach noise
MAX_LOSS = 0.05  # of what the warm start gained in held-out log score; chains that lose more are not followed
AVERAGED = 50  # the moving average reaches over about such a part of training
NUM_LAYERS = 2
SNAPSHOT_EVERY, MAX_ROLLBACKS = 100, 5
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TableMetrics(NamedTuple):
    """One iteration of a fit.

    Args:
        iteration: number of updates done, of all stages; a warm start that stops early skips some.
        objective: name of the objective of this stage.
        loss: its loss, nats; that of chains is no likelihood, and nears 0 as the model becomes like the data.
        grad_norm: Euclidean norm of the gradient of the parameters.
        learning_rate: used for this update.
        log_score: mean conditional log score of held-out rows, nats per observed entry; None if they were not scored.
        seconds: since the start, over all sessions.
    """

    iteration: int
    objective: str
    loss: float
    grad_norm: float
    learning_rate: float
    log_score: float | None
    seconds: float


class _Stage(NamedTuple):
    """Iterations `first` to `last` with one objective, at a share of the learning rate."""

    objective: MaximumLikelihood | PseudoLikelihood
    first: int
    last: int
    rate: float


class TableFit:
    """A fit that can be interrupted between any two iterations: `run`, `state`, `restore`, then `energy`.

    What comes out is never worse on the held-out rows than the base.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        ordered: per column, whether neighbouring codes are alike.
        config: how to train.
        seed: of all draws.

    Attributes:
        held_out: numbers of the rows that nothing is learned from; none if they are too few to tell anything.
        best: the best network so far; zero before training.
        num_iterations: of all stages; a warm start may stop earlier.
        on_intervention: called with each intervention against divergence.
    """

    def __init__(
        self, codes: Tensor, num_classes: tuple[int, ...], *, ordered: Sequence[bool], config: TableConfig, seed: int
    ) -> None:
        started = time.perf_counter()
        self._config, self._ordered = config, tuple(ordered)
        # Hashed, because rows that somebody drew with torch and the same small seed must not decide their own order.
        seeds = row_keys(torch.tensor([[seed, 0], [seed, 1]])).abs().tolist()
        self._generator, self._looking = (torch.Generator().manual_seed(each) for each in seeds)
        order = shuffled(len(codes), self._generator)
        num_held_out = min(int(HELD_OUT * len(codes)), MAX_HELD_OUT)
        trains = num_held_out >= MIN_HELD_OUT and config.num_visits > 0 and max(num_classes) > 1
        if not trains:
            num_held_out = 0
        self.held_out, training = order[:num_held_out], order[num_held_out:]
        self._base, self._reference = self._mixtures(codes[training], num_classes)
        self.best = Residual(num_classes, width=config.width, num_layers=NUM_LAYERS)  # zero
        self._stages = _stages(len(training), config) if trains else ()
        self.num_iterations = self._stages[-1].last if self._stages else 0
        self._number, self._num_worse = 0, 0
        self._loop: Loop[Tensor, TableAttempt] | None = None
        self.on_intervention: Callable[[Intervention], object] | None = None
        if trains:
            residual = deepcopy(self.best)
            residual.initialise(self._generator)
            self._completed = CompletedRows(codes[training], self._reference, self._generator)
            self._begin(residual)
            self.best = deepcopy(residual)
            self._validation = Validation(
                codes[self.held_out], self._reference, self._looking, DTYPES[config.precision]
            )
            self._base_score = self._best_score = self._score = self._validation.score(self.energy)
            if not self._stages[0].last:  # no warm start
                self._follow()
        self._seconds = time.perf_counter() - started

    @property
    def energy(self) -> TableEnergy:
        """The energy with the best network so far."""
        return self._with(self.best)

    @property
    def iteration(self) -> int:
        """Number of updates done, of all stages."""
        return self._stage.first + self._loop.iteration if self._loop is not None else self.num_iterations

    def run(self) -> Iterator[TableMetrics]:
        """Trains to the end, yielding the metrics of every iteration."""
        while self._loop is not None:
            yield self.step()

    def step(self) -> TableMetrics:
        """Does one iteration, and scores the held-out rows if it is time.

        Raises:
            Diverged: numbers were not finite or not usual, and rollbacks did not help.
        """
        started = time.perf_counter()
        assert self._loop is not None
        stage, update = self._stage, self._loop.step()
        iteration = stage.first + update.iteration
        look_every = math.ceil(self.num_iterations / self._config.num_looks)
        scored = iteration % look_every == 0 or iteration == stage.last
        if scored:
            self._look(iteration == stage.last)
        self._seconds += time.perf_counter() - started
        return TableMetrics(
            iteration=iteration,
            objective=stage.objective.name,
            loss=float(update.attempt.loss.detach()),
            grad_norm=update.grad_norm,
            learning_rate=update.learning_rate,
            log_score=self._score if scored else None,
            seconds=self._seconds,
        )

    def state(self) -> Checkpoint:
        """Everything that decides the rest of the fit: restored, it continues bit for bit.

        That holds for the same arguments, versions, device type and number of threads.
        """
        tensors, plain = {}, {}
        if self._loop is not None:
            loop = self._loop.state()
            tensors, plain = loop.tensors, {"loop": loop.plain, "loop_iteration": loop.iteration}
        tensors = {
            **tensors,
            **prefixed("best", self.best.state_dict()),
            "validation": self._validation.chains,
            "generator": self._generator.get_state(),
            "looking": self._looking.get_state(),
        }
        plain |= {
            "stage": self._number,
            "num_worse": self._num_worse,
            "scores": [self._base_score, self._best_score, self._score],
            "fit_seconds": self._seconds,
        }
        return Checkpoint(self.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores what `state` returned, into a fit made with the same arguments.

        Raises:
            ValueError: the checkpoint is of another fit.
        """
        plain = checkpoint.plain
        self._number, self._num_worse = plain["stage"], plain["num_worse"]
        self._base_score, self._best_score, self._score = plain["scores"]
        if self._number < len(self._stages):
            self._begin(deepcopy(self.best))
        else:
            self._end()
        require_shapes(self.state().tensors, checkpoint.tensors)
        self.best.load_state_dict(without_prefix("best", checkpoint.tensors))
        self._validation.chains = checkpoint.tensors["validation"].clone()
        self._generator.set_state(checkpoint.tensors["generator"].clone())
        self._looking.set_state(checkpoint.tensors["looking"].clone())
        self._seconds = plain["fit_seconds"]
        if self._loop is not None:
            self._loop.restore(Checkpoint(plain["loop_iteration"], checkpoint.tensors, plain["loop"]))

    @property
    def _stage(self) -> _Stage:
        return self._stages[self._number]

    def _mixtures(self, rows: Tensor, num_classes: tuple[int, ...]) -> tuple[Mixture, Mixture]:
        """The base and the reference of samplers, which may be one."""
        config = self._config
        num = max(1, min(config.max_components, len(rows) // config.rows_per_component))
        prior = config.prior_strength
        reference = fit_mixture(rows, num_classes, num_components=num, generator=self._generator, prior_strength=prior)
        if config.base == "mixture":
            return reference, reference
        return fit_mixture(rows, num_classes, num_components=1, generator=self._generator), reference

    def _with(self, residual: Residual) -> TableEnergy:
        return TableEnergy(self._base, residual, self._reference)

    def _begin(self, residual: Residual) -> TableProblem:
        """Makes the loop of the present stage, which trains this network."""
        stage, config = self._stage, self._config
        # With chains each class is trained alone: curves move many weights together, and so would the noise of chains.
        ordered = (False,) * len(self._ordered) if stage.objective.needs_chains else self._ordered
        problem = TableProblem(
            stage.objective,
            self._with(residual),
            self._completed,
            ordered=ordered,
            batch_size=_batch_size(len(self._completed), config),
            precision=DTYPES[config.precision],
            generator=self._generator,
        )
        descent = _descent(problem.module, stage, config, self.num_iterations)
        self._loop = Loop(problem, descent, snapshot_every=SNAPSHOT_EVERY, max_rollbacks=MAX_ROLLBACKS)

        def tell(intervention: Intervention) -> None:
            if self.on_intervention is not None:
                iteration, back_to = intervention.iteration + stage.first, intervention.back_to + stage.first
                self.on_intervention(intervention._replace(iteration=iteration, back_to=back_to))

        self._loop.on_intervention = tell
        return problem

    def _look(self, is_last: bool) -> None:
        """Scores the averaged network, keeps it if it is the best, and ends a stage that is over."""
        assert self._loop is not None
        average = self._loop.average
        assert isinstance(average, Curves)
        self._score = self._validation.score(self._with(average.residual))
        follows = self._stages[-1].objective.needs_chains
        if self._stage.objective.needs_chains:
            # The likelihood is not the log score of single entries, but chains that cost much of that have diverged.
            allowed = self._best_score - MAX_LOSS * (self._best_score - self._base_score)
            if is_last and self._score >= allowed:
                self.best = deepcopy(average.residual)
            if is_last:
                self._end()
            return
        if self._score > self._best_score:
            self.best, self._best_score, self._num_worse = deepcopy(average.residual), self._score, 0
        else:
            self._num_worse += 1
        # Where hardly a row is complete, the score sums missing entries out, which a warm start does not learn.
        waits = self._validation.is_rough and follows
        if not is_last and (waits or self._num_worse < self._config.patience):
            return
        if waits and self._score > self._base_score:
            self.best = deepcopy(average.residual)
        if follows:
            self._follow()
        else:
            self._end()

    def _follow(self) -> None:
        """Begins the stage with chains, from the best network so far."""
        self._number += 1
        self._begin(deepcopy(self.best)).start_chains()

    def _end(self) -> None:
        self._loop, self._number = None, len(self._stages)


def _stages(num_rows: int, config: TableConfig) -> tuple[_Stage, ...]:
    """The stages of a fit to so many training rows."""
    per_visit = max(MIN_ITERATIONS, num_rows / _batch_size(num_rows, config))
    num = min(config.max_iterations, math.ceil(config.num_visits * per_visit))
    if not config.objective.needs_chains:
        return (_Stage(config.objective, 0, num, 1.0),)
    num_warm = int(config.warm_start * num)
    warm = _Stage(PseudoLikelihood(), 0, num_warm, 1.0)
    if num_warm and num_rows < MIN_FOLLOWED:
        return (warm,)
    return warm, _Stage(config.objective, num_warm, num, config.chain_rate)


def _batch_size(num_rows: int, config: TableConfig) -> int:
    return min(config.batch_size, max(MIN_BATCH, num_rows // 20), num_rows)


def _descent(curves: Curves, stage: _Stage, config: TableConfig, num_iterations: int) -> Descent:
    """Adam, whose rate rises and falls to zero in each stage, and a moving average over the last part of training."""
    num, peak = max(1, stage.last - stage.first), config.learning_rate * stage.rate

    def learning_rate(iteration: int) -> float:
        rising = min(1.0, (iteration + 1) / (config.warmup_share * num + 1))
        return peak * rising * cosine_decay(iteration, num)

    @torch.no_grad()
    def average(means: Sequence[Tensor], parameters: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        weight = max(1 / int(num_averaged), min(1.0, AVERAGED / num_iterations))
        torch._foreach_lerp_(list(means), list(parameters), weight)

    adam = torch.optim.Adam(curves.parameters(), lr=1.0, betas=(0.9, 0.99))
    adam.register_step_post_hook(lambda *_: curves.give_vectors())
    return Descent(adam, learning_rate, average)
