"""Exact sums of columns of numbers and times: whole units of the last decimal, or reals where there is no grid.

Legend: N rows.
"""

from collections.abc import Sequence

import numpy as np

from jointebm.tables.codes.column import Column
from jointebm.tables.codes.grids import find_grid

__all__ = ["common_decimals", "from_units", "is_number", "step_of", "to_units"]

LARGEST_SUM = 2**52  # units: sums of several stay exact


def is_number(column: Column) -> bool:
    """Whether it can be added and compared: numbers and times."""
    return column.role in ("real", "whole", "time")


def common_decimals(columns: Sequence[Column]) -> int | None:
    """Decimals that all values of all columns have at most; None if one of them has no grid."""
    decimals = [_decimals(column) for column in columns]
    if any(each is None for each in decimals):
        return None
    most = max(each for each in decimals if each is not None)
    sizes = [np.abs(each.values[~each.is_missing].astype(np.float64)).max(initial=0.0) for each in columns]
    return most if max(sizes) * 10.0**most < LARGEST_SUM or most == 0 else None


def _decimals(column: Column) -> int | None:
    if column.role != "real":
        return 0
    present = np.unique(column.values[~column.is_missing])
    grid = find_grid(present) if len(present) else None
    return None if grid is None else grid.decimals


def step_of(column: Column, decimals: int | None) -> int:
    """The step of the grid of a column, in units; 0 for reals."""
    if decimals is None:
        return 0
    present = np.unique(to_units(column, decimals)[~column.is_missing])
    return max(int(np.gcd.reduce(np.diff(present))), 1) if len(present) > 1 else 1


def to_units(column: Column, decimals: int | None) -> np.ndarray:
    """Values in units, shape (N,): int64, or float64 without decimals; arbitrary where missing.

    Example:
        >>> to_units(Column("real", np.array([0.1, 0.25]), np.array([False, False])), 2)
        array([10, 25])
    """
    if decimals is None:
        return column.values.astype(np.float64)
    if column.values.dtype.kind == "f":
        return np.rint(column.values * 10.0**decimals).astype(np.int64)
    return column.values.astype(np.int64) * 10**decimals


def from_units(units: np.ndarray, column: Column, decimals: int | None) -> np.ndarray:
    """Values of a column from units, shape (N,); each real is the float that its decimals read as."""
    if decimals is None or decimals == 0:
        return units.astype(column.values.dtype) if column.values.dtype.kind == "f" or decimals == 0 else np.rint(units)
    values = units / 10.0**decimals
    return values if column.values.dtype.kind == "f" else np.rint(values).astype(np.int64)
