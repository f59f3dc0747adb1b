"""Finds atoms, bins, cells and frequent values of a column of numbers: from data to a `NumberCodec`.

With N values and a budget of B codes:
1. Few distinct values (at most B, three rows each on average): every value is an atom.
2. Otherwise B is at most 2 N^(1/3) (Rice's rule). Every value with a share of at least 1 / B is an atom; bins of about
   equal counts lie between atoms.
3. Within a bin, values much more frequent than its density are points; the rest is a histogram of up to four cells of
   equal counts.

Legend: N values, U distinct values.
"""

import math

import numpy as np

from jointebm.tables.codes.grids import find_grid
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["fit_numbers"]

ROWS_PER_ATOM = 3  # on average, when all values are atoms
ROWS_PER_CELL = 20
MAX_CELLS = 4  # of a bin
MAX_POINTS = 512  # of a column
MIN_POINT = 5  # rows of a point; on a grid, beyond three times those expected by chance

Piece = tuple[float, float, float]  # low, high, rows


def fit_numbers(values: np.ndarray, *, max_codes: int) -> NumberCodec:
    """Chooses the codes of finite numbers (N,), int64 or float64; atoms between bins may exceed the budget."""
    distinct, counts = np.unique(values, return_counts=True)
    grid = find_grid(distinct)
    if grid is None and values.dtype.kind == "i":  # floats do not tell all of them apart
        distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    position = distinct.astype(np.float64) if grid is None else grid.index(distinct)
    budget = min(max_codes, max(4, round(2 * math.cbrt(len(values)))))
    few = len(distinct) <= max_codes and ROWS_PER_ATOM * len(distinct) <= len(values)
    is_atom = np.full(len(distinct), True) if few or len(distinct) == 1 else counts * budget >= len(values)
    bins = _bins(counts, is_atom, budget)
    point = 0 if grid is None else 1  # length of one
    first = np.flatnonzero(np.diff(bins, prepend=-1))  # (K,) first distinct value of each code
    last = np.append(first[1:], len(distinct)) - 1
    low, high = _ends(position, first, last, is_atom, point)
    is_frequent = _frequent(counts, bins, high - low) & ~is_atom
    pieces: list[Piece] = []
    code: list[int] = []
    for i in range(len(first)):
        members = slice(first[i], last[i] + 1)
        found = _pieces(position[members], counts[members], is_frequent[members], (low[i], high[i]), point)
        pieces += found
        code += [i] * len(found)
    lows, highs, rows = (np.array(column) for column in zip(*pieces, strict=True))
    weight = rows / np.bincount(code, rows)[code]
    return NumberCodec(
        grid=grid,
        whole=values.dtype.kind == "i",
        low=tuple(lows.tolist()),
        high=tuple(highs.tolist()),
        weight=tuple(weight.tolist()),
        code=tuple(code),
        counts=tuple(np.bincount(bins, counts).astype(int).tolist()),
    )


def _bins(counts: np.ndarray, is_atom: np.ndarray, budget: int) -> np.ndarray:
    """The code of each distinct value, shape (U,): one per atom, and bins of about equal counts between atoms."""
    run = np.cumsum(is_atom | np.append(False, is_atom[:-1]))  # (U,)
    mass = np.bincount(run, counts)[run]
    before = np.cumsum(counts) - counts
    middle = before - before[np.searchsorted(run, run)] + counts / 2  # of the run's distribution function
    num_bins = np.round(mass * max(budget - is_atom.sum(), 1) / max(counts[~is_atom].sum(), 1)).clip(min=1)
    bins = np.where(is_atom, 0, np.floor(middle / mass * num_bins))
    return np.cumsum((np.diff(run, prepend=run[0]) > 0) | (np.diff(bins, prepend=bins[0]) != 0))


def _ends(
    position: np.ndarray, first: np.ndarray, last: np.ndarray, is_atom: np.ndarray, point: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the codes, shape (K,) each: atoms are points, and bins fill the space between their neighbours."""
    low, high = position[first], position[last] + point
    border = _between(position[last[:-1]], position[first[1:]], point)
    for_bins = ~is_atom[first]
    behind_atom, before_atom = is_atom[last[:-1]], is_atom[first[1:]]
    low[1:] = np.where(for_bins[1:], np.where(behind_atom, position[last[:-1]] + point, border), low[1:])
    high[:-1] = np.where(for_bins[:-1], np.where(before_atom, position[first[1:]], border), high[:-1])
    return low, high


def _between(left: np.ndarray, right: np.ndarray, point: int) -> np.ndarray:
    """Borders in (left, right]."""
    if point:
        return left + (right - left + 1) // 2
    middle = left + (right - left) / 2
    return np.where(middle > left, middle, right)


def _frequent(counts: np.ndarray, bins: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether a distinct value is much more frequent than the density of its bin, shape (U,)."""
    frequent = counts >= MIN_POINT
    if length.dtype.kind == "i":  # a grid
        by_chance = np.bincount(bins, counts) / length
        frequent = counts >= MIN_POINT + 3 * by_chance[bins]
    if frequent.sum() > MAX_POINTS:
        frequent &= counts > np.sort(counts[frequent])[-MAX_POINTS - 1]
    return frequent


def _pieces(
    position: np.ndarray, counts: np.ndarray, is_frequent: np.ndarray, ends: tuple[float, float], point: int
) -> list[Piece]:
    """Points and cells of one code; one extra row is spread over the cells for values between those of training."""
    low, high = ends
    if high - low <= point:
        return [(low, high, counts.sum())]
    rest = np.where(is_frequent, 0, counts)
    num_cells = int(np.clip(rest.sum() // ROWS_PER_CELL, 1, MAX_CELLS))
    middle = np.cumsum(rest) - rest / 2
    cell = np.floor(middle / max(rest.sum(), 1) * num_cells).clip(max=num_cells - 1)
    starts = np.flatnonzero(np.diff(cell)) + 1
    borders = [low, *_between(position[starts - 1], position[starts], point).tolist(), high]
    rows = [part.sum() + 1 / (len(starts) + 1) for part in np.split(rest, starts)]
    cells: list[Piece] = [(a, b, w) for a, b, w in zip(borders[:-1], borders[1:], rows, strict=True)]
    for value, count in zip(position[is_frequent], counts[is_frequent], strict=True):
        short = [i for i, (a, b, _) in enumerate(cells) if b - a <= point and a == value]
        if short:  # the cell is the point
            cells[short[0]] = (value, value + point, cells[short[0]][2] + count)
        else:
            cells.append((value, value + point, count))
    return sorted(cells)
