"""The fit of a table's density: a reference by EM, then a network by the loop of all training, with early stopping.

The network is trained over the marginals of the columns (see `density.energy`). The last one is kept that gives held-out
rows the highest likelihood but for the error of log Z, unless the reference beats it by more than the standard error of the
difference. Then F is the reference, which draws for itself, and log Z is 0.

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
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.density.normalizer import GROUP, AnnealedRows, RowsBack, weighted_rows, weighted_rows_back
from jointebm.tables.training.bins import Bins
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.held_out_rows import held_out_split
from jointebm.tables.training.mixture_choice import fitted_reference
from jointebm.tables.training.proposal_fit import fit_proposal
from jointebm.tables.training.row_weights import resampled_rows
from jointebm.tables.training.smoothing import AlongColumns, Curves
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_problem import TableAttempt
from jointebm.tables.training.table_report import FitReport, table_report_of
from jointebm.tables.training.table_schedule import PRECISIONS, loop_of_table, planned_iterations
from jointebm.tables.training.validation import HeldOut, Validation
from jointebm.training.divergence import Intervention
from jointebm.training.loop import Loop
from jointebm.training.training_state import prefixed, require_shapes, without_prefix

__all__ = ["TableFit", "TableMetrics"]

HELD_OUT = 0.1  # share of the rows, but no more than
MAX_HELD_OUT = 1000
MIN_HELD_OUT = 5  # rows; with fewer nothing shows whether the network helps, and the reference stands alone
NUM_LAYERS = 2
MIN_BETWEEN = 10  # iterations between looks
FINAL_GROUPS = 16  # of 128 draws that log Z of the result is estimated with, and rows of the data on the way back
MOVES_OF_DATA = 10  # jumps and sweeps of these rows before they go


class TableMetrics(NamedTuple):
    """One iteration of a fit.

    Args:
        iteration: number of updates done.
        objective: its name.
        loss: nats; that of maximum likelihood is no likelihood, and nears 0 as the model becomes like the data.
        grad_norm: Euclidean norm of the gradient of the parameters.
        learning_rate: used for this update.
        negatives: weighted "draws" of the proposal, or weighted "chains"; None without either.
        ess: effective share of their weights, before resampling, in (0, 1].
        jump_acceptance: share of jumps of whole rows that were accepted; 1 for draws.
        log_normalizer: log Z by the mean weight, nats.
        log_likelihood: mean log p of held-out rows, nats per row; None if they were not scored.
        log_score: mean conditional log score of held-out rows, nats per observed entry; None if they were not scored.
        seconds: since the start, over all sessions.
    """

    iteration: int
    objective: str
    loss: float
    grad_norm: float
    learning_rate: float
    negatives: str | None
    ess: float | None
    jump_acceptance: float | None
    log_normalizer: float | None
    log_likelihood: float | None
    log_score: float | None
    seconds: float


class TableFit:
    """A fit that can be interrupted between any two iterations: `run`, `state`, `restore`, then `finish`.

    What comes out is not worse on the held-out rows than the reference by more than the standard error of the difference.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        spreads: per column, the share of a row of each code that counts for each code; see `Bins`.
        config: how to train.
        seed: of all draws.
        weights: of the rows, positive, shape (N,): held-out and training rows are repeated accordingly; None is alike.

    Attributes:
        base: the marginals, that the network of F is trained over.
        network: the proposal in training; None: the reference.
        held_out: numbers of the rows that nothing is learned from; none if they are too few to tell anything, or if nothing
            is trained.
        best: the best network so far; zero before training.
        num_iterations: planned; training may stop earlier.
        on_intervention: called with each intervention against divergence.
    """

    def __init__(
        self,
        codes: Tensor,
        num_classes: tuple[int, ...],
        *,
        bins: Sequence[Sequence[int] | None],
        spreads: Sequence[Tensor | None] | None = None,
        config: TableConfig,
        seed: int,
        weights: Tensor | None = None,
    ) -> None:
        started = time.perf_counter()
        self._config, self._bins = config, tuple(bins)
        # Hashed, because rows that somebody drew with torch and the same small seed must not decide their own order.
        seeds = row_keys(torch.tensor([[seed, 0], [seed, 1]])).abs().tolist()
        self._generator, self._looking = (torch.Generator().manual_seed(each) for each in seeds)
        order = shuffled(len(codes), self._generator)
        num_held_out = min(int(HELD_OUT * len(codes)), MAX_HELD_OUT)
        self.held_out, training = held_out_split(codes, order, num_held_out, self._bins)
        trains = len(self.held_out) >= MIN_HELD_OUT and config.num_visits > 0 and max(num_classes) > 1
        if not trains:
            self.held_out, training = order[:0], order
        self._of_report = codes
        if weights is not None:  # after the split, so that no row is on both sides
            self.held_out, training = (
                rows[resampled_rows(weights[rows], codes[rows])] for rows in (self.held_out, training)
            )
            self._of_report = codes[torch.cat([self.held_out, training])]
        of_codes = Bins(bins, num_classes, spreads)
        self._reference = fitted_reference(codes[training], codes[self.held_out], of_codes, config, self._generator)
        self.base = of_codes.marginals(codes[training])
        self.network = None
        if trains:
            self.network = fit_proposal(
                codes[training],
                codes[self.held_out],
                self.base,
                bins=self._bins,
                config=config,
                generator=self._generator,
            )
        self.best = Residual(num_classes, width=config.width, num_layers=NUM_LAYERS)  # zero
        self.num_iterations = planned_iterations(len(training), len(num_classes), config) if trains else 0
        self._loop: Loop[Tensor, TableAttempt] | None = None
        self._validation: Validation | None = None
        self._num_worse, self._log_score = 0, 0.0
        self._best_gain: float | None = None  # of the best network so far
        self.on_intervention: Callable[[Intervention], object] | None = None
        if trains:
            residual = deepcopy(self.best)
            residual.initialise(self._generator)
            along = AlongColumns(residual.offsets, self._bins, codes[training])
            residual.embedding.data.copy_(along.fresh(residual.embedding))
            self._completed = CompletedRows(codes[training], self._reference, self._generator)
            self._begin(residual)
            self._validation = Validation(
                codes[self.held_out], self._reference, self._looking, PRECISIONS[config.precision]
            )
        self._seconds = time.perf_counter() - started

    @property
    def energy(self) -> TableEnergy:
        """F with the best network so far; without one the reference, which needs no proposal: its draws are exact."""
        if bool(self.best.readout.any()):
            return self._energy_of(self.best)
        nothing = Residual(self.base.num_classes, width=1, num_layers=1)  # zero, and quick
        return TableEnergy(self._reference, nothing)

    @property
    def iteration(self) -> int:
        """Number of updates done."""
        return self._loop.iteration if self._loop is not None else self.num_iterations

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
        update = self._loop.step()
        iteration, negatives = update.iteration, update.attempt.negatives
        look_every = max(MIN_BETWEEN, math.ceil(self.num_iterations / self._config.num_looks))
        is_last = iteration >= self.num_iterations
        held_out = self._look(is_last) if iteration % look_every == 0 or is_last else None
        self._seconds += time.perf_counter() - started
        return TableMetrics(
            iteration=iteration,
            objective=self._config.objective.name,
            loss=float(update.attempt.loss.detach()),
            grad_norm=update.grad_norm,
            learning_rate=update.learning_rate,
            negatives=None if negatives is None else negatives.source,
            ess=None if negatives is None else float(negatives.share),
            jump_acceptance=None if negatives is None else float(negatives.acceptance),
            log_normalizer=None if negatives is None else float(negatives.log_normalizer),
            log_likelihood=None if held_out is None else held_out.of_model,
            log_score=None if held_out is None else self._log_score,
            seconds=self._seconds,
        )

    def finish(self) -> FitReport:
        """Estimates log Z by more draws and from the data, gives the network up if it is worse than q, and reports."""
        rows = weighted_rows(self.energy, num_groups=FINAL_GROUPS, generator=self._looking)
        held_out = None
        if self._validation is not None:
            held_out = self._validation.log_likelihood(self.energy, rows)
            if held_out.gain < -held_out.gain_error:
                self.best.readout.data.zero_()
                rows = weighted_rows(self.energy, num_groups=FINAL_GROUPS, generator=self._looking)
                held_out = self._validation.log_likelihood(self.energy, rows)
            is_trained = bool(self.best.readout.any())
            self._log_score = self._validation.score(TableEnergy(self.base, self.best) if is_trained else self.energy)
        return table_report_of(
            self.energy,
            rows,
            self._of_report,
            back=self._rows_back(rows),
            held_out=held_out,
            num_held_out=len(self.held_out),
            log_score=self._log_score if held_out is not None else None,
        )

    def state(self) -> Checkpoint:
        """Everything that decides the rest of the fit: restored, it continues bit for bit.

        That holds for the same arguments, versions, device type and number of threads.
        """
        tensors, plain = {}, {}
        if self._loop is not None:
            loop = self._loop.state()
            tensors, plain = loop.tensors, {"loop": loop.plain, "loop_iteration": loop.iteration}
        if self._validation is not None:
            tensors = {**tensors, "validation": self._validation.chains}
        tensors = {
            **tensors,
            **prefixed("best", self.best.state_dict()),
            "generator": self._generator.get_state(),
            "looking": self._looking.get_state(),
        }
        plain |= {
            "is_over": self._loop is None,
            "num_worse": self._num_worse,
            "scores": [self._best_gain, self._log_score],
            "fit_seconds": self._seconds,
        }
        return Checkpoint(self.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores what `state` returned, into a fit made with the same arguments.

        Raises:
            ValueError: the checkpoint is of another fit.
        """
        plain = checkpoint.plain
        self._num_worse = plain["num_worse"]
        self._best_gain, self._log_score = plain["scores"]
        if plain["is_over"]:
            self._loop = None
        require_shapes(self.state().tensors, checkpoint.tensors)
        self.best.load_state_dict(without_prefix("best", checkpoint.tensors))
        if self._validation is not None:
            self._validation.chains = checkpoint.tensors["validation"].clone()
        self._generator.set_state(checkpoint.tensors["generator"].clone())
        self._looking.set_state(checkpoint.tensors["looking"].clone())
        self._seconds = plain["fit_seconds"]
        if self._loop is not None:
            self._loop.restore(Checkpoint(plain["loop_iteration"], checkpoint.tensors, plain["loop"]))

    def _energy_of(self, net: Residual) -> TableEnergy:
        """log b + net, as log q + g."""
        return TableEnergy(self._reference, Rebased(net, self.base, self._reference), self.network)

    def _begin(self, residual: Residual) -> None:
        """Makes the loop that trains this network."""
        self._loop = loop_of_table(
            TableEnergy(self.base, residual, self.network),
            self._completed,
            bins=self._bins,
            config=self._config,
            num_iterations=self.num_iterations,
            generator=self._generator,
        )

        def tell(intervention: Intervention) -> None:
            if self.on_intervention is not None:
                self.on_intervention(intervention)

        self._loop.on_intervention = tell

    def _look(self, is_last: bool) -> HeldOut:
        """Scores the averaged network, keeps it if it is the best, and ends a fit that is over."""
        assert self._loop is not None and self._validation is not None
        average = self._loop.average
        assert isinstance(average, Curves)
        held_out = self._validation.log_likelihood(self._energy_of(average.residual))
        self._log_score = self._validation.score(TableEnergy(self.base, average.residual))
        best_gain = -math.inf if self._best_gain is None else self._best_gain
        if held_out.gain > best_gain - held_out.normalizer_error:
            self.best = deepcopy(average.residual)
        self._num_worse = 0 if held_out.gain > best_gain else self._num_worse + 1
        self._best_gain = max(held_out.gain, best_gain)
        if is_last or self._num_worse >= self._config.patience:
            self._loop = None
        return held_out

    def _rows_back(self, rows: AnnealedRows) -> RowsBack:
        """Rows of the data on the way that the draws came."""
        order = shuffled(len(self._of_report), self._looking)
        chosen = self._of_report[order[torch.arange(GROUP * FINAL_GROUPS) % len(order)]]
        return weighted_rows_back(self.energy, rows, chosen, num_moves=MOVES_OF_DATA, generator=self._looking)
