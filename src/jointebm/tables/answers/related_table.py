"""A fitted table whose columns are related: a model of some columns, and relations that rebuild the others.

    log p(row) = log p(columns of the model)   if the row keeps all relations, else -inf

The density is one with respect to the measure of the columns of the model; the others have point masses given those.

Legend: N rows, K_j codes of column j, D draws, C candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import row_keys
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.sampling.weighted_draws import log_mean_weights
from jointebm.tables.answers.answer_progress import AnswerWatch
from jointebm.tables.answers.fitted import FittedTable, warned
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.related_choices import ROWS_PER_BLOCK, RelatedChoices, blocks
from jointebm.tables.answers.related_diagnostics import except_for, with_rows
from jointebm.tables.answers.related_draws import are_bound, completed, mixed_keys, rows_of_model
from jointebm.tables.answers.related_evidence import RelatedEvidence
from jointebm.tables.answers.related_predictions import distribution_of, predicted_by_one
from jointebm.tables.answers.row_keys import keys_of_draw
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.agreement import DisagreementError, require_agreement
from jointebm.tables.codes.codec import MISSING_CODE, CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, fill, missing_in_any, overlaid, taken, with_known

__all__ = ["RelatedRows", "RelatedTable"]

MIN_CANDIDATES = 2.0  # effective ones that a draw is chosen among, on average
REMEDY = "give the columns that a known sum is computed from, or fit without the relation"


class RelatedRows(NamedTuple):
    """Rows of a table, and what the relations determine of them."""

    table: Mapping[Name, Column]  # as asked
    num_rows: int
    keys: Tensor  # (N,), int64, of estimates: hashes of what is known, so that equal rows have equal estimates
    work: Work
    is_broken: np.ndarray  # (N,), a relation is contradicted
    evidence: Mapping[Name, Evidence]  # about missing entries, as asked
    known: RelatedEvidence  # the same, divided


@dataclass(frozen=True, eq=False)
class RelatedTable:
    """Answers about rows of one table; the same questions as those to a `FittedTable`.

    Args:
        codec: all columns of the table.
        system: the relations.
        model: density over the codes of the columns of the model.
        parameters: of answers.
        members: such densities refitted to bootstrap samples; the relations are those of the fit.
        watch: told of the progress of long questions to the model.
    """

    codec: TableCodec
    system: RelationSystem
    model: TableModel
    parameters: Parameters
    members: tuple[TableModel, ...] = ()
    watch: AnswerWatch = field(default_factory=AnswerWatch)

    @property
    def core(self) -> FittedTable:
        """The columns of the model alone."""
        return FittedTable(self.system.codec, self.model, self.parameters, watch=self.watch)

    def rows(
        self,
        table: Mapping[Name, Column],
        num_rows: int,
        *,
        missing: Sequence[Name] = (),
        evidence: Mapping[Name, Evidence] = MappingProxyType({}),
    ) -> RelatedRows:
        """Reads a table; columns named in `missing` count as missing, and missing entries agree with the evidence.

        Evidence about a rebuilt column is about the columns that it is computed from, where a map or a copy rebuilds it. A
        single value of a sum, or of an end of an order, is known.

        Raises:
            ValueError: an entry, or what entries determine, contradicts the evidence, or no row agrees with it.
        """
        read = replace(self.core, codec=self.codec).rows(table, num_rows, missing=missing, evidence=evidence)
        self.codec.log_weights(evidence)  # raises for evidence that no column can have
        known = {}
        for place, coded in enumerate(self.codec.columns):
            if coded.name in read.table:
                column = coded.converted(read.table[coded.name])
                unseen = (read.codes[:, place] == MISSING_CODE).numpy()
                known[coded.name] = column._replace(is_missing=column.is_missing | unseen)
        work = self.system.open(known, num_rows)
        is_broken = self.system.broken(work)
        related = RelatedEvidence.of(self.system, self.codec, evidence)
        for name, each in evidence.items():
            require_agreement(self.codec.columns[self.codec.index(name)], work[name], each, verb="determines")
        for name, value in related.values.items():
            rows = work[name].is_missing.copy()
            fill(work, name, rows, np.full(int(rows.sum()), value))
            deduce_all(work, self.system.relations)
            wrong = self.system.broken(work) & ~is_broken
            if wrong.any():
                raise DisagreementError(name, int(wrong.argmax()), "breaks a relation with it", "leave an entry out")
        return RelatedRows(read.table, num_rows, row_keys(read.codes), work, is_broken, evidence, related)

    def known(self, rows: RelatedRows) -> list[tuple[CodedColumn, Column]]:
        """The entries of rows that answers condition on: those of the model, and rebuilt ones that bind missing ones."""
        return self.system.known(rows.work, self.codec)

    def with_class(self, rows: RelatedRows, numbers: np.ndarray, name: Name, values: np.ndarray) -> RelatedRows:
        """Some rows, by number and again, with other entries of one column."""
        table = {other: column.take(numbers) for other, column in rows.table.items()}
        coded = self.codec.columns[self.codec.index(name)]
        table[name] = Column(coded.role, values, np.zeros(len(values), dtype=bool), coded.unit)
        return self.rows(table, len(numbers), evidence=rows.evidence)

    def log_predictive(self, rows: RelatedRows, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries), shape (N, K_j), nats, float64."""
        return self.predictive_answer(rows, name).value

    def predictive_answer(
        self, rows: RelatedRows, name: Name, *, readout: np.ndarray | None = None
    ) -> Answer[np.ndarray]:
        """`log_predictive`, with standard errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q).

        Exact where relations determine the entry, and as that of a `FittedTable` where one column of the model decides; else
        an average over `num_draws` weighted candidates.
        """
        coded = self.codec.columns[self.codec.index(name)]
        if name in rows.table:
            rows = self.rows(rows.table, rows.num_rows, missing=[name], evidence=rows.evidence)
        choices, work, parts = self._choices(rows), rows.work, self.system.ancestors.get(name, (name,))
        readout = np.eye(coded.codec.num_codes) if readout is None else readout
        errors = torch.zeros(rows.num_rows, readout.shape[1], dtype=torch.float64)
        found = Diagnostics.of_exact(rows.num_rows, errors)
        if isinstance(coded.codec, IgnoredCodec):
            return Answer(np.zeros((rows.num_rows, 1)), found)
        probs = np.zeros((rows.num_rows, coded.codec.num_codes))
        known = ~work[name].is_missing
        probs[known, coded.codec.encode(work[name].values[known])] = 1.0
        num_unknown, left = np.sum([work[part].is_missing for part in parts], axis=0), ~known
        for part in parts:
            one = np.flatnonzero(left & ~choices.are_tied(work, but=part) & (num_unknown == 1) & work[part].is_missing)
            if len(one):
                answer = predicted_by_one(choices, taken(work, one), part, coded, readout)
                probs[one], found, left[one] = answer.value, with_rows(found, one, answer.diagnostics), False
        is_free = name in self.system.codec.names and not any(name in each for each in self.system.ancestors.values())
        for some in blocks(np.flatnonzero(left), ROWS_PER_BLOCK // 8):
            candidates = choices.candidates(taken(work, some), rows.keys[some], self.parameters.num_draws)
            choices.require_some(candidates)
            answer = distribution_of(choices, candidates, coded, readout, is_free=is_free)
            probs[some], found = answer.value, with_rows(found, some, answer.diagnostics)
        self.warn(rows, found, "predict")
        with np.errstate(divide="ignore"):
            return Answer(np.log(probs / probs.sum(axis=1, keepdims=True)), found)

    def warn(self, rows: RelatedRows, found: Diagnostics[Tensor], what: str) -> None:
        """Warns once if the answer about the rows may be far off for some that keep the relations."""
        warned(Answer(None, except_for(found, rows.is_broken)), what, self.parameters)

    def impute(
        self, rows: RelatedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[list[dict[Name, Column]]]:
        """Joint draws of the missing entries of each row that keep the relations; observed entries stay as they are.

        The diagnostics of a draw are the least of the first one and of those that replace it where it is refused; those of a
        row are averages over its draws. All draws are made before the first is returned, which takes `num_draws` tables of
        memory.

        Args:
            rows: what is known.
            keys: of the rows' streams, shape (N,); see `row_keys`.
            num_draws: independent draws.
            seed: of all draws; None is that of the model.

        Raises:
            ValueError: no row agrees with the evidence, or hardly any; names a column.
        """
        return self._warned(rows, self._with_seed(seed)._imputed(rows, keys, num_draws), num_draws, "impute")

    def impute_by_members(
        self, rows: RelatedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[list[dict[Name, Column]]]:
        """As `impute`, draw number d by member d, so that draws differ by as much as fits do."""
        parts = [
            replace(self._with_seed(seed), model=member)._imputed(rows, keys_of_draw(keys, draw), 1)
            for draw, member in zip(range(num_draws), self.members, strict=False)
        ]
        found = Diagnostics.joined([part.diagnostics for part in parts]).of_draws(num_draws)
        values = [drawn for part in parts for drawn in part.value]
        return self._warned(rows, Answer(values, found), num_draws, "impute")

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> Answer[dict[Name, Column]]:
        """Draws rows number `first`, `first + 1`, ... given evidence; None is the seed of the model.

        Raises:
            ValueError: no row agrees with the evidence, or hardly any; names a column.
        """
        rows, keys = self.rows({}, num, evidence=evidence), torch.arange(first, first + num)
        answer = self._with_seed(seed)._imputed(rows, keys, 1)
        return Answer(answer.value[0], self._warned(rows, answer, 1, "sample").diagnostics)

    def log_density(self, rows: RelatedRows) -> Answer[np.ndarray]:
        """log p of the observed entries of each row and of the evidence, missing ones marginalised, shape (N,), nats.

        -inf for rows that contradict a relation. In the units of the columns of the model; rebuilt ones have point masses.
        Where known sums bind missing parts, an estimate over `num_draws` candidates.
        """
        return warned(self._log_density(rows), "score_samples", self.parameters)

    def dependence(self, rows: RelatedRows) -> np.ndarray:
        """Dependence of the observed entries of each row, shape (N,), nats: that of the columns of the model.

        -inf for rows that contradict a relation. A known sum with missing parts adds nothing.
        """
        scores = self.core.dependence(rows_of_model(self.core, self.system, rows.work))
        return np.where(rows.is_broken, -np.inf, scores)

    def conditional_surprise(self, rows: RelatedRows) -> np.ndarray:
        """Mean of log p(code | other codes of the row) over observed columns of the model, shape (N,), nats.

        -inf for rows that contradict a relation.
        """
        questions = rows_of_model(self.core, self.system, rows.work)
        return np.where(rows.is_broken, -np.inf, self.core.conditional_surprise(questions))

    def conditional_log_score(self, rows: RelatedRows, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries of the row) of each entry, shape (N, len(names)), nats; NaN where missing.

        Zero for an entry that relations determine; of a column in a relation the difference of two `log_density`.
        """
        core, related = self.core, {name for each in self.system.relations for name in each.columns}
        scores = np.full((rows.num_rows, len(names)), np.nan)
        estimates: list[Answer[np.ndarray]] = []
        for place, name in enumerate(names):
            self.codec.index(name)
            if name not in rows.table:
                continue
            seen = ~rows.table[name].is_missing
            one_by_one = are_bound(self.system, rows.work) | (name in related)
            of_name = np.full(rows.num_rows, np.nan)
            if not one_by_one.all():
                of_name = core.conditional_log_score(rows_of_model(core, self.system, rows.work), [name])[:, 0]
            if one_by_one.any():
                estimates = estimates or [self._log_density(rows)]
                estimates.append(self._log_density(self.rows(rows.table, rows.num_rows, missing=[name])))
                with np.errstate(invalid="ignore"):
                    of_name = np.where(one_by_one, estimates[0].value - estimates[-1].value, of_name)
            scores[seen, place] = np.where(rows.is_broken, -np.inf, of_name)[seen]
        if estimates:
            found = Diagnostics.joined([each.diagnostics for each in estimates])
            warned(Answer(scores, found), "score of entries", self.parameters)
        return scores

    @property
    def _part(self) -> FittedTable:
        """`core` for parts of an answer, about which the whole answer warns."""
        return replace(self.core, warns=False)

    def _choices(self, rows: RelatedRows) -> RelatedChoices:
        return RelatedChoices(self._part, self.system, self.codec, rows.known)

    def _with_seed(self, seed: int | None) -> "RelatedTable":
        if seed is None:
            return self
        return replace(self, parameters=self.parameters.model_copy(update={"seed": seed}))

    def _imputed(self, rows: RelatedRows, keys: Tensor, num_draws: int) -> Answer[list[dict[Name, Column]]]:
        choices = self._choices(rows)
        are_tied = choices.are_tied(rows.work)
        free, tied = np.flatnonzero(~are_tied), np.flatnonzero(are_tied)
        is_drawn = missing_in_any(rows.work, self.codec.names) & ~rows.is_broken
        found = Diagnostics.of_exact(rows.num_rows)
        sub, of_tied = taken(rows.work, free), taken(rows.work, tied)
        questions = rows_of_model(self._part, self.system, sub, rows.known.of_model)
        answer = self._part.impute(questions, keys[free], num_draws=num_draws)
        found = with_rows(found, free, answer.diagnostics)
        chosen = [choices.chosen(of_tied, mixed_keys(keys[tied], draw)) for draw in range(num_draws)]
        together = Diagnostics.joined([each.diagnostics for each in chosen]).of_draws(num_draws)
        found = with_rows(found, tied, together)

        values, of_draws = [], []
        for draw, drawn in enumerate(answer.value):
            whole = completed(self.system, sub, questions, drawn)
            parts = overlaid(rows.work, free, with_known(self.system.close(whole, len(free)), sub))
            parts = overlaid(parts, tied, chosen[draw].value)
            again = choices.redrawn(rows.work, parts, mixed_keys(keys, draw), is_drawn)
            values.append({name: again.value[name] for name in self.codec.names})
            of_draws.append(Diagnostics.of_stages([found, again.diagnostics]))
        return Answer(values, Diagnostics.joined(of_draws).of_draws(num_draws))

    def _log_density(self, rows: RelatedRows) -> Answer[np.ndarray]:
        core, choices, work = self._part, self._choices(rows), rows.work
        are_tied = choices.are_tied(work)
        scores, found = (
            np.full(rows.num_rows, -np.inf),
            Diagnostics.of_exact(rows.num_rows, torch.zeros(rows.num_rows, dtype=torch.float64)),
        )
        for some, evidence in ((~are_tied, rows.known.of_model), (are_tied, rows.known.of_others)):
            if some.any():
                numbers = np.flatnonzero(some)
                answer = core.log_density(rows_of_model(core, self.system, taken(work, numbers), evidence))
                scores[numbers], found = answer.value, with_rows(found, numbers, answer.diagnostics)
        exact, ess, error = found.exact.clone(), found.ess.clone(), found.standard_error.double()
        bound = np.flatnonzero(are_tied & ~rows.is_broken)
        num = np.where(choices.are_weighed(work), self.parameters.num_draws, 1)[bound]
        for count in np.unique(num):
            for some in blocks(bound[num == count], ROWS_PER_BLOCK // 8):
                candidates = choices.candidates(taken(work, some), rows.keys[some], int(count))
                means = log_mean_weights(torch.from_numpy(candidates.log_weights.T.copy()))
                scores[some] += means.value.numpy()
                weighed, levels = candidates.is_weighed, candidates.levels
                exact[some] &= levels.exact & ~weighed
                ess[some] = torch.minimum(ess[some], torch.where(weighed, candidates.ess, levels.ess))
                of_mean = torch.where(weighed, means.standard_error, torch.zeros_like(means.value))
                error[some] = (error[some].square() + of_mean.square() + levels.standard_error.square()).sqrt()
        scores[rows.is_broken] = -np.inf
        broken = torch.from_numpy(rows.is_broken)
        exact[broken], ess[broken], error[broken] = True, torch.inf, 0.0
        return Answer(scores, replace(found, exact=exact, ess=ess, standard_error=error))

    def _warned(
        self, rows: RelatedRows, answer: Answer[list[dict[Name, Column]]], num_draws: int, what: str
    ) -> Answer[list[dict[Name, Column]]]:
        """Draws, after warnings if they may be far off, those of the model or those by weights."""
        choices = self._choices(rows)
        weighed = choices.are_weighed(rows.work) & choices.are_tied(rows.work)
        of_model = Answer(None, except_for(answer.diagnostics, weighed | rows.is_broken))
        warned(of_model, what, self.parameters, num_draws)
        of_weights = replace(except_for(answer.diagnostics, ~weighed | rows.is_broken), num_jumps=None)
        Answer(None, of_weights).checked(what, REMEDY, min_ess=MIN_CANDIDATES)
        return answer
