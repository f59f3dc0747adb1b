"""Answers about rows with many configurations: averages over weighted draws of the proposal, as many as they need.

    w_s = exp(F(observed, m_s, k_s)) / r(m_s, k_s | observed),   m_s, k_s ~ r(. | observed)

A score is the log of the mean weight. A prediction averages exact conditionals of column j over the other missing entries:

    p(k | observed) ~ sum_s w_s r(k | m_s) + sum_u W_u (p(k | m_u) - r(k | m_u))

The first sum runs over all draws and evaluates nothing. The second one corrects it: its m_u are a few of the different m_s,
chosen in proportion to their weight by systematic resampling that keeps the heavy ones (Fearnhead & Clifford 2003), and only
for these F is evaluated, at all classes but those of which r(k | m_u) is below 1e-6, which keep it. So there are more m_u
where the proposal is narrow.

Rows begin with `num_draws` draws. Those whose standard error is too large, or of which hardly any is effective, get 4 times
as many, then 16 times; and 64 times, if still hardly any is effective.

Legend: N rows, V columns, K_j classes of column j, D draws, Q quantities, U different draws.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.sampling.diagnostics import MIN_ESS
from jointebm.sampling.weighted_draws import ALL_WEIGHT, effective_size, log_mean_weights
from jointebm.tables.answers.shared_draws import in_batches, of_different, shared_draws
from jointebm.tables.density.energy import TableEnergy

__all__ = ["CLASSES_PER_DRAW", "Estimates", "WeightedAnswers"]

GROWTH = (1, 4, 16, 64)  # times num_draws; the last only where few draws are effective
CLASSES_PER_DRAW = 4  # classes at which F is evaluated, for each draw; of 4 times the draws twice as many
NEGLIGIBLE = 1e-6  # proposed share of a class at which F is not evaluated
MIN_CONDITIONALS = 4  # exact conditionals of a row, at least
DRAWS_AT_ONCE = 8192  # of all rows together: memory does not grow with the table
SCORE_ERROR = 0.1  # nats, of a score that is good enough
DISTANCE = 0.025  # expected total variation to the exact probabilities
WHOLE_VECTOR = 64  # a multiple of the vector length of every processor


class Estimates(NamedTuple):
    """Of N rows.

    Args:
        value: shape (N, ...), nats, float64.
        standard_error: of log p, or of probabilities or quantities, shape (N,) or (N, Q).
        ess: effective number of draws, shape (N,).
        is_good: whether the error is small enough, bool (N,).
    """

    value: Tensor
    standard_error: Tensor
    ess: Tensor
    is_good: Tensor


class _Pool(NamedTuple):
    """Weighted draws of N rows."""

    log_weights: Tensor  # (N, D)
    before: Tensor  # names of m, (N, D)
    codes: Tensor  # (N, D, V)
    start: Tensor  # a uniform, (N, 1)
    of_last: Tensor  # r(k | m), shape (U, K)
    places: Tensor  # of each draw in of_last, (N, D)

    def of_rows(self, rows: Tensor) -> "_Pool":
        """Of some of the rows, and no more than they need."""
        used, places = self.places[rows].unique(return_inverse=True)
        log_weights, before, codes, start = (each[rows] for each in self[:4])
        return _Pool(log_weights, before, codes, start, self.of_last[used], places)

    def joined(self, other: "_Pool") -> "_Pool":
        """With further draws of the same rows."""
        places = torch.cat([self.places, other.places + len(self.of_last)], dim=1)
        log_weights, before, codes = (torch.cat(both, dim=1) for both in zip(self[:3], other[:3], strict=True))
        return _Pool(log_weights, before, codes, other.start, torch.cat([self.of_last, other.of_last]), places)


class WeightedAnswers:
    """Averages over weighted draws.

    An estimate depends on its row and the seed alone.

    Args:
        energy: F, with its proposal.
        num_draws: draws of a row at first.
        seed: of all draws.
        log_weights: evidence, per column, of its classes where it is missing, shape (K_j,), or None.
    """

    def __init__(
        self, energy: TableEnergy, num_draws: int, seed: int, log_weights: Sequence[Tensor | None] | None = None
    ) -> None:
        self._energy, self._num_draws, self._seed, self._log_weights = energy, num_draws, seed, log_weights
        self._enough = min(MIN_ESS, num_draws / 4)  # effective draws

    @torch.no_grad()
    def log_prob(self, codes: Tensor, num_rounds: Tensor) -> Estimates:
        """log of the sum over missing entries of exp F and evidence.

        Args:
            codes: shape (N, V), -1 is missing.
            num_rounds: how often a row gets draws at most, shape (N,), int64.
        """

        def estimate(pool: _Pool, _: int) -> Estimates:
            log_mean = log_mean_weights(pool.log_weights)
            peak = pool.log_weights.amax(dim=1, keepdim=True)
            value = _whole(torch.log, _whole(torch.exp, pool.log_weights - peak).cumsum(dim=1)[:, -1]) + peak[:, 0]
            value = value - torch.tensor(pool.log_weights.shape[1], dtype=torch.float64).log()
            error = log_mean.standard_error
            return Estimates(value, error, effective_size(pool.log_weights), error <= SCORE_ERROR)

        return self._in_rounds(codes, num_rounds, None, estimate)

    @torch.no_grad()
    def predictive(self, codes: Tensor, column: int, num_rounds: Tensor, readout: Tensor | None) -> Estimates:
        """log p(c_j = k | observed), with errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q).

        Args:
            codes: shape (N, V), with column j missing.
            column: j.
            num_rounds: as in `log_prob`.
            readout: shape (K_j, Q), float64, or None for the probabilities.
        """

        def estimate(pool: _Pool, times: int) -> Estimates:
            num = math.isqrt(times) * CLASSES_PER_DRAW * self._num_draws
            return self._averaged(pool, column, num, readout)

        return self._in_rounds(codes, num_rounds, column, estimate)

    def _in_rounds(
        self, codes: Tensor, num_rounds: Tensor, last: int | None, estimate: Callable[[_Pool, int], Estimates]
    ) -> Estimates:
        """Estimates in rounds of more and more draws, each row until it is good."""
        different, origin = codes.unique(dim=0, return_inverse=True)
        num_rounds_of = torch.zeros(len(different), dtype=torch.int64).index_put((origin,), num_rounds)
        parts = []
        for rows in torch.arange(len(different)).split(max(1, DRAWS_AT_ONCE // self._num_draws)):
            parts.append(self._of_rows(different[rows], num_rounds_of[rows], last, estimate))
        return Estimates(*(torch.cat(each)[origin] for each in zip(*parts, strict=True)))

    def _of_rows(
        self, codes: Tensor, num_rounds: Tensor, last: int | None, estimate: Callable[[_Pool, int], Estimates]
    ) -> Estimates:
        todo, done, pool, found = torch.arange(len(codes)), 0, None, None
        for number, times in enumerate(GROWTH):
            size = max(1, DRAWS_AT_ONCE // (times * self._num_draws))
            parts, pools = [], []
            for places in torch.arange(len(todo)).split(size):
                more = self._drawn(codes[todo[places]], (times - done) * self._num_draws, number, last)
                pools.append(more if pool is None else pool.of_rows(places).joined(more))
                parts.append(estimate(pools[-1], times))
            new = Estimates(*(torch.cat(each) for each in zip(*parts, strict=True)))
            found = (
                new
                if found is None
                else Estimates(*(a.index_copy(0, todo, b) for a, b in zip(found, new, strict=True)))
            )
            goes_on = ~new.is_good & (num_rounds[todo] > number + 1)
            if times == GROWTH[-2]:
                goes_on &= new.ess < self._enough
            goes_on = goes_on.nonzero().flatten()
            if not len(goes_on) or times == GROWTH[-1]:
                break
            pool = _stacked(pools).of_rows(goes_on)
            todo, done = todo[goes_on], times
        assert found is not None
        return found

    def _drawn(self, codes: Tensor, num: int, number: int, last: int | None) -> _Pool:
        """New draws of the round with that number."""
        stream = RowStream(row_keys(codes), self._seed, draw=number)
        drawn = shared_draws(self._energy, codes, stream, num, last=last, log_weights=self._log_weights)
        different, inverse = of_different(drawn.names, drawn.codes)
        log_weights = in_batches(self._energy, different).double()[inverse] - drawn.log_prob
        start = stream.at(codes.shape[1]).uniform(log_weights[:, :1])
        return _Pool(log_weights, drawn.names_before, drawn.codes, start, drawn.probs_of_last, drawn.index_of_last)

    def _averaged(self, pool: _Pool, column: int, num_evaluations: int, readout: Tensor | None) -> Estimates:
        num_rows, num_draws = pool.log_weights.shape
        num_classes = self._energy.num_classes[column]
        shares = _whole(torch.exp, pool.log_weights - pool.log_weights.amax(dim=1, keepdim=True))
        shares = shares / shares.cumsum(dim=1)[:, -1:]
        known = (shares < ALL_WEIGHT).all(dim=1)
        odds = shares / (1 - shares.clamp(max=ALL_WEIGHT))
        # Draws with the same beginning m stand side by side, and count as one with the sum of their shares.
        names, order = pool.before.sort(dim=1, stable=True)
        is_new = torch.ones_like(names, dtype=torch.bool)
        is_new[:, 1:] = names[:, 1:] != names[:, :-1]
        place = is_new.cumsum(dim=1) - 1  # (N, D)
        of_group = torch.zeros_like(shares).scatter_add_(1, place, shares.gather(1, order))
        squares = torch.zeros_like(shares).scatter_add_(1, place, odds.gather(1, order).square())
        squares = squares * ((num_draws - 1) / num_draws)
        first = torch.zeros_like(place).scatter_(1, place, order)  # one of the draws of each group
        cost = (shares * (pool.of_last >= NEGLIGIBLE).sum(dim=1)[pool.places]).cumsum(dim=1)[:, -1]  # of a conditional
        num = (num_evaluations / cost.clamp(min=1)).long().clamp(min=MIN_CONDITIONALS)
        kept, weights, chance = _resampled(of_group, num, pool.start)
        rows, groups = kept.nonzero(as_tuple=True)
        draws = first[rows, groups]
        proposed = pool.of_last
        exact = self._conditionals(pool.codes[rows, draws], column, proposed[pool.places[rows, draws]])  # (u, K)
        by_index = torch.zeros(num_rows, len(proposed), dtype=torch.float64).scatter_add_(1, pool.places, shares)
        crude = _summed(by_index, proposed)
        weights, chance, squares = weights[rows, groups], chance[rows, groups], squares[rows, groups]
        difference = exact - proposed[pool.places[rows, draws]]
        averaged = torch.zeros(num_rows, num_classes, dtype=torch.float64).index_add_(0, rows, weights[:, None] * exact)
        corrected = crude.index_add(0, rows, weights[:, None] * difference)
        probs = torch.maximum(corrected, averaged / 8)
        probs = probs / probs.cumsum(dim=1)[:, -1:]

        def error_of(of_exact: Tensor, of_difference: Tensor, values: Tensor) -> Tensor:
            spread = (squares / chance)[:, None] * (of_exact - values[rows]).square()
            center = torch.zeros_like(values).index_add_(0, rows, weights[:, None] * of_difference)
            chosen = ((1 - chance) * weights.square())[:, None] * (of_difference - center[rows]).square()
            error = torch.zeros_like(values).index_add_(0, rows, spread + chosen).sqrt()
            return torch.where(known[:, None], error, torch.inf)

        # Whatever is read out, so that every question about a row is answered from the same draws.
        of_probs = error_of(exact, difference, probs)
        ess = effective_size(pool.log_weights)
        # A half of the sum of mean distances, .8 errors each. With few effective draws the error itself is not known.
        is_good = (0.4 * of_probs.sum(dim=1) <= DISTANCE) & (ess >= self._enough)
        if readout is None:
            error = of_probs
        else:
            error = error_of(exact @ readout, difference @ readout, probs @ readout)
        return Estimates(_whole(torch.log, probs), error, ess, is_good)

    def _conditionals(self, codes: Tensor, column: int, proposed: Tensor) -> Tensor:
        """p(c_j = k | all other columns), shape (N, K_j), float64; classes that are negligible keep their r(k | m)."""
        is_kept = proposed >= NEGLIGIBLE
        rows, classes = is_kept.nonzero(as_tuple=True)
        asked = codes[rows]
        asked[:, column] = classes
        f = in_batches(self._energy, asked).double()
        of_classes = torch.full_like(proposed, -torch.inf).index_put((rows, classes), f).softmax(dim=1)
        total = torch.where(is_kept, proposed, 0).cumsum(dim=1)[:, -1:]
        return of_classes * total + torch.where(is_kept, 0, proposed)


def _resampled(shares: Tensor, num: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Chooses at most `num` of the entries of each row by their shares, without bias.

    Entries above a threshold c are kept, others with the chance share / c and then the weight c, systematically.

    Args:
        shares: shape (N, D), of sum 1.
        num: of entries, shape (N,), int64.
        start: a uniform for each row, shape (N, 1), which decides the systematic choice.

    Returns:
        (kept, weights, chance): bool and two of float64, each (N, D).
    """
    descending = shares.sort(dim=1, descending=True).values
    tails = descending.flip(1).cumsum(dim=1).flip(1)
    left = num[:, None] - torch.arange(shares.shape[1])  # to be chosen, if so many are kept
    levels = tails / left.clamp(min=1)  # c
    is_level = (descending <= levels) & (left > 0) & (num[:, None] < shares.shape[1])
    number = is_level.int().argmax(dim=1, keepdim=True)
    threshold = torch.where(is_level.any(dim=1, keepdim=True), levels.gather(1, number), 0)
    is_heavy = shares >= threshold
    light = torch.where(is_heavy, 0, shares / threshold.clamp(min=1e-300))
    ends = (light.cumsum(dim=1) + start).floor()
    begins = torch.cat([torch.zeros_like(start), ends[:, :-1]], dim=1)
    kept = (is_heavy & (shares > 0)) | (ends > begins)
    return kept, torch.maximum(shares, threshold), torch.where(is_heavy, 1.0, light.clamp(min=1e-300))


