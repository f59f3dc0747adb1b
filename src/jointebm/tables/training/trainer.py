"""How a table's energy is fitted: a base by EM, then the network by stochastic gradients, of two objectives in turn.

The pseudo-likelihood comes first, until held-out rows stop improving. It learns fast what follows from what, but little
about how often each kind of row occurs: its conditionals only compare a row with its neighbours. Then the likelihood
itself, by persistent chains, which show where the model has rows that the data lack.

Legend: N training rows, V columns, B rows of a batch.
"""

import math
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from jointebm.randomness import draws
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import chain_at, sweep
from jointebm.tables.training.completions import Completions
from jointebm.tables.training.config import TableConfig
from jointebm.tables.training.objectives import contrastive, pseudo_likelihood
from jointebm.tables.training.smoothing import Curves
from jointebm.training.divergence import Diverged

__all__ = []

COLUMNS_AT_ONCE = 16  # of a step; the batch is dealt out to so many columns
MIN_BATCH = 32  # rows of an iteration, if there are as many
MIN_ITERATIONS = 10  # per visit; a small table needs more visits than a large one
BURN_IN = 20  # sweeps of the chains before anything is learned from them
MIN_FOLLOWED = 1000  # training rows; with fewer a warm start is left as it is: chains would teach noise


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
        self.average = TableEnergy(energy.base, deepcopy(energy.residual), energy.reference)
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
        self._chains = self.energy.reference.draw(nothing, self.generator)
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
        state = chain_at(self.energy, chains)
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
