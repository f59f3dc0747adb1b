"""Training on a table: what the loop draws, moves and minimises.

Legend: N training rows, V columns, B rows of a batch and as many chains.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, shuffled
from jointebm.spaces.space import Position
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import chain_at, sweep
from jointebm.tables.training.completed_rows import CompletedRows
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood
from jointebm.tables.training.smoothing import Curves
from jointebm.training.divergence import Diverged, Scales
from jointebm.training.objectives import LossInputs, MaximumLikelihood, PseudoLikelihood

__all__ = ["Residuals", "TableAttempt", "TableProblem"]

BURN_IN = 20  # sweeps of the chains before anything is learned from them


class Residuals:
    """g = f - log p_base as objectives ask for it: of rows, and its conditionals. The base is not trained.

    Args:
        energy: f.
        precision: dtype of the hidden layers in the pseudo-likelihood.
    """

    def __init__(self, energy: TableEnergy, precision: torch.dtype) -> None:
        self._energy, self._precision = energy, precision

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self._energy.num_classes

    def __call__(self, position: Position) -> Tensor:
        """g of complete rows, shape (N,), nats."""
        g: Tensor = self._energy.residual(position["codes"])
        return g

    def composite(
        self, parts: Sequence[tuple[int, Tensor]], *, num_candidates: int, generator: Generator | None
    ) -> Tensor:
        """Sum of -log p(c_j | others), see `pseudo_likelihood`."""
        return pseudo_likelihood(
            self._energy, parts, num_candidates=num_candidates, generator=generator, precision=self._precision
        )


class TableAttempt(NamedTuple):
    """An iteration up to its loss.

    Args:
        loss: scalar, nats.
        codes: the rows of the batch, completed, shape (B, V).
        chains: the chains after their sweep, shape (B, V); no rows if the objective needs none.
    """

    loss: Tensor
    codes: Tensor
    chains: Tensor


class TableProblem:
    """Rows of a table, each once per pass; their completions; chains; and the loss of an objective.

    Args:
        objective: the loss.
        energy: f; its network is trained in place.
        completed: completions of the training rows.
        ordered: per column, whether neighbouring classes are learned together.
        batch_size: B, at most N.
        precision: dtype of the hidden layers.
        generator: source of all draws.
    """

    def __init__(
        self,
        objective: MaximumLikelihood | PseudoLikelihood,
        energy: TableEnergy,
        completed: CompletedRows,
        *,
        ordered: Sequence[bool],
        batch_size: int,
        precision: torch.dtype,
        generator: torch.Generator,
    ) -> None:
        self._objective, self._energy, self._completed = objective, energy, completed
        self._batch_size, self._generator = batch_size, generator
        self._residuals = Residuals(energy, precision)
        self.module, self.scales = Curves(energy.residual, ordered), Scales()
        self._order = torch.arange(len(completed))
        self._num_drawn = torch.tensor(len(completed))  # rows of this pass; all of them: the next batch begins another
        self._chains = torch.empty(batch_size if objective.needs_chains else 0, len(energy.num_classes)).long()

    def start_chains(self) -> None:
        """Draws the chains from the reference, and lets them come near exp f."""
        self._chains = self._fresh_chains(len(self._chains))
        for _ in range(BURN_IN):
            self._chains = self._moved(self._chains)

    def draw(self) -> Tensor:
        """Numbers of the rows of a batch, shape (B,)."""
        if self._num_drawn + self._batch_size > len(self._order):
            self._order, self._num_drawn = shuffled(len(self._order), self._generator), torch.tensor(0)
        first = int(self._num_drawn)
        self._num_drawn = self._num_drawn + self._batch_size
        return self._order[first : first + self._batch_size]

    def attempt(self, drawn: Tensor, where: str) -> TableAttempt:
        """Moves missing entries and chains by one sweep, and evaluates the loss."""
        codes = self._completed.moved(self._energy, drawn, generator=self._generator)
        chains = self._moved(self._chains) if len(self._chains) else self._chains
        missing = {"codes": self._completed.missing(drawn)}
        samples = LossInputs({"codes": codes}, {"codes": chains}, missing=missing, generator=self._generator)
        phases = self._objective.loss(self._residuals, samples)
        where = f"{where} of fitting a table"
        lost = ~phases.negative.detach().isfinite()
        if bool(lost.any()):
            raise Diverged(
                "chain", f"log-density: not finite in {int(lost.sum())} of {len(lost)} chains in {where}", lost
            )
        self.scales.check_loss(phases.loss, where)
        if len(chains):
            spread = float(phases.positive.detach().std(correction=0))
            self.scales.check_gap(-float(phases.loss.detach()), spread, where)
        return TableAttempt(phases.loss, codes, chains)

    def commit(self, drawn: Tensor, attempt: TableAttempt) -> None:
        """Keeps completions and chains."""
        self._completed.keep(drawn, attempt.codes)
        self._chains = attempt.chains

    def restart(self, drawn: Tensor, chains: Tensor) -> int:  # noqa: ARG002  # the form of a problem
        """Draws offending chains from the reference."""
        num = int(chains.sum())
        self._chains[chains] = self._fresh_chains(num)
        return num

    def state(self) -> dict[str, Tensor]:
        """Completions, chains, and the order of the rows."""
        return {
            "completed": self._completed.codes,
            "chains": self._chains,
            "order": self._order,
            "num_drawn": self._num_drawn,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        self._completed.codes, self._chains = tensors["completed"], tensors["chains"]
        self._order, self._num_drawn = tensors["order"], tensors["num_drawn"]

    def _fresh_chains(self, num: int) -> Tensor:
        return self._energy.reference.draw(torch.full((num, len(self._energy.num_classes)), -1), self._generator)

    @torch.no_grad()
    def _moved(self, chains: Tensor) -> Tensor:
        """Chains after one sweep."""
        free = torch.ones_like(chains, dtype=torch.bool)
        state = chain_at(self._energy, chains)
        return sweep(self._energy, state, free=free, generators=lambda _: self._generator).codes
