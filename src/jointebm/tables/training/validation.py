"""Held-out rows: their log-likelihood, which decides when training stops and which network is kept, and their log score.

    log p(observed) = log E_{m ~ r(. | observed)} exp F(observed, m) / r(m | observed) - log Z

with log Z by `jointebm.tables.density.normalizer` and the mean over fixed draws m of the proposal r, whose log is a little
too low on average. That of log Z is too low as well, which favours the network, by half its squared standard error. The log
score asks some observed entries given the others of their row, missing entries summed out by chains that do not see the one
asked for:

    log p(c_j | observed others) ~ log 1/S sum_s p(c_j | observed others, m_s),   m_s ~ p(m | observed others)

Legend: N held-out rows, V columns, P entries asked for, S draws or chains of each, K_j classes of column j.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, shuffled
from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import chain_at, sweep
from jointebm.tables.density.normalizer import AnnealedRows, drawn_rows, weighted_rows
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood

__all__ = ["HeldOut", "Validation", "annealed_groups"]

MAX_ASKED = 1500  # P, at most
MAX_EVALUATED = 1 << 16  # classes of a column of complete rows, in a look
NUM_CHAINS = 4  # S of an entry asked for
NUM_DRAWS = 32  # S of an incomplete row
NUM_GROUPS = 64  # of draws that log Z of a look is estimated with, the same ones in each
MAX_ANNEALED = 24  # groups of annealed draws of a look
ROWS_OF_GROUPS = (
    1000  # held-out rows that can use as many annealed draws; fewer rows, whose own noise is larger, use fewer
)
MIN_GROUPS = 6  # of annealed draws, for any number of rows
ROWS_AT_ONCE = 128
ASKED_AT_ONCE = 32


class HeldOut(NamedTuple):
    """Mean log-likelihood of held-out rows, nats per row.

    Args:
        of_model: of F.
        of_reference: of q.
        gain_error: standard error of their difference, over rows and log Z.
        normalizer_error: standard error of log Z.
        of_model_error: standard error of `of_model`.
        of_reference_error: standard error of `of_reference`.
    """

    of_model: float
    of_reference: float
    gain_error: float
    normalizer_error: float
    of_model_error: float
    of_reference_error: float

    @property
    def gain(self) -> float:
        """Of the model over the reference."""
        return self.of_model - self.of_reference

    @property
    def penalised_gain(self) -> float:
        """The gain less two standard errors of log Z: of many looks, the highest gain is often one of a wrong log Z."""
        return self.gain - 2 * self.normalizer_error


def annealed_groups(num_rows: int) -> int:
    """Groups of annealed draws of a look with this many held-out rows.

    Example:
        >>> [annealed_groups(num) for num in (20, 500, 2000)]
        [6, 12, 24]
    """
    return min(MAX_ANNEALED, max(MIN_GROUPS, MAX_ANNEALED * num_rows // ROWS_OF_GROUPS))


class Validation:
    """Held-out rows: their log-likelihood, and the mean log score of their observed entries, each given the others.

    The chains of the log score persist from look to look, one sweep each. The score of incomplete rows has the noise of P
    entries, and the log of a mean over S draws is a little too low.

    Args:
        codes: shape (N, V), -1 is missing.
        reference: q.
        proposal: r, which draws missing entries at the start; None is q.
        generator: of all draws; not that of training, which validation must not change.
        precision: dtype of the hidden layers in the log score.

    Example:
        >>> from jointebm.tables.density.energy import Residual
        >>> energy = TableEnergy(ProductMixture((2, 4)), Residual((2, 4), width=4, num_layers=1))
        >>> rows = torch.tensor([[0, 3], [1, -1]])
        >>> validation = Validation(rows, energy.reference, torch.Generator().manual_seed(0), torch.float32)
        >>> validation.score(energy) * 3  # - log 2 - log 4 - log 2
        -2.7725887298583984
        >>> validation.log_likelihood(energy).of_model * 2  # - log 8 - log 2
        -2.7725887298583984
    """

    def __init__(
        self,
        codes: Tensor,
        reference: ProductMixture,
        generator: Generator,
        precision: torch.dtype,
        *,
        proposal: MaskedNetwork | None = None,
    ) -> None:
        is_complete = (codes >= 0).all(dim=1)
        complete, incomplete = codes[is_complete], codes[~is_complete]
        self._places = torch.cat([is_complete.nonzero(), (~is_complete).nonzero()]).flatten()  # of the rows, as asked
        self._of_reference = reference(torch.cat([complete, incomplete])).double()
        self._num_whole = len(complete)
        source = reference if proposal is None else proposal
        observed_of_draws = incomplete.repeat(NUM_DRAWS, 1)
        drawn = source.draw(observed_of_draws, generator)
        # With g of a draw: the log of exp F(observed, m) / (r(m | observed) q(observed)), (S, n).
        of_draws = reference(drawn) - source.log_conditional(drawn, observed_of_draws < 0)
        self._offsets = of_draws.double().view(NUM_DRAWS, -1) - self._of_reference[len(complete) :]
        self._rows = torch.cat([complete, drawn])
        observed = (incomplete >= 0).nonzero()
        # The same draws in each look: what they miss is missed in all looks alike, which are compared with one another.
        self._drawn = None if proposal is None else drawn_rows(proposal, num_groups=NUM_GROUPS, generator=generator)
        asked = observed[shuffled(len(observed), generator)[:MAX_ASKED]]
        asked = asked[asked[:, 1].argsort(stable=True)]  # (P, 2): row and column, by column
        known = incomplete[asked[:, 0]].scatter(1, asked[:, 1:], -1)
        self._complete = complete[: max(1, MAX_ASKED // codes.shape[1])]
        self._num_in_complete, self._num_in_incomplete = complete.numel(), len(observed)
        self._columns, self._truth = asked[:, 1], incomplete[asked[:, 0], asked[:, 1]]  # (P,)
        self._free = (known < 0).repeat(NUM_CHAINS, 1)  # (S * P, V)
        # All that lasts from score to score, but for the generator, (S * P, V).
        self.chains = reference.draw(known.repeat(NUM_CHAINS, 1), generator)
        self._generator, self._precision = generator, precision

    @torch.no_grad()
    def log_likelihood(self, energy: TableEnergy, rows: AnnealedRows | None = None) -> HeldOut:
        """Mean log-likelihood of the observed codes; log Z from these rows, or from those of all looks."""
        if rows is None:
            num = annealed_groups(len(self._of_reference))
            rows = weighted_rows(
                energy,
                num_groups=NUM_GROUPS,
                num_annealed=num,
                has_pilot=False,
                generator=self._generator,
                drawn=self._drawn,
            )
        gains, error = self._gains(energy, rows), rows.standard_error

        def spread(each: Tensor) -> float:
            return float(each.std()) / math.sqrt(len(each))

        return HeldOut(
            of_model=float((self._of_reference + gains).mean()),
            of_reference=float(self._of_reference.mean()),
            gain_error=math.hypot(spread(gains), error),
            normalizer_error=error,
            of_model_error=math.hypot(spread(self._of_reference + gains), error),
            of_reference_error=spread(self._of_reference),
        )

    @torch.no_grad()
    def of_rows(self, energy: TableEnergy, rows: AnnealedRows) -> Tensor:
        """log p of the observed codes of each row, with log Z from these rows, shape (N,), nats, float64."""
        found = self._of_reference + self._gains(energy, rows)
        return torch.empty_like(found).index_copy(0, self._places, found)

    def _gains(self, energy: TableEnergy, rows: AnnealedRows) -> Tensor:
        """log p - log q of the observed codes, complete rows first, shape (N,)."""
        g = torch.cat([energy.residual(part) for part in self._rows.split(2048)]).double()
        of_draws = g[self._num_whole :].view(NUM_DRAWS, -1) + self._offsets
        of_incomplete = of_draws.logsumexp(dim=0) - math.log(NUM_DRAWS)
        return torch.cat([g[: self._num_whole], of_incomplete]) - rows.log_normalizer

    @torch.no_grad()
    def score(self, energy: TableEnergy) -> float:
        """Mean over observed entries, nats; moves the chains."""
        total = 0.0
        if self._num_in_complete:
            total += self._num_in_complete * self._of_complete(energy)
        if len(self._columns):
            total += self._num_in_incomplete * self._mean_of_asked(energy)
        return total / max(1, self._num_in_complete + self._num_in_incomplete)

    def _of_complete(self, energy: TableEnergy) -> float:
        """Mean over all entries of some complete rows."""
        of_columns = []
        for column, num_classes in enumerate(energy.num_classes):
            rows = self._complete[: max(1, MAX_EVALUATED // num_classes)]
            parts = [(column, some) for some in rows.split(ROWS_AT_ONCE)]
            losses = [float(pseudo_likelihood(energy, [part], precision=self._precision)) for part in parts]
            of_columns.append(-sum(losses) / len(rows))
        return sum(of_columns) / len(of_columns)

    def _mean_of_asked(self, energy: TableEnergy) -> float:
        """Mean over the entries asked for, after a sweep."""
        state = chain_at(energy, self.chains)
        self.chains = sweep(energy, state, free=self._free, generators=lambda _: self._generator)[0].codes
        of_chains = torch.empty(NUM_CHAINS, len(self._columns), device=self.chains.device)
        chains = self.chains.view(NUM_CHAINS, len(self._columns), -1)
        for column in self._columns.unique().tolist():
            for places in (self._columns == column).nonzero().squeeze(1).split(ASKED_AT_ONCE):
                log_probs = energy.of_classes(chains[:, places].flatten(0, 1), column).log_softmax(dim=1)
                truth = self._truth[places].repeat(NUM_CHAINS)
                of_chains[:, places] = log_probs.gather(1, truth[:, None]).view(NUM_CHAINS, -1).float()
        return float((of_chains.logsumexp(dim=0) - math.log(NUM_CHAINS)).mean())
