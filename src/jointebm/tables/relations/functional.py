"""A column that is a function of another: zip -> city, or a one-to-one recoding.

Legend: N rows, L levels.
"""

from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.relations.relation_names import written_name
from jointebm.tables.relations.work_table import Work, fill, missing_in_any

__all__ = ["Functional"]


class Functional(Config):
    """value = f(key), given as a table of f.

    A key that is a number stands for the nearest one of the table.

    Example:
        >>> str(Functional(key="zip", value="city", keys=("1", "2"), values=("a", "a"), one_to_one=False))
        'zip -> city'
    """

    kind: Literal["functional"] = "functional"
    key: Name = Field(description="the column that the model holds")
    value: Name = Field(description="the column that is rebuilt")
    keys: tuple[Label, ...] = Field(min_length=1, description="levels of the key, ascending if they are numbers")
    values: tuple[Label, ...] = Field(min_length=1, description="f of each level")
    one_to_one: bool = Field(description="whether the value determines the key as well")

    def __str__(self) -> str:
        return f"{written_name(self.key)} {'<->' if self.one_to_one else '->'} {written_name(self.value)}"

    @property
    def columns(self) -> tuple[Name, ...]:
        """The columns that the relation is about."""
        return self.key, self.value

    @property
    def added(self) -> tuple[Name, ...]:
        """Columns of the model that stand for the relation: none."""
        return ()

    @property
    def derived(self) -> tuple[Name, ...]:
        """Columns that are rebuilt."""
        return (self.value,)

    def deduce(self, work: Work) -> bool:
        """Fills entries that the relation determines, in place; returns whether there were any."""
        changed = self._look_up(work, self.key, self.value, self._forward)
        return (self.one_to_one and self._look_up(work, self.value, self.key, self._backward)) or changed

    def broken(self, work: Work) -> np.ndarray:
        """Rows whose entries contradict the relation, bool (N,)."""
        expected, found = self._places(work[self.key], self._forward)
        differ = ~found | (_array(self.values, work[self.value])[expected] != work[self.value].values)
        return differ & ~missing_in_any(work, self.columns)

    def _look_up(self, work: Work, known: Name, missing: Name, places: dict[Label, int]) -> bool:
        rows = np.flatnonzero(~work[known].is_missing & work[missing].is_missing)
        if not len(rows):
            return False
        some = work[known]._replace(values=work[known].values[rows], is_missing=work[known].is_missing[rows])
        place, found = self._places(some, places)
        images = _array(self.values if missing == self.value else self.keys, work[missing])
        is_filled = np.zeros(len(work[known].values), dtype=bool)
        is_filled[rows[found]] = True
        return fill(work, missing, is_filled, images[place[found]])

    def _places(self, column: Column, places: dict[Label, int]) -> tuple[np.ndarray, np.ndarray]:
        """The place of each entry in the table, and whether it has one, shape (N,) each."""
        if column.role in ("real", "whole", "time") and places is self._forward:
            levels = np.array(self.keys)
            right = np.searchsorted(levels, column.values).clip(1, max(len(levels) - 1, 1))
            right = right.clip(max=len(levels) - 1)
            left = (right - 1).clip(min=0)
            is_left = column.values - levels[left] <= levels[right] - column.values
            return np.where(is_left, left, right), np.ones(len(right), dtype=bool)
        found = np.array([places.get(each, -1) for each in column.values.tolist()], dtype=np.int64)
        return found.clip(min=0), found >= 0

    @cached_property
    def _forward(self) -> dict[Label, int]:
        return {level: place for place, level in enumerate(self.keys)}

    @cached_property
    def _backward(self) -> dict[Label, int]:
        return {level: place for place, level in enumerate(self.values)}


def _array(levels: tuple[Label, ...], column: Column) -> np.ndarray:
    """Levels as an array of the type of a column."""
    array = np.empty(len(levels), dtype=column.values.dtype)
    array[:] = levels
    return array
