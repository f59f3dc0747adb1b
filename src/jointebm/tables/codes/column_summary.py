"""What the codec of a column depends on: its different values with their rows, its range and its grid.

Counts are exact up to 2^18 different values (`ValueCounts`). A column with more is sketched: its values are those of a
random sample of n rows, and the smallest and the largest of all rows. The share of rows below any number is then off by more
than eps with a probability of at most 2 exp(-2 n eps^2) (Massart 1990), besides those two values. The grid and the number of
missing entries are those of all rows in any case.

Legend: N rows, U different values.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.column import Column, Role, Unit
from jointebm.tables.codes.grids import Grid, GridTest
from jointebm.tables.codes.value_counts import MAX_DISTINCT, ValueCounts

__all__ = ["ColumnSummary", "ColumnTally"]


class ColumnSummary(NamedTuple):
    """A column without its rows.

    Args:
        role: what its values are.
        unit: of a time.
        num_missing: entries without a value.
        num_present: entries with a value, of all rows.
        numbers: of a column that is not of labels: the different values, ascending, and the rows of each.
        labels: of a column of labels: the rows of each.
        grid: that all numbers lie on.
        is_exact: whether values are those of all rows, and not of a sample.
        declared: categories, by their order in the frame.
        ordered: whether that order has a meaning.
        is_duration: of a time: whether it is a length of time.
    """

    role: Role
    unit: Unit | None
    num_missing: int
    num_present: int
    numbers: tuple[np.ndarray, np.ndarray] | None
    labels: Mapping[Label, int] | None
    grid: Grid | None
    is_exact: bool
    declared: tuple[Label, ...] | None = None
    ordered: bool = False
    is_duration: bool = False

    @classmethod
    def of(cls, column: Column) -> "ColumnSummary":
        """That of a whole column, exact.

        Example:
            >>> summary = ColumnSummary.of(Column("whole", np.array([4, 2, 4]), np.array([False, False, False])))
            >>> summary.numbers, summary.grid
            ((array([2, 4]), array([1, 2])), Grid(offset=2, step=1, decimals=0))
        """
        tally = ColumnTally(limit=len(column.values))
        tally.add(column)
        return tally.summary(None)

    @property
    def levels(self) -> Mapping[Label, int]:
        """The rows of each value, as levels of a category."""
        if self.labels is not None:
            return self.labels
        assert self.numbers is not None
        values, rows = self.numbers
        return dict(zip(values.tolist(), rows.tolist(), strict=True))


class ColumnTally:
    """Summarises a column part by part; neither the parts nor their order change the result.

    Args:
        limit: different values that are counted, at most.
    """

    def __init__(self, limit: int = MAX_DISTINCT) -> None:
        self._column: Column | None = None  # a part without its rows
        self._counts, self._grid = ValueCounts(limit), GridTest()
        self._low: float | None = None
        self._high: float | None = None
        self._num_missing = self._num_present = 0

    @property
    def role(self) -> tuple[Role, Unit | None]:
        """Role and unit of the parts that hold values; of others if none does."""
        assert self._column is not None
        return self._column.role, self._column.unit

    def add(self, column: Column) -> None:
        """Adds rows."""
        present = column.values[~column.is_missing]
        self._see(column.take(slice(0, 0)), len(present))
        self._num_present += len(present)
        self._num_missing += len(column.values) - len(present)
        if not len(present):
            return
        if column.role == "label":
            self._counts.add(present)
            return
        present = _plain(present)
        if not self._counts.is_exact and self._grid.is_settled:
            self._reach(present.min().item(), present.max().item())
            return
        distinct, rows = np.unique(present, return_counts=True)
        self._reach(distinct[0].item(), distinct[-1].item())
        self._grid.add(distinct.astype(np.int64) if column.role == "boolean" else distinct)
        self._counts.add_counted(distinct, rows)

    def merge(self, other: "ColumnTally") -> None:
        """Adds the rows of another one."""
        if other._column is None:
            return
        self._see(other._column, other._num_present)
        self._num_present += other._num_present
        self._num_missing += other._num_missing
        if other._low is not None and other._high is not None:
            self._reach(other._low, other._high)
        self._counts.merge(other._counts)
        self._grid.merge(other._grid)

    def summary(self, sample: Column | None) -> ColumnSummary:
        """The summary; `sample` holds the column in a sample of the rows, None where none is needed."""
        assert self._column is not None
        column, counts = self._column, self._counts
        counts.finish()
        is_exact = counts.is_exact
        if not is_exact:
            assert sample is not None
            present, limit = sample.values[~sample.is_missing], len(sample.values)
            counts = ValueCounts(limit + 2)
            counts.add(present if column.role == "label" else _plain(present))
            is_exact = len(present) == self._num_present
            if not is_exact and column.role != "label":
                counts.add(np.array([self._low, self._high], dtype=present.dtype))
        numbers = grid = labels = None
        if column.role == "label":
            labels = counts.labels()
        elif self._num_present:
            numbers = counts.numbers()
            assert self._low is not None and self._high is not None
            low, high = (int(end) if column.role == "boolean" else end for end in (self._low, self._high))
            grid = self._grid.grid(low, high, num_distinct=len(numbers[0]))
        return ColumnSummary(
            role=column.role,
            unit=column.unit,
            num_missing=self._num_missing,
            num_present=self._num_present,
            numbers=numbers,
            labels=labels,
            grid=grid,
            is_exact=is_exact,
            declared=column.declared,
            ordered=column.ordered,
            is_duration=column.is_duration,
        )

    def _see(self, column: Column, num_present: int) -> None:
        """Keeps the role of a part that holds values; objects without any have none of their own."""
        if self._column is None or (num_present and not self._num_present):
            self._column = column
        elif num_present and (column.role, column.unit) != self.role:
            raise ValueError(f"holds {column.role} and {self._column.role} values in different parts; convert them")

    def _reach(self, low: float, high: float) -> None:
        self._low = low if self._low is None else min(low, self._low)
        self._high = high if self._high is None else max(high, self._high)


def _plain(values: np.ndarray) -> np.ndarray:
    """Numbers without negative zeros, which differ from zero in nothing but their bits."""
    return values + 0.0 if values.dtype.kind == "f" else values
