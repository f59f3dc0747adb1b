"""Columns of which only observed combinations of values occur.

Legend: N rows, L combinations.
"""

from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.relation_names import written_name
from jointebm.tables.relations.work_table import Work, fill, missing_in_any

__all__ = ["Combination"]


class Combination(Config):
    """a & b & c: the model holds one column, the number of the combination.

    Example:
        >>> str(Combination(members=("a", "b"), number="a & b", rows=(("x", 1), ("y", 2))))
        'a & b'
    """

    kind: Literal["combination"] = "combination"
    members: tuple[Name, ...] = Field(min_length=2, description="the columns")
    number: Name = Field(description="name of the column of numbers of combinations in the model")
    rows: tuple[tuple[Label, ...], ...] = Field(min_length=1, description="the combinations")

    def __str__(self) -> str:
        return " & ".join(map(written_name, self.members))

    @property
    def columns(self) -> tuple[Name, ...]:
        """The columns that the relation is about."""
        return self.members

    @property
    def added(self) -> tuple[Name, ...]:
        """Columns of the model that stand for the relation."""
        return (self.number,)

    @property
    def derived(self) -> tuple[Name, ...]:
        """Columns that are rebuilt."""
        return self.members

    def deduce(self, work: Work) -> bool:
        """Fills entries that the relation determines, in place; returns whether there were any."""
        complete = ~missing_in_any(work, self.members)
        rows = complete & work[self.number].is_missing
        numbers = self._numbers(work, rows)
        rows[rows] = numbers >= 0
        changed = fill(work, self.number, rows, numbers[numbers >= 0])
        for place, name in enumerate(self.members):
            rows = ~work[self.number].is_missing & work[name].is_missing
            levels = np.empty(len(self.rows), dtype=work[name].values.dtype)
            levels[:] = [row[place] for row in self.rows]
            changed |= fill(work, name, rows, levels[work[self.number].values[rows]])
        return changed

    def broken(self, work: Work) -> np.ndarray:
        """Rows whose entries contradict the relation, bool (N,)."""
        rows = ~missing_in_any(work, self.members)
        rows[rows] = self._numbers(work, rows) < 0
        return rows

    @cached_property
    def _places(self) -> dict[tuple[Label, ...], int]:
        return {row: number for number, row in enumerate(self.rows)}

    def _numbers(self, work: Work, rows: np.ndarray) -> np.ndarray:
        """The number of the combination of each of these rows, -1 for an unknown one."""
        columns = [work[name].values[rows].tolist() for name in self.members]
        return np.array([self._places.get(row, -1) for row in zip(*columns, strict=True)], dtype=np.int64)
