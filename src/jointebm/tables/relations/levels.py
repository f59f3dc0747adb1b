"""Columns as numbers of their levels, so that tables are searched for relations by whole arrays.

Legend: N rows, L levels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column

__all__ = ["Levels", "is_function", "levels_of"]


class Levels(NamedTuple):
    """The levels of a column, and the number of each entry."""

    values: list[Label]  # ascending for numbers and times
    numbers: np.ndarray  # (N,), int64; -1 is missing


def levels_of(table: Mapping[Name, Column]) -> dict[Name, Levels]:
    """The levels of each column."""
    return {name: _levels(column) for name, column in table.items()}


def is_function(key: np.ndarray, value: np.ndarray, num_keys: int) -> bool:
    """Whether each level of the key has one level of the value, of numbers (N,) without missing entries."""
    image = np.zeros(num_keys, dtype=np.int64)
    image[key] = value
    return bool((image[key] == value).all())


def _levels(column: Column) -> Levels:
    present = ~column.is_missing
    numbers = np.full(len(present), -1)
    if column.values.dtype != object:
        values, found = np.unique(column.values[present], return_inverse=True)
        numbers[present] = found
        return Levels(values.tolist(), numbers)
    places: dict[Label, int] = {}
    numbers[present] = [places.setdefault(each, len(places)) for each in column.values[present].tolist()]
    return Levels(list(places), numbers)
