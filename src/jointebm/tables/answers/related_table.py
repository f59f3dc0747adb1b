"""A fitted table whose columns are related: a model of some columns, and relations that rebuild the others.

    log p(row) = log p(columns of the model)   if the row keeps all relations, else -inf

The density is one with respect to the measure of the columns of the model; the others have point masses given those.

Legend: N rows, K_j codes of column j, D draws, C candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.related_draws import (
    Candidates,
    bound_by_sums,
    bound_roots,
    completed,
    mixed_keys,
    rows_of_model,
    weighted_candidates,
    with_known,
)
from jointebm.tables.answers.related_evidence import RelatedEvidence, agrees
from jointebm.tables.answers.related_predictions import distribution_of, predicted_by_one
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import MISSING_CODE, Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.work_table import Work, concatenated, missing_in_any, overlaid, taken

__all__ = ["RelatedRows", "RelatedTable"]

NUM_PROPOSED = 64  # values of sums, of a sample given a sum
CANDIDATES_PER_DRAW = 32  # of a draw that several columns of the model are bound for
MAX_REDRAWS = 50  # of redrawing
ROWS_PER_BLOCK = 1024  # rows at a time


class RelatedRows(NamedTuple):
    """Rows of a table, and what the relations determine of them."""

    table: Mapping[Name, Column]  # as asked
    num_rows: int
    keys: Tensor  # (N,), int64
    work: Work
    is_broken: np.ndarray  # (N,), a relation is contradicted


@dataclass(frozen=True, eq=False)
class RelatedTable:
    """Answers about rows of one table; the same questions as those to a `FittedTable`.

    Args:
        codec: all columns of the table.
        system: the relations.
        model: density over the codes of the columns of the model.
        parameters: of answers.
    """

    codec: TableCodec
    system: RelationSystem
    model: TableModel
    parameters: Parameters

    @property
    def core(self) -> FittedTable:
        """The columns of the model alone."""
        return FittedTable(codec=self.system.codec, model=self.model, parameters=self.parameters)

    def rows(self, table: Mapping[Name, Column], num_rows: int, *, missing: Sequence[Name] = ()) -> RelatedRows:
        """Reads a table; columns named in `missing` count as missing."""
        read = replace(self.core, codec=self.codec).rows(table, num_rows, missing=missing)
        known = {}
        for place, coded in enumerate(self.codec.columns):
            if coded.name in read.table:
                column = coded.converted(read.table[coded.name])
                unseen = (read.codes[:, place] == MISSING_CODE).numpy()
                known[coded.name] = column._replace(is_missing=column.is_missing | unseen)
        work = self.system.open(known, num_rows)
        return RelatedRows(read.table, num_rows, read.keys, work, self.system.broken(work))

    def log_predictive(self, rows: RelatedRows, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries), shape (N, K_j), nats, float64.

        Exact as that of a `FittedTable` where one column of the model decides; else an average over `num_draws` candidates.
        """
        coded, core = self.codec.columns[self.codec.index(name)], self.core
        work, parts = rows.work, self.system.ancestors.get(name, (name,))
        if isinstance(coded.codec, IgnoredCodec):
            return np.zeros((rows.num_rows, 1))
        probs = np.zeros((rows.num_rows, coded.codec.num_codes))
        known = ~work[name].is_missing
        probs[known, coded.codec.encode(work[name].values[known])] = 1.0
        bound = self._bound(rows)
        num_unknown = np.sum([work[part].is_missing for part in parts], axis=0)
        for part in parts:
            one = np.flatnonzero(~known & ~bound & (num_unknown == 1) & work[part].is_missing)
            if len(one):
                sub = taken(work, one)
                log_probs = core.log_predictive(rows_of_model(core, self.system, sub, rows.keys[one]), part)
                probs[one] = predicted_by_one(self.system, sub, part, log_probs, coded)
        many = np.flatnonzero(~known & (bound | (num_unknown != 1)))
        for some in _blocks(many, ROWS_PER_BLOCK // 8):
            sub = taken(work, some)
            candidates = weighted_candidates(core, self.system, sub, rows.keys[some], self.parameters.num_draws)
            is_free = name in self.system.codec.names and not any(
                name in self.system.ancestors[each] for each in self.system.ancestors
            )
            probs[some] = distribution_of(core, self.system, candidates, coded, is_free=is_free)
        with np.errstate(divide="ignore"):
            return np.log(probs / probs.sum(axis=1, keepdims=True))

    def impute(self, rows: RelatedRows, *, num_draws: int) -> Iterator[dict[Name, Column]]:
        """Joint draws of the missing entries of each row that keep the relations; observed entries stay as they are."""
        bound = self._bound(rows)
        free, tied = np.flatnonzero(~bound), np.flatnonzero(bound)
        core = self.core
        sub = taken(rows.work, free)
        questions = rows_of_model(core, self.system, sub, rows.keys[free])
        for draw, drawn in enumerate(core.impute(questions, num_draws=num_draws) if len(free) else [None] * num_draws):
            parts: Work = taken(rows.work, np.arange(rows.num_rows))
            if drawn is not None:
                whole = completed(core, self.system, sub, questions.keys, drawn)
                parts = overlaid(parts, free, with_known(self.system.close(whole, len(free)), sub))
            if len(tied):
                keys = mixed_keys(rows.keys[tied], draw)
                parts = overlaid(parts, tied, self._chosen(taken(rows.work, tied), keys))
            yield self._of_table(self._redrawn(rows, parts, draw))

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> dict[Name, Column]:
        """Draws rows number `first`, `first + 1`, ... given evidence; None is the seed of the model.

        Evidence about a rebuilt column holds for the columns that it is computed from if a map rebuilds it. A value of a sum
        binds its parts; intervals and sets of sums are kept by drawing again.

        Raises:
            ValueError: no row agrees with the evidence, or hardly any; names a column.
        """
        self.codec.log_weights(evidence)  # raises for evidence that no column can have
        found = RelatedEvidence.of(self.system, self.codec, evidence)
        seed = self.parameters.seed if seed is None else seed
        parts = []
        for start in range(first, first + max(num, 1), ROWS_PER_BLOCK):
            count = min(ROWS_PER_BLOCK, first + num - start)
            parts.append(self._sampled(count, found, evidence, seed, start))
        return self._of_table(concatenated(parts))

    def log_density(self, rows: RelatedRows) -> np.ndarray:
        """log p of the observed entries of each row, missing ones marginalised, shape (N,), nats, float64.

        -inf for rows that contradict a relation. In the units of the columns of the model; rebuilt ones have point masses.
        Where known sums bind missing parts, an estimate over `num_draws` candidates.
        """
        core = self.core
        scores = core.log_density(rows_of_model(core, self.system, rows.work, rows.keys))
        bound = np.flatnonzero(self._bound(rows) & ~rows.is_broken)
        for some in _blocks(bound, ROWS_PER_BLOCK // 8):
            sub = taken(rows.work, some)
            num = self._num_candidates(sub, self.parameters.num_draws)
            for count in np.unique(num):
                these = np.flatnonzero(num == count)
                found = weighted_candidates(core, self.system, taken(sub, these), rows.keys[some[these]], int(count))
                scores[some[these]] += np.logaddexp.reduce(found.log_weights, axis=0) - np.log(count)
        scores[rows.is_broken] = -np.inf
        return scores

    def dependence(self, rows: RelatedRows) -> np.ndarray:
        """Dependence of the observed entries of each row, shape (N,), nats: that of the columns of the model.

        -inf for rows that contradict a relation. A known sum with missing parts adds nothing.
        """
        return self._of_core(rows, self.core.dependence(rows_of_model(self.core, self.system, rows.work, rows.keys)))

    def conditional_surprise(self, rows: RelatedRows) -> np.ndarray:
        """Mean of log p(code | other codes of the row) over observed columns of the model, shape (N,), nats.

        -inf for rows that contradict a relation.
        """
        questions = rows_of_model(self.core, self.system, rows.work, rows.keys)
        return self._of_core(rows, self.core.conditional_surprise(questions))

    def conditional_log_score(self, rows: RelatedRows, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries of the row) of each entry, shape (N, len(names)), nats; NaN where missing.

        Zero for an entry that relations determine; of a column in a relation the difference of two `log_density`.
        """
        core, related = self.core, {name for each in self.system.relations for name in each.columns}
        scores = np.full((rows.num_rows, len(names)), np.nan)
        total: np.ndarray | None = None
        for place, name in enumerate(names):
            self.codec.index(name)
            if name not in rows.table:
                continue
            seen = ~rows.table[name].is_missing
            if name not in related and not self._bound(rows).any():
                questions = rows_of_model(core, self.system, rows.work, rows.keys)
                of_name = core.conditional_log_score(questions, [name])[:, 0]
            else:
                total = self.log_density(rows) if total is None else total
                with np.errstate(invalid="ignore"):
                    of_name = total - self.log_density(self.rows(rows.table, rows.num_rows, missing=[name]))
            scores[seen, place] = np.where(rows.is_broken, -np.inf, of_name)[seen]
        return scores

    def _of_core(self, rows: RelatedRows, scores: np.ndarray) -> np.ndarray:
        return np.where(rows.is_broken, -np.inf, scores)

    def _bound(self, rows: RelatedRows) -> np.ndarray:
        """Rows in which known rebuilt columns bind missing columns of the model, bool (N,)."""
        return self._bound_work(rows.work)

    def _bound_work(self, work: Work) -> np.ndarray:
        masks = [*bound_roots(self.system, work).values(), *bound_by_sums(self.system, work).values()]
        return np.logical_or.reduce([np.zeros(len(next(iter(work.values())).values), dtype=bool), *masks])

    def _num_candidates(self, work: Work, most: int) -> np.ndarray:
        """One where a single level is to be drawn, which is exact; shape (n,)."""
        num_rows = len(next(iter(work.values())).values)
        roots, sums = np.zeros(num_rows, dtype=np.int64), np.zeros(num_rows, dtype=bool)
        for rows in bound_roots(self.system, work).values():
            roots += rows
        for rows in bound_by_sums(self.system, work).values():
            sums |= rows
        return np.where((roots <= 1) & ~sums, 1, most)

    def _chosen(self, work: Work, keys: Tensor, *, at_least: int = 1) -> Work:
        """One completion of each row, by the weights of candidates."""
        num_rows = len(keys)
        result = taken(work, np.arange(num_rows))
        num = np.maximum(self._num_candidates(work, CANDIDATES_PER_DRAW), at_least)
        for count in np.unique(num):
            for these in _blocks(np.flatnonzero(num == count), ROWS_PER_BLOCK):
                some = keys[torch.from_numpy(these)]
                found = weighted_candidates(self.core, self.system, taken(work, these), some, int(count))
                chosen = self._choose(found, some)
                result = overlaid(result, these, taken(found.work, chosen * len(these) + np.arange(len(these))))
        return result

    def _choose(self, found: Candidates, keys: Tensor) -> np.ndarray:
        """The number of one candidate of each row; not refused if there is one, and fitting if there is one."""
        log_weights: np.ndarray = np.where(found.is_refused, found.log_weights - 1e6, found.log_weights).T
        lost = np.isneginf(log_weights).all(axis=1)
        log_weights[lost] = np.where(found.is_broken.T[lost], -1e6, 0.0)
        stream = RowStream(mixed_keys(keys, 4), self.parameters.seed)
        return stream.choose(torch.from_numpy(log_weights)).numpy()

    def _redrawn(self, rows: RelatedRows, complete: Work, draw: int) -> Work:
        """The rows with refused draws drawn again, some of which may stay outside the ranges of training."""
        for number in range(MAX_REDRAWS):
            refused = self.system.refused(complete) & missing_in_any(rows.work, self.codec.names) & ~rows.is_broken
            if not refused.any():
                break
            some = np.flatnonzero(refused)
            keys = mixed_keys(rows.keys[torch.from_numpy(some)], draw, number + 1)
            again = self._chosen(taken(rows.work, some), keys, at_least=CANDIDATES_PER_DRAW)
            complete = overlaid(complete, some, again)
            if number and not (~self.system.refused(again)).any():
                break  # nothing in range is to be found
        return complete

    def _sampled(
        self, num: int, found: RelatedEvidence, evidence: Mapping[Name, Evidence], seed: int, first: int
    ) -> Work:
        """Rows that agree with the evidence; draws that do not are drawn again."""
        core, kept = self.core, None
        left = np.arange(num)
        for number in range(MAX_REDRAWS // 5 if found.rest else MAX_REDRAWS):
            if found.rest:
                keys = mixed_keys(torch.arange(first, first + num), seed, number)
                work = self._sampled_by_sums(found, evidence, keys)
            else:
                drawn = core.sample(num, evidence=found.of_model, seed=_seed(seed, number), first=first)
                work = self.system.close(drawn, num)
            kept = work if kept is None else overlaid(kept, left, taken(work, left))
            wrong = self._disagrees(kept, evidence)
            left = np.flatnonzero(wrong | self.system.refused(kept))
            if not len(left):
                return kept
        assert kept is not None
        if wrong.any():
            raise ValueError(found.refusal(self.system, int(wrong.sum()), num))
        return kept  # with rebuilt numbers outside the range of training

    def _sampled_by_sums(self, found: RelatedEvidence, evidence: Mapping[Name, Evidence], keys: Tensor) -> Work:
        """Rows whose sums agree with the evidence: values of the sums are proposed, and weighed."""
        num, num_rows = NUM_PROPOSED, len(keys)
        all_keys = mixed_keys(keys.repeat(num), torch.arange(num).repeat_interleave(num_rows), 5)
        uniforms = RowStream(all_keys, self.parameters.seed).uniform(
            torch.empty(len(all_keys), 2 * len(found.rest), dtype=torch.float64)
        )
        table, log_proposed = found.proposed(self.codec, evidence, uniforms.numpy())
        candidates = weighted_candidates(self.core, self.system, self.system.open(table, len(all_keys)), keys, num)
        log_weights = candidates.log_weights - log_proposed.reshape(num, num_rows)
        log_weights[self._disagrees(candidates.work, evidence).reshape(num, num_rows)] = -np.inf
        chosen = self._choose(candidates._replace(log_weights=log_weights), keys)
        return taken(candidates.work, chosen * num_rows + np.arange(num_rows))

    def _disagrees(self, work: Work, evidence: Mapping[Name, Evidence]) -> np.ndarray:
        """Rows that break a relation or contradict the evidence, bool (n,)."""
        wrong = self.system.broken(work)
        for name, known in evidence.items():
            wrong |= ~agrees(self.codec.columns[self.codec.index(name)], known, work[name])
        return wrong

    def _of_table(self, work: Work) -> dict[Name, Column]:
        return {name: work[name] for name in self.codec.names}


def _seed(seed: int, number: int) -> int:
    """Another seed for draws that are drawn again."""
    return (seed + number * 0x9E3779B97F4A7C15) % 2**63


def _blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
