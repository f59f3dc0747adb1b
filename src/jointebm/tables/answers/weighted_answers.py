"""Answers about rows with many configurations: averages over weighted draws of the proposal, as many as they need.

    w_s = exp(F(observed, m_s, k_s)) / r(m_s, k_s | observed),   m_s, k_s ~ r(. | observed)

Proposal and weights are rough (`density.rough_energy`), and F corrects them at a few draws. A score is the log of the mean
weight, plus that of the mean of exp(F - rough F) over 16 draws chosen by weight. A prediction averages conditionals of
column j over the other missing entries, in three levels:

    p(k | observed) ~ sum_s w_s r(k | m_s) + sum_u W_u (p'(k | m_u) - r(k | m_u)) + sum_v W_v (p'' - p')(k | m_v)

with p' the conditional of rough F, and p'' = p' exp(F - rough F), which is not normalised: it moves weight between the m as
well. The first sum runs over all draws and evaluates nothing. The m_u are a few of the different m_s, and the m_v a few of
these, chosen in proportion to their weight by systematic resampling that keeps the heavy ones (Fearnhead & Clifford 2003).
Only there are rough F and F evaluated, at all classes but those of which r(k | m) is below 1e-5, which keep it.

Rows begin with `num_draws` draws and as many classes. Those whose standard error is too large get up to 16 times as many
draws, 16 times if hardly any draw is effective, and 64 times if that remains so; what costs least is told by
`cheapest_numbers`. F itself is evaluated once a row gets no more draws. Draws lie evenly, so errors are those of independent
draws times the root of the design effect: the mean square of differences between neighbours over that between any two draws.

Legend: N rows, V columns, K_j classes of column j, D draws, Q quantities, U different draws.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from jointebm.randomness.row_streams import RowStream, row_keys, splitmix64
from jointebm.references.product_mixture import linear_by_row
from jointebm.sampling.diagnostics import MIN_ESS
from jointebm.sampling.weighted_draws import ALL_WEIGHT, effective_size
from jointebm.tables.answers.chosen_draws import (
    ChosenDraws,
    cheapest_numbers,
    expected_distance,
    first_of_equals,
    read_out,
    resampled_draws,
    squares_of_neighbours,
)
from jointebm.tables.answers.shared_draws import in_batches, of_different, shared_draws
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.rough_energy import RoughEnergy

__all__ = ["Estimates", "WeightedAnswers"]

GROWTH = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16)  # times num_draws, of the second round
LAST_GROWTH = 64  # of the third, where few draws are effective
CLASSES_PER_DRAW = 1  # classes at which rough F tells how many are needed, for each draw of the first round
LEAST_CLASSES, MOST_CLASSES = 4, 64  # of an answer, the same
EXACT_DRAWS = 16  # at which F corrects a score
EXACT_CLASSES = 128  # at which F corrects a prediction
NEGLIGIBLE = 1e-5  # proposed share of a class at which F is not evaluated
MIN_CONDITIONALS = 4  # of rough F, of a row, at least
MIN_EXACT = 2  # of F
DRAWS_AT_ONCE = 32768  # of all rows together: memory does not grow with the table
PROBS_AT_ONCE = 1 << 22  # of these draws and the classes of a column
SCORE_ERROR = 0.1  # nats, of a score that is good enough
DISTANCE = 0.025  # expected total variation to the exact probabilities
NUM_PROJECTIONS = 8  # of conditionals, that tell the design effect
WHOLE_VECTOR = 64  # a multiple of the vector length of every processor


class Estimates(NamedTuple):
    """Of N rows.

    Args:
        value: shape (N, ...), nats, float64.
        standard_error: of log p, or of probabilities or quantities, shape (N,) or (N, Q).
        ess: effective number of draws, shape (N,).
        is_good: whether the error is small enough, but for that of F at few draws, bool (N,).
        growth: how many times as many draws would make it so, shape (N,), float64.
        classes: and how many classes, shape (N,), float64.
    """

    value: Tensor
    standard_error: Tensor
    ess: Tensor
    is_good: Tensor
    growth: Tensor
    classes: Tensor


_GoesOn = Callable[[Tensor, Tensor], Tensor]  # from `is_good` and `ess` of rows: which get more draws, and no F yet


class _Pool(NamedTuple):
    """Weighted draws of N rows."""

    log_weights: Tensor  # (N, D), rough
    before: Tensor  # names of m, (N, D)
    codes: Tensor  # (N, D, V)
    start: Tensor  # uniforms, (N, 2)
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


_Estimate = Callable[[_Pool, Tensor, _GoesOn], Estimates]  # of draws and a number of classes


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
        self._energy, self._rough = energy, RoughEnergy(energy)
        self._num_draws, self._seed, self._log_weights = num_draws, seed, log_weights
        self._enough = min(MIN_ESS, num_draws / 4)  # effective draws
        self._at_once = min(DRAWS_AT_ONCE, PROBS_AT_ONCE // max(energy.num_classes))

    @torch.no_grad()
    def log_prob(self, codes: Tensor, num_rounds: Tensor) -> Estimates:
        """log of the sum over missing entries of exp F and evidence.

        Args:
            codes: shape (N, V), -1 is missing.
            num_rounds: how often a row gets draws at most, shape (N,), int64.
        """
        return self._in_rounds(codes, num_rounds, None, lambda pool, _, goes_on: self._log_mean(pool, goes_on))

    @torch.no_grad()
    def predictive(self, codes: Tensor, column: int, num_rounds: Tensor, readout: Tensor | None) -> Estimates:
        """log p(c_j = k | observed), with errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q).

        Args:
            codes: shape (N, V), with column j missing.
            column: j.
            num_rounds: as in `log_prob`.
            readout: shape (K_j, Q), float64, or None for the probabilities.
        """

        def estimate(pool: _Pool, classes: Tensor, goes_on: _GoesOn) -> Estimates:
            return self._averaged(pool, column, classes, goes_on, readout)

        return self._in_rounds(codes, num_rounds, column, estimate)

    def _in_rounds(self, codes: Tensor, num_rounds: Tensor, last: int | None, estimate: _Estimate) -> Estimates:
        """Estimates in rounds of more draws, each row until it is good."""
        different, origin = codes.unique(dim=0, return_inverse=True)
        num_rounds_of = num_rounds.new_zeros(len(different)).index_put((origin,), num_rounds)
        parts = []
        for rows in torch.arange(len(different), device=codes.device).split(max(1, self._at_once // self._num_draws)):
            parts.append(self._of_rows(different[rows], num_rounds_of[rows], last, estimate))
        return Estimates(*(torch.cat(each)[origin] for each in zip(*parts, strict=True)))

    def _of_rows(self, codes: Tensor, num_rounds: Tensor, last: int | None, estimate: _Estimate) -> Estimates:
        first = self._drawn(codes, self._num_draws, 0, last)
        least, most = LEAST_CLASSES * self._num_draws, MOST_CLASSES * self._num_draws
        of_first = torch.where(num_rounds > 1, CLASSES_PER_DRAW * self._num_draws, least).double()
        is_pilot = (num_rounds > 1) & (last is not None)  # it tells how many classes are needed
        found = estimate(first, of_first, lambda is_good, _: is_pilot | (~is_good & (num_rounds > 1)))
        goes_on, classes = is_pilot | (~found.is_good & (num_rounds > 1)), found.classes.clamp(least, most)
        wanted = torch.where(found.ess < self._enough, torch.inf, found.growth.clamp(min=1))
        for below, times in zip((0, *GROWTH), GROWTH, strict=False):
            is_here = goes_on & (wanted > below) & ((wanted <= times) | (times == GROWTH[-1]))
            num = round(times * self._num_draws)
            for rows in is_here.nonzero().flatten().split(max(1, self._at_once // num)) if bool(is_here.any()) else ():
                second, may_go_on = first.of_rows(rows), num_rounds[rows] > 2
                if num > self._num_draws:
                    second = second.joined(self._drawn(codes[rows], num - self._num_draws, 1, last))

                def is_poor(_: Tensor, ess: Tensor, may_go_on: Tensor = may_go_on) -> Tensor:
                    return (ess < self._enough) & may_go_on

                found = _replaced(found, rows, estimate(second, classes[rows], is_poor))
                for place in is_poor(rows, found.ess[rows]).nonzero():
                    more = self._drawn(codes[rows[place]], LAST_GROWTH * self._num_draws - num, 2, last)
                    third = second.of_rows(place).joined(more)
                    ends = estimate(third, 2 * classes[rows[place]], lambda is_good, _: torch.zeros_like(is_good))
                    found = _replaced(found, rows[place], ends)
        return found

    def _drawn(self, codes: Tensor, num: int, number: int, last: int | None) -> _Pool:
        """New draws of the round with that number."""
        stream = RowStream(row_keys(codes), self._seed, draw=number)
        drawn = shared_draws(self._rough, codes, stream, num, last=last, log_weights=self._log_weights)
        different, inverse, origin = of_different(drawn.names, drawn.codes)
        f = in_batches(self._f_of(codes), different, origin).double()
        log_weights = f[inverse] - drawn.log_prob
        start = stream.at(codes.shape[1]).uniform(log_weights[:, :1].expand(-1, 2))
        return _Pool(log_weights, drawn.names_before, drawn.codes, start, drawn.probs_of_last, drawn.index_of_last)

    def _f_of(self, codes: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Rough F of completed rows, from them and the row that each comes from."""
        known = self._rough.known(codes)
        return lambda completed, origin: self._rough.log_density(completed, known.at(origin))

    def _corrections(self, codes: Tensor) -> Tensor:
        """F - rough F of complete rows, shape (N,), nats, float64."""
        return in_batches(self._energy, codes).double() - in_batches(self._rough.log_density, codes).double()

    def _log_mean(self, pool: _Pool, goes_on: _GoesOn) -> Estimates:
        peak = pool.log_weights.amax(dim=1, keepdim=True)
        shares = _whole(torch.exp, pool.log_weights - peak)
        total, num_draws = shares.cumsum(dim=1)[:, -1:], shares.shape[1]
        shares = shares / total
        # As the jackknife over draws has it, between neighbours.
        left_out = -_whole(torch.log1p, -shares.clamp(max=ALL_WEIGHT))
        square = squares_of_neighbours(left_out[:, :, None])[:, 0] * ((num_draws - 1) / num_draws)
        square = torch.where((shares < ALL_WEIGHT).all(dim=1), square, torch.inf)
        growth, ess = square / SCORE_ERROR**2, effective_size(pool.log_weights)
        kept, weights, chance = resampled_draws(
            shares, torch.full_like(pool.before[:, 0], EXACT_DRAWS), pool.start[:, :1]
        )
        rows, draws = (kept & ~goes_on(growth <= 1, ess)[:, None]).nonzero(as_tuple=True)
        weights, chance = weights[rows, draws], chance[rows, draws]
        ratios = _whole(torch.exp, self._corrections(pool.codes[rows, draws])) - 1
        mean = torch.zeros_like(peak[:, 0]).index_add_(0, rows, weights * ratios)
        chosen = (1 - chance) * (weights * (ratios - mean[rows])).square()
        error = square.index_add(0, rows, chosen).sqrt()
        value = _whole(torch.log, torch.stack([total[:, 0] / num_draws, 1 + mean])).cumsum(dim=0)[-1] + peak[:, 0]
        return Estimates(value, error, ess, growth <= 1, growth, torch.ones_like(growth))

    def _averaged(
        self, pool: _Pool, column: int, num_classes: Tensor, goes_on: _GoesOn, readout: Tensor | None
    ) -> Estimates:
        num_draws = pool.log_weights.shape[1]
        shares = _whole(torch.exp, pool.log_weights - pool.log_weights.amax(dim=1, keepdim=True))
        shares = shares / shares.cumsum(dim=1)[:, -1:]
        known = (shares < ALL_WEIGHT).all(dim=1)
        odds = shares / (1 - shares.clamp(max=ALL_WEIGHT))
        # Draws with the same beginning m count as one, at the first of them, with the sum of their shares.
        first = first_of_equals(pool.before)
        of_group = torch.zeros_like(shares).scatter_add_(1, first, shares)
        squares = torch.zeros_like(shares).scatter_add_(1, first, odds.square()) * ((num_draws - 1) / num_draws)
        num_kept = (pool.of_last >= NEGLIGIBLE).sum(dim=1)
        cost = (shares * num_kept[pool.places]).cumsum(dim=1)[:, -1].clamp(min=1)  # classes of a conditional
        num = (num_classes / cost).long().clamp(min=MIN_CONDITIONALS)
        kept, weights, chance = resampled_draws(of_group, num, pool.start[:, :1])
        total = torch.where(kept, weights, 0).cumsum(dim=1)[:, -1:]
        rows, draws = kept.nonzero(as_tuple=True)
        proposed = pool.of_last[pool.places[rows, draws]]
        rough, f = self._conditionals(pool.codes[rows, draws], column, proposed)
        level = ChosenDraws(rows, weights[rows, draws], chance[rows, draws])
        probs = embedding_bag(pool.places, pool.of_last, per_sample_weights=shares, mode="sum")
        least = level.summed(rough, len(shares)) / 8
        uncorrected = probs + level.summed(rough - proposed, len(shares))
        spreads = (squares[rows, draws] / chance[rows, draws] * self._design_effect(pool, odds)[rows])[:, None]

        def errors_of(read: Tensor | None, probs: Tensor) -> tuple[Tensor, Tensor]:
            """Squared errors of what is read out of probabilities: by the number of draws, and of conditionals."""
            shifts = read_out(rough, read) - read_out(probs, read)[rows]
            spread = shifts.new_zeros(len(shares), shifts.shape[1]).index_add_(0, rows, spreads * shifts.square())
            return spread, level.square(read_out(rough - proposed, read), len(shares))

        # Whatever is read out, so that every question about a row is answered from the same draws.
        # A half of the sum of mean distances, .8 errors each. With few effective draws the error itself is not known.
        squared = errors_of(None, _normalised(torch.maximum(uncorrected, least)))
        ess, of_both = effective_size(pool.log_weights), expected_distance(squared[0] + squared[1])
        is_good = (of_both <= DISTANCE) & (ess >= self._enough)
        spent = kept.sum(dim=1) * cost
        growth, classes = cheapest_numbers(
            expected_distance(squared[0]), expected_distance(squared[1]), num_draws, spent, DISTANCE
        )
        num = (EXACT_CLASSES / cost).long().clamp(min=MIN_EXACT)
        is_exact, of_exact, chance_of_exact = resampled_draws(
            torch.where(kept, weights, 0) / total, num, pool.start[:, 1:]
        )
        is_exact = is_exact & ~goes_on(is_good, ess)[:, None]
        exact = is_exact[rows, draws].nonzero().flatten()
        at = rows[exact], draws[exact]
        last = ChosenDraws(rows[exact], (total * of_exact)[at], chance_of_exact[at])
        ratios = self._ratios(pool.codes[at], column, f[exact])
        probs = _normalised(torch.maximum(uncorrected + last.summed(rough[exact] * ratios, len(shares)), least))
        if readout is not None:
            squared = errors_of(readout, probs)
        of_ratios = last.square_of_ratios(rough[exact], ratios, readout, read_out(probs, readout))
        error = torch.where(known[:, None], (squared[0] + squared[1] + of_ratios).sqrt(), torch.inf)
        return Estimates(_whole(torch.log, probs), error, ess, is_good, growth, classes)

    def _design_effect(self, pool: _Pool, odds: Tensor) -> Tensor:
        """Mean square of differences between neighbours over that of independent draws, at most 1, shape (N,).

        Of random projections of weighted r(k | m_s).
        """
        numbers = torch.arange(NUM_PROJECTIONS * pool.of_last.shape[1], device=odds.device)
        signs = (2 * (splitmix64(numbers) & 1) - 1).to(odds).view(NUM_PROJECTIONS, -1)
        projected = in_batches(lambda rows: linear_by_row(rows, signs), pool.of_last)[pool.places]  # (N, D, P)
        shares = odds / odds.cumsum(dim=1)[:, -1:]
        center = (shares[:, :, None] * projected).cumsum(dim=1)[:, -1:]
        shifts = odds[:, :, None] * (projected - center)
        of_all = shifts.square().cumsum(dim=1)[:, -1].cumsum(dim=1)[:, -1]
        of_neighbours = squares_of_neighbours(shifts).cumsum(dim=1)[:, -1]
        return torch.where(of_all > 0, of_neighbours / of_all.clamp(min=1e-300), 1.0).clamp(max=1)

    def _conditionals(self, codes: Tensor, column: int, proposed: Tensor) -> tuple[Tensor, Tensor]:
        """p'(k | all other columns), and rough F there, shape (U, K_j), float64.

        Classes that are negligible keep their r(k | m); rough F is -inf there.
        """
        is_kept = proposed >= NEGLIGIBLE
        total = torch.where(is_kept, proposed, 0).cumsum(dim=1)[:, -1:]
        rows, classes = is_kept.nonzero(as_tuple=True)
        others = codes.clone()
        others[:, column] = -1
        asked = codes[rows]
        asked[:, column] = classes
        found = in_batches(self._f_of(others), asked, rows).double()
        f = torch.full_like(proposed, -torch.inf).index_put((rows, classes), found)
        return f.softmax(dim=1) * total + torch.where(is_kept, 0, proposed), f

    def _ratios(self, codes: Tensor, column: int, f: Tensor) -> Tensor:
        """exp(F - rough F) - 1, shape (U, K_j), float64; 0 where rough F was not evaluated."""
        rows, classes = f.isfinite().nonzero(as_tuple=True)
        asked = codes[rows]
        asked[:, column] = classes
        shifts = in_batches(self._energy, asked).double() - f[rows, classes]
        return torch.zeros_like(f).index_put((rows, classes), _whole(torch.exp, shifts) - 1)


def _normalised(probs: Tensor) -> Tensor:
    return probs / probs.cumsum(dim=1)[:, -1:]


def _replaced(found: Estimates, rows: Tensor, new: Estimates) -> Estimates:
    """With new estimates of some rows."""
    return Estimates(*(old.index_copy(0, rows, each) for old, each in zip(found, new, strict=True)))


def _whole(function: Callable[[Tensor], Tensor], entries: Tensor) -> Tensor:
    """A function of each entry, evaluated in whole vectors: torch rounds those at the end of a batch otherwise."""
    flat = entries.flatten()
    return function(pad(flat, (0, -len(flat) % WHOLE_VECTOR)))[: len(flat)].reshape(entries.shape)
