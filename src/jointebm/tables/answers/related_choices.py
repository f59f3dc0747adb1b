"""Draws of rows that keep the relations: one completion of each row, chosen among weighted candidates.

Legend: N rows, C candidates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.fitted import AskedRows, FittedTable
from jointebm.tables.answers.related_diagnostics import with_rows
from jointebm.tables.answers.related_draws import (
    Candidates,
    are_weighed,
    bound_by_sums,
    bound_roots,
    mixed_keys,
    weighted_candidates,
)
from jointebm.tables.answers.related_evidence import RelatedEvidence
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, fill, overlaid, taken

__all__ = ["ROWS_PER_BLOCK", "RelatedChoices", "blocks"]

CANDIDATES_PER_DRAW = 32  # of a draw that several columns of the model are bound for
MANY_CANDIDATES, FEW = 512, 4.0  # of a draw that has fewer effective ones than this
MAX_REDRAWS = 50  # of redrawing
ROWS_PER_BLOCK = 1024  # rows at a time


@dataclass(frozen=True, eq=False)
class RelatedChoices:
    """Candidates and draws for a `RelatedTable`.

    Args:
        core: the columns of the model.
        system: the relations.
        codec: all columns of the table.
        evidence: about missing entries.
    """

    core: FittedTable
    system: RelationSystem
    codec: TableCodec
    evidence: RelatedEvidence

    def are_tied(self, work: Work, *, but: Name | None = None) -> np.ndarray:
        """Rows that are answered by candidates, bool (N,): known entries or evidence bind columns of the model together.

        Args:
            work: N rows.
            but: a column of the model that others may bind.
        """
        roots = bound_roots(self.system, work)
        if but is not None:
            roots.pop(but, None)
        masks = [*roots.values(), *bound_by_sums(self.system, work).values(), self._proposed(work)]
        return np.logical_or.reduce(masks)

    def are_weighed(self, work: Work) -> np.ndarray:
        """Rows whose candidates differ in weight, bool (N,), of those that are tied."""
        return are_weighed(self.system, work, self.evidence.of_roots) | self._proposed(work)

    def candidates(self, work: Work, keys: Tensor, num: int) -> Candidates:
        """C candidates of each of N rows, whose weights have the mean p(what binds | what the model knows).

        Values of sums that are given in part are proposed from their marginals, and weighed.

        Raises:
            ValueError: the evidence leaves no row.
        """
        if not self._proposed(work).any():
            found = weighted_candidates(self.core, self.system, work, keys, num, self.evidence)
            return self._judged(found, work)
        num_rows = len(keys)
        base = taken(work, np.tile(np.arange(num_rows), num))
        spread = taken(base, np.arange(num * num_rows))
        numbers = torch.arange(num).repeat_interleave(num_rows)
        stream = RowStream(mixed_keys(keys.repeat(num), numbers, 5), self.core.parameters.seed)
        uniforms = stream.uniform(torch.empty(num * num_rows, 2 * len(self.evidence.rest), dtype=torch.float64)).numpy()
        log_weights = np.zeros(num * num_rows)
        for place, name in enumerate(self.evidence.rest):
            rows = spread[name].is_missing.copy()
            values, log_proposed = self.evidence.proposed(self.codec, name, uniforms[:, 2 * place : 2 * place + 2])
            fill(spread, name, rows, values[rows])
            log_weights[rows] -= log_proposed[rows]
        deduce_all(spread, self.system.relations)
        log_weights += self._log_ratio(spread, base)
        found = weighted_candidates(self.core, self.system, spread, keys, num, self.evidence)
        weighed = found.is_weighed | torch.from_numpy(self._proposed(work))
        log_weights = found.log_weights + log_weights.reshape(num, num_rows)
        is_broken = found.is_broken | (self.system.broken(found.work) & ~self.system.broken(base)).reshape(
            num, num_rows
        )
        log_weights[is_broken] = -np.inf
        found = found._replace(log_weights=log_weights, is_broken=is_broken, is_weighed=weighed)
        return self._judged(found, work)

    def chosen(self, work: Work, keys: Tensor, *, at_least: int = 1) -> Answer[Work]:
        """One completion of each row, by the weights of candidates; `at_least` so many."""
        num_rows = len(keys)
        result, diagnostics = taken(work, np.arange(num_rows)), Diagnostics.of_exact(num_rows)
        weighed = self.are_weighed(work)
        num = np.maximum(np.where(weighed, CANDIDATES_PER_DRAW, 1), at_least)
        for count in np.unique(num):
            size = ROWS_PER_BLOCK * CANDIDATES_PER_DRAW // max(CANDIDATES_PER_DRAW, int(count))
            for these in blocks(np.flatnonzero(num == count), size):
                some = keys[torch.from_numpy(these)]
                found = self.candidates(taken(work, these), some, int(count))
                chosen = self._choose(found, some)
                result = overlaid(result, these, taken(found.work, chosen * len(these) + np.arange(len(these))))
                diagnostics = with_rows(diagnostics, these, found.diagnostics)
        poor = np.flatnonzero(weighed & (diagnostics.ess < FEW).numpy())
        if len(poor) and at_least < MANY_CANDIDATES:
            again = self.chosen(taken(work, poor), keys[torch.from_numpy(poor)], at_least=MANY_CANDIDATES)
            return Answer(overlaid(result, poor, again.value), with_rows(diagnostics, poor, again.diagnostics))
        return Answer(result, diagnostics)

    def redrawn(self, work: Work, complete: Work, keys: Tensor, is_drawn: np.ndarray) -> Answer[Work]:
        """Complete rows with refused draws drawn again, some of which may stay outside the ranges of training.

        The diagnostics are those of the last draw of each row; rows that are not drawn again count as exact.

        Args:
            work: what is known of N rows.
            complete: the same rows, drawn.
            keys: of their streams.
            is_drawn: rows that may be drawn again, bool (N,).

        Raises:
            ValueError: rows agree with the evidence in no draw.
        """
        diagnostics = Diagnostics.of_exact(len(keys))
        for number in range(MAX_REDRAWS):
            some = np.flatnonzero(self.are_refused(complete, work) & is_drawn)
            if not len(some):
                return Answer(complete, diagnostics)
            others = mixed_keys(keys[torch.from_numpy(some)], number + 1)
            again = self.chosen(taken(work, some), others, at_least=CANDIDATES_PER_DRAW)
            complete = overlaid(complete, some, again.value)
            diagnostics = with_rows(diagnostics, some, again.diagnostics)
            if number and self.are_refused(again.value, taken(work, some)).all():
                break  # nothing in range is to be found
        wrong = self.are_wrong(complete) & is_drawn
        if wrong.any():
            raise ValueError(self.evidence.refusal(self.system, int(wrong.sum()), len(wrong)))
        return Answer(complete, diagnostics)

    def are_refused(self, complete: Work, work: Work) -> np.ndarray:
        """Draws to be drawn again, of rows of which `work` is known, bool (N,)."""
        return self.system.refused(complete) | self._are_surprises(complete, work) | self.are_wrong(complete)

    def are_wrong(self, work: Work) -> np.ndarray:
        """Rows of a complete table that contradict the evidence, bool (N,)."""
        wrong = self.evidence.disagrees(self.codec, work)
        return wrong | self.system.broken(work) if self.evidence.asked else wrong

    def require_some(self, candidates: Candidates) -> None:
        """Raises ValueError if all candidates of a row contradict the evidence."""
        lost = ~(candidates.log_weights > -np.inf).any(axis=0)
        if self.evidence.asked and lost.any():
            raise ValueError(self.evidence.refusal(self.system, int(lost.sum()), lost.size))

    def _proposed(self, work: Work) -> np.ndarray:
        """Rows with a missing sum that is given in part, bool (N,)."""
        none = np.zeros(len(next(iter(work.values())).values), dtype=bool)
        return np.logical_or.reduce([none, *(work[name].is_missing for name in self.evidence.rest)])

    def _log_ratio(self, spread: Work, base: Work) -> np.ndarray:
        """log of p(known columns of the model and evidence) of candidates over that of their rows, shape (C * N,), nats."""
        new: list[np.ndarray] = [base[name].is_missing & ~spread[name].is_missing for name in self.system.codec.names]
        rows = np.flatnonzero(np.logical_or.reduce(new))
        ratio = np.zeros(new[0].shape)
        for work, sign in ((spread, 1), (base, -1)) if len(rows) else ():
            table = self.system.of_model(taken(work, rows))
            codes = self.core.rows(table, len(rows)).codes
            different, origin = codes.unique(dim=0, return_inverse=True)
            scores = self.core.log_density(AskedRows({}, different, self.evidence.of_others)).value[origin.numpy()]
            ratio[rows] += sign * (scores + self.core.codec.log_prob(table, codes.numpy()).sum(axis=1))
        return ratio

    def _judged(self, found: Candidates, work: Work) -> Candidates:
        """With no weight on candidates that contradict the evidence, and surprises to be drawn again."""
        shape = found.log_weights.shape
        wrong = self.evidence.disagrees(self.codec, found.work).reshape(shape)
        base = taken(work, np.tile(np.arange(shape[1]), shape[0]))
        is_refused = found.is_refused | self._are_surprises(found.work, base).reshape(shape)
        return found._replace(log_weights=np.where(wrong, -np.inf, found.log_weights), is_refused=is_refused)

    def _are_surprises(self, complete: Work, work: Work) -> np.ndarray:
        """Rows with a drawn number that is none of training: beyond its range, or in a gap, bool (N,)."""
        found = np.zeros(len(next(iter(work.values())).values), dtype=bool)
        for coded in self.core.codec.columns:
            rows = np.flatnonzero(work[coded.name].is_missing)
            if isinstance(coded.codec, NumberCodec) and len(rows):
                found[rows] |= coded.codec.log_surprise(complete[coded.name].values[rows]) < 0
        return found

    def _choose(self, found: Candidates, keys: Tensor) -> np.ndarray:
        """The number of one candidate of each row; not refused if there is one, and fitting if there is one."""
        log_weights: np.ndarray = np.where(found.is_refused, found.log_weights - 1e6, found.log_weights).T
        lost = np.isneginf(log_weights).all(axis=1)
        log_weights[lost] = np.where(found.is_broken.T[lost], -1e6, 0.0)
        stream = RowStream(mixed_keys(keys, 4), self.core.parameters.seed)
        return stream.choose(torch.from_numpy(log_weights)).numpy()


def blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in parts of at most this size."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
