"""A fitted table that knows which entries are missing: rows as they are recorded, indicators of missing entries included.

    log p(row) = log p(observed entries, which entries are missing)

A missing entry has a value that nobody recorded, and no row of training tells what it is. So values are never drawn or
predicted where the indicator says missing: an answer about a value is one about recorded values, and an entry that a sample
leaves missing has none.

Legend: N rows.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import row_keys
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.answering import Answering
from jointebm.tables.codes.agreement import DisagreementError
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.indicators import Indicator, indicator_column

__all__ = ["RecordedRows", "RecordedTable"]

_FILL = 7  # tells the streams of entries that are filled from those of the first draw


class RecordedRows(NamedTuple):
    """Rows of a table, as they are recorded."""

    table: Mapping[Name, Column]  # without the targets
    num_rows: int
    targets: tuple[Name, ...]
    evidence: Mapping[Name, Evidence]  # about missing entries, and about indicators
    recorded: Any  # rows of the table within, in which an entry is missing or not


@dataclass(frozen=True, eq=False)
class RecordedTable:
    """Answers about rows of one table; the same questions as those to a `FittedTable`.

    A missing entry of a column that a question has is known to be missing; of a column that it lacks, or of a target, that
    is unknown.

    Args:
        codec: the columns of the table.
        within: the fitted table with the indicators as further columns.
        indicators: of columns that have missing entries in training.
    """

    codec: TableCodec
    within: Answering
    indicators: tuple[Indicator, ...]

    def rows(
        self,
        table: Mapping[Name, Column],
        num_rows: int,
        *,
        missing: Sequence[Name] = (),
        evidence: Mapping[Name, Evidence] = MappingProxyType({}),
    ) -> RecordedRows:
        """Reads a table; columns named in `missing` are targets, and missing entries agree with the evidence.

        Raises:
            ValueError: an entry contradicts the evidence.
        """
        shown = {name: column for name, column in table.items() if name not in missing}
        for each in self.indicators:
            if each.coded.name in evidence and each.of in shown and not shown[each.of].is_missing.all():
                row = int((~shown[each.of].is_missing).argmax())
                raise DisagreementError(each.of, row, "has an entry, and None says that it is missing")
        rows = RecordedRows(shown, num_rows, tuple(missing), evidence, None)
        return rows._replace(recorded=self._within(rows))

    def known(self, rows: RecordedRows) -> list[tuple[CodedColumn, Column]]:
        """The entries of rows that answers condition on, by the columns of the model that hold them."""
        return self.within.known(rows.recorded)

    def with_class(self, rows: RecordedRows, numbers: np.ndarray, name: Name, values: np.ndarray) -> RecordedRows:
        """Some rows, by number and again, with other entries of one column."""
        table = {other: column.take(numbers) for other, column in rows.table.items()}
        coded = self.codec.columns[self.codec.index(name)]
        table[name] = Column(coded.role, values, np.zeros(len(values), dtype=bool), coded.unit)
        targets = [each for each in rows.targets if each != name]
        return self.rows(table, len(numbers), missing=targets, evidence=rows.evidence)

    def log_predictive(self, rows: RecordedRows, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries, the entry is recorded), shape (N, K_j), nats."""
        return self.predictive_answer(rows, name).value

    def predictive_answer(
        self, rows: RecordedRows, name: Name, *, readout: np.ndarray | None = None
    ) -> Answer[np.ndarray]:
        """`log_predictive`, with standard errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q)."""
        return self.within.predictive_answer(self._within(rows, drawn=[name]), name, readout=readout)

    def warn(self, rows: RecordedRows, found: Diagnostics[Tensor], what: str) -> None:
        """Warns once if the answer about the rows may be far off."""
        self.within.warn(rows.recorded, found, what)

    def impute(
        self, rows: RecordedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterator[dict[Name, Column]]]:
        """Joint draws of the missing entries of each row, or of the targets, as if they were recorded.

        Entries that are given as missing stay so.
        """
        answer = self.within.impute(self._filled(rows), keys, num_draws=num_draws, seed=seed)
        return Answer(self._shown(answer.value, rows), answer.diagnostics)

    def impute_by_members(
        self, rows: RecordedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterator[dict[Name, Column]]]:
        """As `impute`, draw number d by member d, so that draws differ by as much as fits do."""
        answer = self.within.impute_by_members(self._filled(rows), keys, num_draws=num_draws, seed=seed)
        return Answer(self._shown(answer.value, rows), answer.diagnostics)

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> Answer[dict[Name, Column]]:
        """Draws rows number `first`, `first + 1`, ... given evidence, complete but for what is given as missing."""
        return self.sample_given(self.rows({}, num, evidence=evidence), torch.arange(first, first + num), seed=seed)

    def sample_given(
        self,
        rows: RecordedRows,
        keys: Tensor,
        *,
        seed: int | None,
        missingness: Literal["ignored", "model"] = "ignored",
    ) -> Answer[dict[Name, Column]]:
        """One draw of each row, given its entries; missing ones give nothing.

        Rows are drawn as they are recorded, and missing entries among them stay so ("model"), or are filled as `impute`
        fills them ("ignored"); the diagnostics are then the least of both draws.
        """
        answer = self.within.impute(self._within(rows, unknown=True), keys, num_draws=1, seed=seed)
        (drawn,) = answer.value
        recorded = {coded.name: drawn[coded.name] for coded in self.codec.columns}
        for each in self.indicators:
            column = drawn[each.of]
            is_missing = drawn[each.coded.name].values.astype(bool)
            recorded[each.of] = column._replace(is_missing=column.is_missing | is_missing)
        if missingness == "model":
            return Answer(recorded, answer.diagnostics)
        modelled = {each.of for each in self.indicators}
        known = {name: column for name, column in recorded.items() if name in modelled or not column.is_missing.any()}
        numbers = row_keys(torch.stack([keys, torch.full_like(keys, _FILL)], dim=1))
        filled = self.impute(self._drawn_rows(known, rows), numbers, num_draws=1, seed=seed)
        (complete,) = filled.value
        for name, column in recorded.items():
            values = np.where(column.is_missing, complete[name].values, column.values)
            recorded[name] = column._replace(values=values, is_missing=column.is_missing & complete[name].is_missing)
        return Answer(recorded, Diagnostics.of_stages([answer.diagnostics, filled.diagnostics]))

    def log_density(self, rows: RecordedRows) -> Answer[np.ndarray]:
        """log p of the observed entries of each row, of which are missing, and of the evidence, shape (N,), nats."""
        return self.within.log_density(rows.recorded)

    def dependence(self, rows: RecordedRows) -> np.ndarray:
        """Dependence of the observed entries of each row, and of which are missing, shape (N,), nats."""
        return self.within.dependence(rows.recorded)

    def conditional_log_score(self, rows: RecordedRows, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries, which are missing), shape (N, len(names)), nats; NaN where missing."""
        return self.within.conditional_log_score(rows.recorded, names)

    def conditional_surprise(self, rows: RecordedRows) -> np.ndarray:
        """Mean of log p(code | other observed entries) over observed columns and indicators, shape (N,), nats."""
        return self.within.conditional_surprise(rows.recorded)

    def _filled(self, rows: RecordedRows) -> Any:
        """The rows within, in which the entries to be drawn are recorded."""
        return self._within(rows, drawn=rows.targets or tuple(rows.table))

    def _drawn_rows(self, table: Mapping[Name, Column], rows: RecordedRows) -> RecordedRows:
        """Rows that were drawn given the evidence, which they agree with."""
        given = {
            each.coded.name: rows.evidence[each.coded.name]
            for each in self.indicators
            if each.coded.name in rows.evidence
        }
        return RecordedRows(table, rows.num_rows, (), given, None)

    def _within(self, rows: RecordedRows, *, drawn: Collection[Name] = (), unknown: bool = False) -> Any:
        """The rows of the table within.

        Args:
            rows: of the table.
            drawn: columns whose missing entries are asked about, as if they were recorded.
            unknown: whether nothing is known about missing entries, but the evidence.
        """
        table, names = dict(rows.table), {each.coded.name for each in self.indicators}
        for each in self.indicators:
            column = rows.table.get(each.of)
            is_missing = np.ones(rows.num_rows, dtype=bool) if column is None else column.is_missing
            if each.coded.name in rows.evidence:
                table[each.coded.name] = indicator_column(is_missing)
            elif each.of in rows.evidence or each.of in drawn:
                table[each.coded.name] = indicator_column(np.zeros(rows.num_rows, dtype=bool))
            elif column is not None:
                known = indicator_column(is_missing)
                table[each.coded.name] = known._replace(is_missing=is_missing.copy()) if unknown else known
        evidence = {name: known for name, known in rows.evidence.items() if name not in names}
        return self.within.rows(table, rows.num_rows, evidence=evidence)

    def _shown(self, draws: Iterable[dict[Name, Column]], rows: RecordedRows) -> Iterator[dict[Name, Column]]:
        """The columns of the table, without values that are given as missing."""
        for drawn in draws:
            shown = {coded.name: drawn[coded.name] for coded in self.codec.columns}
            for each in self.indicators:
                if each.coded.name in rows.evidence:
                    shown[each.of] = shown[each.of]._replace(is_missing=np.ones(rows.num_rows, dtype=bool))
            yield shown
