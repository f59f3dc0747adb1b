"""The different values of a column and their numbers of rows, counted part by part.

Counts are exact up to 2^18 different values; of a column with more, nothing is kept but that there are more. So what is kept
does not depend on the parts nor on their order, and memory is bounded.

Legend: N values, U different ones.
"""

from collections import Counter

import numpy as np

from jointebm.tables.codes.categories import Label

__all__ = ["MAX_DISTINCT", "ValueCounts"]

MAX_DISTINCT = 2**18


class ValueCounts:
    """Counts of the different values of numbers or labels.

    Args:
        limit: different values that are counted, at most.

    Example:
        >>> one, two = ValueCounts(), ValueCounts()
        >>> one.add(np.array([3, 1, 3]))
        >>> two.add(np.array([2, 1]))
        >>> one.merge(two)
        >>> one.numbers()
        (array([1, 2, 3]), array([2, 1, 2]))
    """

    def __init__(self, limit: int = MAX_DISTINCT) -> None:
        self._limit = limit
        self._labels: Counter[Label] = Counter()
        self._values: list[np.ndarray] = []  # of numbers: parts of different values, the first one merged
        self._rows: list[np.ndarray] = []
        self.is_exact = True  # no more different values than are counted

    def add(self, values: np.ndarray) -> None:
        """Counts values, shape (N,)."""
        if not self.is_exact or not len(values):
            return
        if values.dtype == object:
            self._labels.update(values.tolist())
            self._check(len(self._labels))
            return
        self.add_counted(*np.unique(values, return_counts=True))

    def add_counted(self, distinct: np.ndarray, rows: np.ndarray) -> None:
        """Adds different numbers, ascending, and the rows of each, shape (U,) each."""
        if not self.is_exact:
            return
        self._values.append(distinct)
        self._rows.append(rows)
        if sum(map(len, self._values[1:])) > self._limit:
            self._compact()

    def merge(self, other: "ValueCounts") -> None:
        """Adds the counts of another one."""
        self._check(0 if other.is_exact else self._limit + 1)
        if not self.is_exact:
            return
        self._labels.update(other._labels)
        self._check(len(self._labels))
        for values, rows in zip(other._values, other._rows, strict=True):
            self.add_counted(values, rows)

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The different numbers, ascending, and the rows of each, shape (U,) each."""
        self._compact()
        return self._values[0], self._rows[0]

    def labels(self) -> dict[Label, int]:
        """The rows of each label, or of each number."""
        if not self._values:
            return dict(self._labels)
        values, rows = self.numbers()
        return dict(zip(values.tolist(), rows.tolist(), strict=True))

    def finish(self) -> None:
        """Finds out whether there are more different values than are counted."""
        if self.is_exact and self._values:
            self._compact()

    def _compact(self) -> None:
        """Merges the parts."""
        if len(self._values) > 1:
            values, place = np.unique(np.concatenate(self._values), return_inverse=True)
            rows = np.bincount(place, np.concatenate(self._rows)).astype(np.int64)  # exact below 2^53 rows
            self._values, self._rows = [values], [rows]
        self._check(len(self._values[0]))

    def _check(self, num_distinct: int) -> None:
        if num_distinct > self._limit:
            self.is_exact = False
            self._labels.clear()
            self._values, self._rows = [], []
