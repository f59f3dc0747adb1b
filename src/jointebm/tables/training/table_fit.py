"""The fit of a table's density: a reference by EM, then a network by the loop of all training, with early stopping.

The network is trained over the marginals of the columns (see `density.energy`). The last one is kept that gives held-out
rows the highest likelihood, less two standard errors of log Z, or one lower by no more than the error of the highest; unless
the reference beats it by more than the standard error of the difference. Then F is the reference, which draws for itself,
and log Z is 0.

Legend: N training rows, V columns, K_j classes of column j.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from jointebm.randomness.devices import resume_generator, seed_of_rank
from jointebm.randomness.draws import shuffled
from jointebm.randomness.row_streams import row_keys
from jointebm.sampling.diagnostics import warn_caller
from jointebm.storage.checkpoint import Checkpoint
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.density.normalizer import GROUP, AnnealedRows, RowsBack, weighted_rows, weighted_rows_back
from jointebm.tables.training.bins import Bins
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_numbers import TableMetrics
from jointebm.tables.training.table_problem import TableAttempt
from jointebm.tables.training.table_report import FitReport, table_report_of
from jointebm.tables.training.table_schedule import PRECISIONS, loop_of_table, planned_iterations
from jointebm.tables.training.table_start import NUM_LAYERS, TableStart, start_of
from jointebm.tables.training.validation import HeldOut, Validation
from jointebm.training.dealing import dealt
from jointebm.training.divergence import Intervention
from jointebm.training.loop import Loop
from jointebm.training.training_state import prefixed, require_shapes, without_prefix
from jointebm.training.world import ALONE, Parcel, World

__all__ = ["TableFit"]

MIN_BETWEEN = 10  # iterations between looks
MIN_BETWEEN_COLUMNS = 1.3  # the same for each column: a look costs about as much as 20 iterations
DRAWN_GROUPS = 64  # of 128 draws of the proposal that log Z of the result is estimated with
FINAL_GROUPS = 16  # the same of annealed draws, and of rows of the data on the way back,
MIN_GROUPS_BACK = 4  # of which there are no more than rows, but so many at least
MOVES_OF_DATA = 10  # jumps and sweeps of these rows before they go


class TableFit:
    """A fit that can be interrupted between any two iterations: `run`, `state`, `restore`, then `finish`.

    What comes out is not worse on the held-out rows than the reference by more than the standard error of the difference.

    Args:
        codes: training rows, shape (N, V), -1 is missing; the fit is on their device.
        num_classes: K_j of each column.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.
        spreads: per column, the share of a row of each code that counts for each code; see `Bins`.
        config: how to train.
        seed: of all draws.
        weights: of the rows, positive, shape (N,): held-out and training rows are repeated accordingly; None is alike.
        world: the processes that fit together, with equal arguments. Each trains on its part of the rows; the first makes
            the start, scores held-out rows and reports, and tells the others.

    Attributes:
        base: the marginals, that the network of F is trained over.
        network: the proposal in training; None: the reference.
        prior_strength: of the reference, in rows per component, as held-out rows chose it.
        held_out: numbers of the rows that nothing is learned from; none if they are too few to tell anything, or if nothing
            is trained.
        held_out_scores: log p of the codes of the held-out rows, shape (n,), nats; none before `finish`.
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
        world: World = ALONE,
    ) -> None:
        started = time.perf_counter()
        self._config, self._world = config, world
        # Hashed, because rows that somebody drew with torch and the same small seed must not decide their own order.
        seeds = row_keys(torch.tensor([[seed, 0], [seed, 1]])).abs().tolist()
        own_seeds = (seed_of_rank(seeds[0], world.rank), seeds[1])
        self._generator, self._looking = (torch.Generator(codes.device).manual_seed(each) for each in own_seeds)
        of_codes = Bins(bins, num_classes, spreads, device=codes.device)
        start = world.from_first(
            lambda: start_of(
                codes,
                num_classes,
                of_codes,
                bins=tuple(bins),
                config=config,
                weights=weights,
                generator=self._generator,
            ),
            pack=TableStart.parcel,
            unpack=lambda parcel: TableStart.of_parcel(parcel, codes.device),
        )
        self.held_out, self.base, self.network, self._bins = start.held_out, start.base, start.network, start.bins
        self._reference, self.prior_strength = start.reference, start.prior_strength
        self._of_report = codes[start.of_report]
        num_table_rows = 0 if start.residual is None else start.residual.num_table_rows
        self.best = Residual(  # zero
            num_classes, width=config.width, num_layers=NUM_LAYERS, num_table_rows=num_table_rows
        ).to(codes.device)
        self.num_iterations = 0
        self._loop: Loop[Tensor, TableAttempt] | None = None
        self._validation: Validation | None = None
        self._num_worse, self._log_score, self.held_out_scores = 0, 0.0, torch.empty(0, dtype=torch.float64)
        self._best_gain: tuple[float, float] | None = None  # the highest penalised gain so far, and its error of log Z
        self.on_intervention: Callable[[Intervention], object] | None = None
        if start.residual is not None:
            training = codes[start.training]
            self.num_iterations = planned_iterations(len(training), len(num_classes), config)
            own = training[world.rank :: world.size]  # as `share_of` has it
            self._completed = CompletedRows(own, self._reference, self._generator)
            self._begin(start.residual, training)
            self._validation = Validation(
                codes[self.held_out],
                self._reference,
                self._looking,
                PRECISIONS[config.precision],
                proposal=self.network,
            )
        self._seconds = time.perf_counter() - started

    @property
    def energy(self) -> TableEnergy:
        """F with the best network so far; without one the reference, which needs no proposal: its draws are exact."""
        if bool(self.best.readout.any()):
            return self._energy_of(self.best)
        nothing = Residual(self.base.num_classes, width=1, num_layers=1)  # zero, and quick
        return TableEnergy(self._reference, nothing.to(self._of_report.device))

    @property
    def is_judged(self) -> bool:
        """Whether the network was compared with q: not before the first look, or while log Z was known at none."""
        return self._best_gain is not None

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
        iteration, found = update.iteration, update.attempt.numbers
        least = max(MIN_BETWEEN, MIN_BETWEEN_COLUMNS * len(self.base.num_classes))
        look_every = math.ceil(max(least, self.num_iterations / self._config.num_looks))
        is_last = iteration >= self.num_iterations
        held_out = self._look(is_last) if iteration % look_every == 0 or is_last else None
        self._seconds += time.perf_counter() - started
        return TableMetrics(
            iteration=iteration,
            objective=self._config.objective.name,
            loss=found.loss,
            grad_norm=update.grad_norm,
            learning_rate=update.learning_rate,
            negatives=found.source,
            ess=found.share,
            jump_acceptance=found.acceptance,
            log_normalizer=found.log_normalizer,
            log_likelihood=None if held_out is None else held_out.of_model,
            log_score=None if held_out is None else self._log_score,
            seconds=self._seconds,
        )

    def finish(self) -> FitReport:
        """Estimates log Z by more draws and from the data, gives the network up if it is worse than q, and reports."""
        return self._world.from_first(
            self._judged,
            pack=lambda found: Parcel(
                [found.model_dump(mode="json"), bool(self.best.readout.any())], {"scores": self.held_out_scores}
            ),
            unpack=self._told,
        )

    def _told(self, parcel: Parcel) -> FitReport:
        """The report of the first process, which may have given the network up."""
        report, is_kept = parcel.plain
        if not is_kept:
            self.best.readout.data.zero_()
        self.held_out_scores = parcel.tensors["scores"]
        return FitReport.model_validate(report)

    def _judged(self) -> FitReport:
        rows = self._weighted_rows()
        held_out = None
        if self._validation is not None:
            held_out = self._validation.log_likelihood(self.energy, rows)
            if held_out.gain < -held_out.gain_error:
                self.best.readout.data.zero_()
                rows = self._weighted_rows()
                held_out = self._validation.log_likelihood(self.energy, rows)
            self.held_out_scores = self._validation.of_rows(self.energy, rows)
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
        best_gain, self._log_score = plain["scores"]
        self._best_gain = None if best_gain is None else tuple(best_gain)
        if plain["is_over"]:
            self._loop = None
        now = self.state().tensors
        checkpoint = dealt(checkpoint, self._world, like=now)
        require_shapes(now, checkpoint.tensors)
        self.best.load_state_dict(without_prefix("best", checkpoint.tensors))
        if self._validation is not None:
            self._validation.chains = checkpoint.tensors["validation"].to(self._of_report.device, copy=True)
        sources = {"generator": self._generator, "looking": self._looking}
        continues = [resume_generator(each, checkpoint.tensors[name]) for name, each in sources.items()]
        if not all(continues):
            line = f"checkpoint of iteration {checkpoint.iteration}: written on another kind of device than "
            line += f"{self._generator.device.type}; the bits will differ from those of an uninterrupted fit"
            warn_caller(UserWarning(line))
        self._seconds = plain["fit_seconds"]
        if self._loop is not None:
            self._loop.restore(Checkpoint(plain["loop_iteration"], checkpoint.tensors, plain["loop"]))

    def _energy_of(self, net: Residual) -> TableEnergy:
        """log b + net, as log q + g."""
        return TableEnergy(self._reference, Rebased(net, self.base, self._reference), self.network)

    def _begin(self, residual: Residual, training: Tensor) -> None:
        """Makes the loop that trains this network on these rows."""
        self._loop = loop_of_table(
            TableEnergy(self.base, residual, self.network),
            self._completed,
            bins=self._bins,
            config=self._config,
            num_iterations=self.num_iterations,
            generator=self._generator,
            observed=training,
            world=self._world,
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
        network, validation = average.residual, self._validation

        def scored() -> tuple[HeldOut, float]:
            held_out = validation.log_likelihood(self._energy_of(network))
            return held_out, validation.score(TableEnergy(self.base, network))

        held_out, self._log_score = self._world.from_first(
            scored,
            pack=lambda found: Parcel([*found[0], found[1]]),
            unpack=lambda parcel: (HeldOut(*parcel.plain[:-1]), parcel.plain[-1]),
        )
        best, slack = (-math.inf, 0.0) if self._best_gain is None else self._best_gain
        self._num_worse += 1
        if held_out.penalised_gain > best - slack:
            self.best, self._num_worse = deepcopy(network), 0
        if held_out.penalised_gain > best:
            self._best_gain = held_out.penalised_gain, held_out.normalizer_error
        if is_last or self._num_worse >= self._config.patience:
            self._loop = None
        return held_out

    def _weighted_rows(self) -> AnnealedRows:
        """New draws, none of which has chosen the network."""
        return weighted_rows(self.energy, num_groups=DRAWN_GROUPS, num_annealed=FINAL_GROUPS, generator=self._looking)

    def _rows_back(self, rows: AnnealedRows) -> RowsBack:
        """Rows of the data on the way that the draws came."""
        order = shuffled(len(self._of_report), self._looking)
        num_groups = min(FINAL_GROUPS, max(MIN_GROUPS_BACK, len(order) // GROUP))
        chosen = self._of_report[order[torch.arange(GROUP * num_groups, device=order.device) % len(order)]]
        return weighted_rows_back(self.energy, rows, chosen, num_moves=MOVES_OF_DATA, generator=self._looking)
