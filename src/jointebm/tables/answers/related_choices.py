"""Draws of rows that keep the relations: one completion of each row, chosen among weighted candidates, and whole samples.

Legend: N rows, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.related_diagnostics import of_rows, with_rows
from jointebm.tables.answers.related_draws import Candidates, are_weighed, mixed_keys, weighted_candidates
from jointebm.tables.answers.related_evidence import RelatedEvidence, agrees
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.work_table import Work, concatenated, overlaid, taken

__all__ = ["CANDIDATES_PER_DRAW", "MAX_REDRAWS", "ROWS_PER_BLOCK", "RelatedChoices", "blocks"]

NUM_PROPOSED = 64  # values of sums, of a sample given a sum
CANDIDATES_PER_DRAW = 32  # of a draw that several columns of the model are bound for
MANY_CANDIDATES, FEW = 512, 4.0  # of a draw that has fewer effective ones than this
MAX_REDRAWS = 50  # of redrawing
ROWS_PER_BLOCK = 1024  # rows at a time


@dataclass(frozen=True, eq=False)
class RelatedChoices:
    """Draws for a `RelatedTable`.

    Args:
        core: the columns of the model.
        system: the relations.
        codec: all columns of the table.
    """

    core: FittedTable
    system: RelationSystem
    codec: TableCodec

    def chosen(self, work: Work, keys: Tensor, *, at_least: int = 1) -> Answer[Work]:
        """One completion of each row, by the weights of candidates; `at_least` so many."""
        num_rows = len(keys)
        result, diagnostics = taken(work, np.arange(num_rows)), Diagnostics.of_exact(num_rows)
        num = np.maximum(np.where(are_weighed(self.system, work), CANDIDATES_PER_DRAW, 1), at_least)
        for count in np.unique(num):
            size = ROWS_PER_BLOCK * CANDIDATES_PER_DRAW // max(CANDIDATES_PER_DRAW, int(count))
            for these in blocks(np.flatnonzero(num == count), size):
                some = keys[torch.from_numpy(these)]
                found = weighted_candidates(self.core, self.system, taken(work, these), some, int(count))
                chosen = self._choose(found, some)
                result = overlaid(result, these, taken(found.work, chosen * len(these) + np.arange(len(these))))
                diagnostics = with_rows(diagnostics, these, found.diagnostics)
        poor = np.flatnonzero(are_weighed(self.system, work) & (diagnostics.ess < FEW).numpy())
        if len(poor) and at_least < MANY_CANDIDATES:
            again = self.chosen(taken(work, poor), keys[torch.from_numpy(poor)], at_least=MANY_CANDIDATES)
            return Answer(overlaid(result, poor, again.value), with_rows(diagnostics, poor, again.diagnostics))
        return Answer(result, diagnostics)

    def sampled(self, num: int, found: RelatedEvidence, evidence: Mapping[Name, Evidence], first: int) -> Answer[Work]:
        """Rows number `first`, `first + 1`, ... that agree with the evidence; draws that do not are drawn again.

        Args:
            num: N.
            found: the evidence, divided.
            evidence: about columns of the table.
            first: number of the first row.

        Raises:
            ValueError: rows agree in no draw.
        """
        parts = [
            self._sampled(min(ROWS_PER_BLOCK, first + num - start), found, evidence, start)
            for start in range(first, first + max(num, 1), ROWS_PER_BLOCK)
        ]
        diagnostics = Diagnostics.joined([part.diagnostics for part in parts])
        return Answer(concatenated([part.value for part in parts]), diagnostics)

    def _sampled(self, num: int, found: RelatedEvidence, evidence: Mapping[Name, Evidence], first: int) -> Answer[Work]:
        kept: Answer[Work] | None = None
        seed, left = self.core.parameters.seed, np.arange(num)
        for number in range(MAX_REDRAWS // 5 if found.rest else MAX_REDRAWS):
            if found.rest:
                keys = mixed_keys(torch.arange(first, first + num), seed, number)
                work, diagnostics = self._sampled_by_sums(found, evidence, keys)
            else:
                answer = self.core.sample(num, evidence=found.of_model, seed=_seed(seed, number), first=first)
                work, diagnostics = self.system.close(answer.value, num), answer.diagnostics
            if kept is None:
                kept = Answer(work, diagnostics)
            else:
                again = with_rows(kept.diagnostics, left, of_rows(diagnostics, left))
                kept = Answer(overlaid(kept.value, left, taken(work, left)), again)
            wrong = self._disagrees(kept.value, evidence)
            left = np.flatnonzero(wrong | self.system.refused(kept.value))
            if not len(left):
                return kept
        assert kept is not None
        if wrong.any():
            raise ValueError(found.refusal(self.system, int(wrong.sum()), num))
        return kept  # with rebuilt numbers outside the range of training

    def _sampled_by_sums(self, found: RelatedEvidence, evidence: Mapping[Name, Evidence], keys: Tensor) -> Answer[Work]:
        """Rows whose sums agree with the evidence: values of the sums are proposed, and weighed."""
        num, num_rows = NUM_PROPOSED, len(keys)
        all_keys = mixed_keys(keys.repeat(num), torch.arange(num).repeat_interleave(num_rows), 5)
        uniforms = RowStream(all_keys, self.core.parameters.seed).uniform(
            torch.empty(len(all_keys), 2 * len(found.rest), dtype=torch.float64)
        )
        table, log_proposed = found.proposed(self.codec, evidence, uniforms.numpy())
        candidates = weighted_candidates(self.core, self.system, self.system.open(table, len(all_keys)), keys, num)
        log_weights = candidates.log_weights - log_proposed.reshape(num, num_rows)
        log_weights[self._disagrees(candidates.work, evidence).reshape(num, num_rows)] = -np.inf
        weighed = torch.ones(num_rows, dtype=torch.bool)
        candidates = candidates._replace(log_weights=log_weights, is_weighed=weighed)
        chosen = self._choose(candidates, keys)
        return Answer(taken(candidates.work, chosen * num_rows + np.arange(num_rows)), candidates.diagnostics)

    def _choose(self, found: Candidates, keys: Tensor) -> np.ndarray:
        """The number of one candidate of each row; not refused if there is one, and fitting if there is one."""
        log_weights: np.ndarray = np.where(found.is_refused, found.log_weights - 1e6, found.log_weights).T
        lost = np.isneginf(log_weights).all(axis=1)
        log_weights[lost] = np.where(found.is_broken.T[lost], -1e6, 0.0)
        stream = RowStream(mixed_keys(keys, 4), self.core.parameters.seed)
        return stream.choose(torch.from_numpy(log_weights)).numpy()

    def _disagrees(self, work: Work, evidence: Mapping[Name, Evidence]) -> np.ndarray:
        """Rows that break a relation or contradict the evidence, bool (n,)."""
        wrong = self.system.broken(work)
        for name, known in evidence.items():
            wrong |= ~agrees(self.codec.columns[self.codec.index(name)], known, work[name])
        return wrong


def _seed(seed: int, number: int) -> int:
    """Another seed for draws that are drawn again."""
    return (seed + number * 0x9E3779B97F4A7C15) % 2**63


def blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in parts of at most this size."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
