"""The log score of held-out rows, which decides when training stops and which network is kept.

A complete row is asked for each of its entries, exactly. Of incomplete rows, some observed entries are asked for, each with
the missing entries summed out by chains that do not see the one asked for:

    log p(c_j | observed others) ~ log 1/S sum_s p(c_j | observed others, m_s),   m_s ~ p(m | observed others)

Completions that were drawn with the asked entry in view give it away: the best score is then that of an energy that has
learned what its completions say about observed entries, and training stops too early.

Legend: N held-out rows, V columns, P entries asked for, S chains of each, K_j classes of column j.
"""

import math

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, shuffled
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.mixture import Mixture
from jointebm.tables.density.moves import chain_at, sweep
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood

__all__ = ["Validation"]

MAX_ASKED = 1500  # P, at most: as much work as 1,000 complete rows
NUM_CHAINS = 4  # S
ROWS_AT_ONCE = 128
ASKED_AT_ONCE = 32
ROUGH = 0.1  # share of complete rows, below which the score depends on chains almost alone


class Validation:
    """Held-out rows: the mean log score of their observed entries, each given the others of its row.

    The chains persist from score to score, one sweep each, started from the reference's exact draw. The score of incomplete
    rows is not precise: it has the noise of P entries, and the log of a mean over S draws is a little too low.

    Args:
        codes: shape (N, V), -1 is missing.
        reference: draws missing entries at the start.
        generator: chooses the entries and moves the chains; not that of training, which validation must not change.
        precision: dtype of the hidden layers.

    Example:
        >>> from jointebm.tables.density.energy import Residual
        >>> energy = TableEnergy(Mixture((2, 4)), Residual((2, 4), width=4, num_layers=1))
        >>> rows = torch.tensor([[0, 3], [1, -1]])
        >>> validation = Validation(rows, energy.reference, torch.Generator().manual_seed(0), torch.float32)
        >>> validation.score(energy) * 3  # - log 2 - log 4 - log 2
        -2.7725887298583984
    """

    def __init__(self, codes: Tensor, reference: Mixture, generator: Generator, precision: torch.dtype) -> None:
        is_complete = (codes >= 0).all(dim=1)
        incomplete = codes[~is_complete]
        observed = (incomplete >= 0).nonzero()
        asked = observed[shuffled(len(observed), generator)[:MAX_ASKED]]
        asked = asked[asked[:, 1].argsort(stable=True)]  # (P, 2): row and column, by column
        known = incomplete[asked[:, 0]].scatter(1, asked[:, 1:], -1)
        self._complete, self._num_rows, self._num_in_incomplete = codes[is_complete], len(codes), len(observed)
        self._columns, self._truth = asked[:, 1], incomplete[asked[:, 0], asked[:, 1]]  # (P,)
        self._free = (known < 0).repeat(NUM_CHAINS, 1)  # (S * P, V)
        # All that lasts from score to score, but for the generator, (S * P, V).
        self.chains = reference.draw(known.repeat(NUM_CHAINS, 1), generator)
        self._generator, self._precision = generator, precision

    @property
    def is_rough(self) -> bool:
        """Whether hardly a row is complete, so that the score depends on chains almost alone."""
        return len(self._complete) < ROUGH * self._num_rows

    @torch.no_grad()
    def score(self, energy: TableEnergy) -> float:
        """Mean over observed entries, nats; moves the chains."""
        num_in_complete = self._complete.numel()
        total = self._of_complete(energy)
        if len(self._columns):
            total += self._num_in_incomplete * self._mean_of_asked(energy)
        return total / max(1, num_in_complete + self._num_in_incomplete)

    def _of_complete(self, energy: TableEnergy) -> float:
        """Sum over all entries of the complete rows."""
        total = 0.0
        for column in range(self._complete.shape[1]):
            for rows in self._complete.split(ROWS_AT_ONCE):
                total -= float(pseudo_likelihood(energy, [(column, rows)], precision=self._precision))
        return total

    def _mean_of_asked(self, energy: TableEnergy) -> float:
        """Mean over the entries asked for, after a sweep."""
        state = chain_at(energy, self.chains)
        self.chains = sweep(energy, state, free=self._free, generators=lambda _: self._generator).codes
        of_chains = torch.empty(NUM_CHAINS, len(self._columns))
        chains = self.chains.view(NUM_CHAINS, len(self._columns), -1)
        for column in self._columns.unique().tolist():
            for places in (self._columns == column).nonzero().squeeze(1).split(ASKED_AT_ONCE):
                log_probs = energy.of_classes(chains[:, places].flatten(0, 1), column).log_softmax(dim=1)
                truth = self._truth[places].repeat(NUM_CHAINS)
                of_chains[:, places] = log_probs.gather(1, truth[:, None]).view(NUM_CHAINS, -1).float()
        return float((of_chains.logsumexp(dim=0) - math.log(NUM_CHAINS)).mean())
