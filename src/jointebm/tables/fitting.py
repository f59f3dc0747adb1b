"""How a table's energy is fitted: a base by EM, then the network by stochastic gradients, of two objectives in turn.

The pseudo-likelihood comes first, until held-out rows stop improving. It learns fast what follows from what, but little
about how often each kind of row occurs: its conditionals only compare a row with its neighbours. Then the likelihood
itself, by persistent chains, which show where the model has rows that the data lack.

Legend: N training rows, V columns, B rows of a batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from jointebm import draws
from jointebm.config import Config
from jointebm.divergence import Diverged
from jointebm.streams import row_keys
from jointebm.tables.completions import Completions, start, sweep
from jointebm.tables.contrastive import contrastive
from jointebm.tables.curves import Curves
from jointebm.tables.energy import Residual, TableEnergy
from jointebm.tables.mixture import fit_mixture
from jointebm.tables.pseudolikelihood import pseudo_likelihood
from jointebm.tables.validation import Validation

__all__ = ["Progress", "TableConfig", "fit_energy"]

COLUMNS_AT_ONCE = 16  # of a step; the batch is dealt out to so many columns
MIN_BATCH = 32  # rows of an iteration, if there are as many
MIN_ITERATIONS = 10  # per visit; a small table needs more visits than a large one
BURN_IN = 20  # sweeps of the chains before anything is learned from them
MIN_FOLLOWED = 1000  # training rows; with fewer a warm start is left as it is: chains would teach noise
MAX_LOSS = 0.05  # of what the warm start gained in held-out log score; chains that lose more are not followed
MIN_HELD_OUT = 5  # rows; with fewer nothing tells whether the network helps, and the base stands alone


class TableConfig(Config):
    """How to train on a table.

    Example:
        >>> TableConfig(objective="pcd").base
        'independent'
    """

    objective: Literal["pcd", "pseudo-likelihood"] = Field(
        "pcd",
        description="exact conditionals of each column, then persistent chains (Eq. 2) if rows are many; or the first alone",
    )
    base: Literal["independent", "mixture"] = Field(
        "independent",
        description="what the energy starts at: the columns' marginals, or the mixture that guides samplers",
    )
    max_components: int = Field(64, ge=1, description="components of the mixture, at most")
    rows_per_component: int = Field(100, ge=1, description="training rows for each component, at least")
    prior_strength: float = Field(5.0, gt=0, description="rows, distributed like the marginals, in every component")
    width: int = Field(384, ge=1, description="units of each hidden layer")
    num_layers: int = Field(2, ge=1, description="hidden layers")
    batch_size: int = Field(
        480,
        ge=1,
        description="rows per iteration, and as many chains, at most; a small table takes a twentieth of its rows",
    )
    num_candidates: int = Field(
        8, ge=2, description="classes that a code is told from in an iteration; with no more than these, from all"
    )
    learning_rate: float = Field(2e-3, gt=0, description="of AdamW; rises over warmup, then falls as a cosine to 0")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the iterations over which the learning rate rises")
    num_visits: int = Field(
        35, ge=0, description="times each row is in a batch, or more in a small table; 0 leaves the base as it is"
    )
    max_iterations: int = Field(5000, ge=1, description="parameter updates, at most")
    warm_start: float = Field(
        6 / 7, ge=0, lt=1, description="share of the iterations of pcd that are pseudo-likelihood's, to begin with"
    )
    chain_rate: float = Field(
        0.15, gt=0, description="learning rate of the iterations with chains, as a share of that of the others"
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the rows held out for early stopping")
    max_validation: int = Field(1000, ge=1, description="rows held out, at most")
    num_looks: int = Field(20, ge=1, description="times the held-out rows are looked at")
    patience: int = Field(5, ge=1, description="looks without improvement after which training stops")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="of hidden layers in training")


class Progress(NamedTuple):
    """How far a fit is.

    Args:
        fraction: of the iterations, in [0, 1]; training may stop earlier.
        log_score: mean conditional log score of held-out rows, nats per observed entry.
        seconds: since the start.
    """

    fraction: float
    log_score: float
    seconds: float


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


class _Trainer:
    """Descends the objective over the residual's parameters, and averages them."""

    def __init__(
        self,
        energy: TableEnergy,
        completions: Completions,
        curves: Curves,
        config: TableConfig,
        generator: torch.Generator,
    ) -> None:
        self.energy, self.completions, self.config, self.generator = energy, completions, config, generator
        self._curves = curves
        self.average = TableEnergy(energy.base, deepcopy(energy.residual), energy.guide)
        self.precision = torch.float32 if config.precision == "float32" else torch.bfloat16
        self.columns = [column for column, count in enumerate(energy.num_classes) if count > 1]
        self.batch_size = min(config.batch_size, max(MIN_BATCH, len(completions) // 20), len(completions))
        per_visit = max(MIN_ITERATIONS, len(completions) / self.batch_size)
        self.num_iterations = min(config.max_iterations, math.ceil(config.num_visits * per_visit))
        self.num_warm = self.num_iterations
        if config.objective == "pcd":
            self.num_warm = int(config.warm_start * self.num_iterations)
            if self.num_warm and len(completions) < MIN_FOLLOWED:
                self.num_iterations = self.num_warm
        self._chains: Tensor | None = None
        beyond = [each for name, each in energy.residual.named_parameters() if name != "embedding"]
        self._optimizer = self._new_optimizer([curves.vectors, *beyond])

    def run(self, first: int, last: int) -> Iterator[int]:
        """Trains, yielding the number of updates done, from `first` on."""
        batches = self._batches()
        for iteration in range(first, last):
            rows = next(batches)
            codes = self.completions.move(self.energy, rows, generator=self.generator)
            loss = self._composite(codes, rows) if self._chains is None else self._contrastive(codes, self._chains)
            if not bool(loss.isfinite()):
                raise Diverged("loss", f"loss: {float(loss.detach())} in iteration {iteration + 1} of fitting a table")
            self._optimizer.param_groups[0]["lr"] = self._learning_rate(iteration)
            self._optimizer.zero_grad()
            loss.backward()
            if self._chains is None:
                self._curves.take_gradient()
                self._optimizer.step()
                self._curves.give_vectors()
            else:
                self._optimizer.step()
            self._update_average(iteration - first)
            yield iteration + 1

    @torch.no_grad()
    def follow_chains(self, residual: Residual) -> None:
        """Goes on from this network by persistent chains, which are let come near its density first.

        By its own weights, not by curves: these move many weights together, and with them would the noise of the chains.
        """
        for parameter, given in zip(self.energy.residual.parameters(), residual.parameters(), strict=True):
            parameter.copy_(given)
        self._optimizer = self._new_optimizer(list(self.energy.residual.parameters()))
        nothing = torch.full((self.batch_size, len(self.energy.num_classes)), -1)
        self._chains = self.energy.guide.draw(nothing, self.generator)
        for _ in range(BURN_IN):
            self._chains = self._moved(self._chains)

    def _new_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, lr=self.config.learning_rate, betas=(0.9, 0.99), weight_decay=self.config.weight_decay
        )

    def _composite(self, codes: Tensor, rows: Tensor) -> Tensor:
        """Sum of -log p(c_j | others) over observed entries, per row of the batch, which is dealt out to some columns."""
        missing = self.completions.missing(rows)
        chosen = _shuffled(len(self.columns), self.generator)[: min(COLUMNS_AT_ONCE, len(codes))].tolist()
        hands = torch.arange(len(codes)).tensor_split(len(chosen))
        parts = [(self.columns[index], hand) for index, hand in zip(chosen, hands, strict=True)]
        observed = [(column, codes[hand[~missing[hand, column]]]) for column, hand in parts]
        loss = pseudo_likelihood(
            self.energy,
            observed,
            num_candidates=self.config.num_candidates,
            generator=self.generator,
            precision=self.precision,
        )
        return loss / len(codes)

    def _contrastive(self, codes: Tensor, chains: Tensor) -> Tensor:
        """The objective of Eqs. 2 and 8, with the chains moved by one sweep."""
        self._chains = self._moved(chains)
        return contrastive(self.energy, codes, self._chains)

    @torch.no_grad()
    def _moved(self, chains: Tensor) -> Tensor:
        """Chains after one sweep."""
        free = torch.ones_like(chains, dtype=torch.bool)
        state = start(self.energy, chains)
        return sweep(self.energy, state, free=free, generators=lambda _: self.generator).codes

    def _batches(self) -> Iterator[Tensor]:
        """Numbers of training rows, each row once per pass."""
        while True:
            order = _shuffled(len(self.completions), self.generator)
            yield from (part for part in order.split(self.batch_size) if len(part) == self.batch_size)

    def _learning_rate(self, iteration: int) -> float:
        """Rises over warmup and falls to zero, once for each of the two parts."""
        is_warm = self._chains is None
        first, last = (0, self.num_warm) if is_warm else (self.num_warm, self.num_iterations)
        peak = self.config.learning_rate * (1.0 if is_warm else self.config.chain_rate)
        done, num = iteration - first, last - first
        rising = min(1.0, (done + 1) / (self.config.warmup * num + 1))
        return peak * rising * 0.5 * (1 + math.cos(math.pi * done / num))

    @torch.no_grad()
    def _update_average(self, num_before: int) -> None:
        """Moving average over about the last fiftieth of training."""
        weight = max(1 / (num_before + 1), min(1.0, 50 / self.num_iterations))
        for mean, parameter in zip(self.average.residual.parameters(), self.energy.residual.parameters(), strict=True):
            mean.lerp_(parameter, weight)


def _shuffled(num: int, generator: torch.Generator) -> Tensor:
    """The numbers below `num` in random order."""
    return draws.uniform(torch.empty(num, dtype=torch.float64), generator).argsort()
