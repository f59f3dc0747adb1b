"""A random sample of the rows of a table, decided by the seed and the numbers of rows alone.

Every row has a key, a hash of the seed and its number; the sample is the rows with the smallest keys. So it does not depend
on the chunks that a table is read in, nor on their order.

Legend: N rows, n rows of the sample.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from jointebm.randomness.row_streams import row_keys
from jointebm.tables.codes.chunks import Chunk
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column

__all__ = ["RowSample", "joined_tables"]

_ORIGIN = 4  # of these keys, which are not those of draws


class RowSample:
    """The rows with the n smallest keys so far; all rows while there are no more.

    Args:
        num: n, at most.
        seed: of the keys.

    Example:
        >>> sample = RowSample(2, seed=0)
        >>> sample.add(Chunk({"a": Column("whole", np.arange(5), np.zeros(5, dtype=bool))}, first=0))
        >>> table, numbers = sample.rows()
        >>> bool((table["a"].values == numbers).all()), len(numbers)
        (True, 2)
    """

    def __init__(self, num: int, *, seed: int) -> None:
        self._num, self._seed = num, seed
        self._bound: int | None = None  # keys above it are too large; None: all are kept
        self._parts: list[tuple[np.ndarray, np.ndarray, dict[Name, Column]]] = []  # keys, numbers, rows

    def add(self, chunk: Chunk) -> None:
        """Takes in the rows of a chunk."""
        num_rows = len(next(iter(chunk.table.values())).values)
        numbers = torch.arange(chunk.first, chunk.first + num_rows)
        origin, seed = torch.full_like(numbers, _ORIGIN), torch.full_like(numbers, self._seed)
        keys = row_keys(torch.stack([origin, seed, numbers], dim=1)).numpy()
        kept = np.flatnonzero(keys <= self._bound) if self._bound is not None else np.arange(num_rows)
        if len(kept):
            rows = {name: column.take(kept) for name, column in chunk.table.items()}
            self._parts.append((keys[kept], numbers.numpy()[kept], rows))
        if sum(len(keys) for keys, *_ in self._parts) > 2 * self._num:
            self._shrink()

    def merge(self, other: "RowSample") -> None:
        """Takes in the rows of another sample of the same table."""
        self._parts += other._parts
        self._shrink()

    def rows(self) -> tuple[dict[Name, Column], np.ndarray]:
        """The rows of the sample and their numbers, ascending, shape (n,)."""
        self._shrink()
        if not self._parts:
            return {}, np.zeros(0, dtype=np.int64)
        _, numbers, table = self._parts[0]
        order = np.argsort(numbers)
        return {name: column.take(order) for name, column in table.items()}, numbers[order]

    def _shrink(self) -> None:
        """Joins the parts, and keeps the rows with the smallest keys."""
        if not self._parts:
            return
        keys, numbers = (np.concatenate([part[place] for part in self._parts]) for place in (0, 1))
        table = joined_tables([part[2] for part in self._parts])
        if len(keys) > self._num:
            kept = np.argpartition(keys, self._num - 1)[: self._num]
            keys, numbers = keys[kept], numbers[kept]
            table = {name: column.take(kept) for name, column in table.items()}
            self._bound = int(keys.max())
        self._parts = [(keys, numbers, table)]


def joined_tables(tables: Sequence[Mapping[Name, Column]]) -> dict[Name, Column]:
    """The rows of several tables with the same columns, one after another.

    Example:
        >>> part = {"a": Column("whole", np.array([1, 2]), np.array([False, False]))}
        >>> joined_tables([part, part])["a"].values
        array([1, 2, 1, 2])
    """
    return {name: _joined([table[name] for table in tables]) for name in tables[0]}


def _joined(columns: Sequence[Column]) -> Column:
    """One column; parts without values have no role of their own."""
    holding = [column for column in columns if not column.is_missing.all()] or columns[:1]
    dtype = holding[0].values.dtype
    values = [
        column.values if column.values.dtype == dtype else np.zeros(len(column.values), dtype=dtype)
        for column in columns
    ]
    is_missing = np.concatenate([column.is_missing for column in columns])
    return holding[0]._replace(values=np.concatenate(values), is_missing=is_missing)
