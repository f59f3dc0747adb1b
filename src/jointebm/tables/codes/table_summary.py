"""What a fit keeps of a table that is read once in chunks: a summary of each column, and a sample of the rows."""

from collections.abc import Collection

import numpy as np

from jointebm.tables.codes.chunks import Chunk
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.column_summary import ColumnSummary, ColumnTally
from jointebm.tables.codes.row_sample import RowSample
from jointebm.tables.codes.value_counts import MAX_DISTINCT

__all__ = ["TableSummary"]


class TableSummary:
    """Summaries of columns and a sample of the rows; the order of chunks does not matter.

    Args:
        max_rows: rows of the sample, at most; a table with no more rows is kept whole, and all its summaries are exact.
        seed: of the sample.
        ids: columns whose values are not counted.
        limit: different values of a column that are counted, at most.

    Attributes:
        num_rows: of the table so far.

    Example:
        >>> summary = TableSummary(max_rows=10, seed=0)
        >>> column = Column("whole", np.array([4, 2, 0]), np.array([False, False, True]))
        >>> summary.add(Chunk({"a": column}, first=0))
        >>> summary.columns()["a"].numbers, summary.columns()["a"].num_missing
        ((array([2, 4]), array([1, 1])), 1)
    """

    def __init__(self, *, max_rows: int, seed: int, ids: Collection[Name] = (), limit: int = MAX_DISTINCT) -> None:
        self.num_rows = 0
        self._ids, self._limit = frozenset(ids), limit
        self._tallies: dict[Name, ColumnTally] = {}
        self._sample = RowSample(max_rows, seed=seed)

    def add(self, chunk: Chunk) -> None:
        """Takes in the rows of a chunk."""
        for name, column in chunk.table.items():
            tally = self._tallies.setdefault(name, ColumnTally(0 if name in self._ids else self._limit))
            try:
                tally.add(column)
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None
        self._sample.add(chunk)
        self.num_rows += len(next(iter(chunk.table.values())).values)

    def merge(self, other: "TableSummary") -> None:
        """Takes in the rows of another summary of the same table."""
        for name, tally in other._tallies.items():
            if name in self._tallies:
                self._tallies[name].merge(tally)
            else:
                self._tallies[name] = tally
        self._sample.merge(other._sample)
        self.num_rows += other.num_rows

    def sample(self) -> tuple[dict[Name, Column], np.ndarray]:
        """The rows of the sample and their numbers in the table, ascending."""
        return self._sample.rows()

    def columns(self) -> dict[Name, ColumnSummary]:
        """The summary of each column."""
        table, _ = self.sample()
        return {name: tally.summary(table[name]) for name, tally in self._tallies.items()}