def _summed(shares: Tensor, rows: Tensor) -> Tensor:
    """Weighted sums of rows (U, K) by shares (N, U), one after the other, so that other rows change no bit, shape (N, K)."""
    places, numbers = shares.nonzero(as_tuple=True)
    total = torch.zeros(len(shares), rows.shape[1], dtype=torch.float64)
    return total.index_add_(0, places, shares[places, numbers][:, None] * rows[numbers])


def _stacked(pools: Sequence[_Pool]) -> _Pool:
    """The rows of several pools, one after the other."""
    offsets = [0]
    for each in pools:
        offsets.append(offsets[-1] + len(each.of_last))
    places = torch.cat([each.places + offset for each, offset in zip(pools, offsets, strict=False)])
    log_weights, before, codes, start = (torch.cat(each) for each in list(zip(*pools, strict=True))[:4])
    return _Pool(log_weights, before, codes, start, torch.cat([each.of_last for each in pools]), places)


def _whole(function: Callable[[Tensor], Tensor], entries: Tensor) -> Tensor:
    """A function of each entry, evaluated in whole vectors: torch rounds those at the end of a batch otherwise."""
    flat = entries.flatten()
    return function(pad(flat, (0, -len(flat) % WHOLE_VECTOR)))[: len(flat)].reshape(entries.shape)
