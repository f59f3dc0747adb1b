"""Finds atoms, bins, codes, cells and frequent values of a column of numbers: from data to a `NumberCodec`.

With N values and a budget of B bins, 48 or 2 N^(1/3) (Rice's rule) if that is less, but at least 4:
1. Few distinct values (at most 48, or as many codes as are asked for, three rows each on average): every value is an atom.
2. Otherwise every value with a share of at least 1 / B is an atom. Bins lie between atoms and gaps. A gap is a distance
   far above those of the values around it; bins end at the values beside it.
3. Bins are finer where values are dense, and not as coarse in the tails as bins of equal counts: equal steps of the mean of
   the distribution function and of the integral of the square root of the density. A bin holds at least ten rows.
4. A bin is divided into up to four codes of about equal counts, of eight rows at least; of three rows in a bin of more than
   1.5 times the median length, as in tails: within a code a value is independent of other columns. A reference learns
   bins, the network tells their codes apart. With a budget of codes, bins and codes of a bin are as many as fit in.
5. Within a code, values much more frequent than its density are points: of reals those of five rows, and on a grid those
   that raise the log-likelihood of the code by three nats and log U. The rest is a histogram of up to four cells of equal
   counts, of as many as its log-likelihood asks for, less three nats for each cell but the first.

Legend: N values, U distinct values.
"""

import math

import numpy as np

from jointebm.tables.codes.grids import Grid
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["fit_numbers"]

DEFAULT_BINS = 48
PARTS = 4  # codes of a bin, by default at most
ROWS_PER_CODE = 8  # at least
LONG = 1.5  # in lengths of the median bin: a longer one has
ROWS_OF_LONG = 3  # rows per code, at least
ROWS_PER_ATOM = 3  # on average, when all values are atoms
ROWS_PER_BIN = 10  # at least, where there are as many
NEIGHBOURS = 20  # distances on each side of a gap, that it is compared with
ROWS_PER_CELL = 20
MAX_CELLS = 4  # of a code
NATS_PER_CELL = 3.0  # of log-likelihood, for which a code is divided once more: half the log of 400 rows
MAX_POINTS = 512  # of a column
MIN_POINT = 5  # rows of a point of reals

Piece = tuple[float, float, float]  # low, high, rows


def fit_numbers(
    distinct: np.ndarray, counts: np.ndarray, *, grid: Grid | None, max_codes: int | None = None
) -> NumberCodec:
    """Chooses the codes of finite numbers; atoms and gaps between bins may exceed the budget.

    Args:
        distinct: the different numbers, ascending, shape (U,), int64 or float64.
        counts: rows of each, shape (U,).
        grid: of all numbers; None if they are on none.
        max_codes: the budget; None is the default.
    """
    whole, num = distinct.dtype.kind == "i", int(counts.sum())
    if grid is None and whole:  # floats do not tell all of them apart
        distinct, place = np.unique(distinct.astype(np.float64), return_inverse=True)
        counts = np.bincount(place, counts).astype(np.int64)
    position = distinct.astype(np.float64) if grid is None else grid.index(distinct)
    budget, parts = _budget(num, max_codes)
    few = len(distinct) <= (max_codes or DEFAULT_BINS) and ROWS_PER_ATOM * len(distinct) <= num
    is_atom = np.full(len(distinct), True) if few or len(distinct) == 1 else counts * budget >= num
    is_gap = _gaps(position, is_atom, num)
    bins = _bins(position, counts, is_atom, is_gap, budget)
    codes = _codes(position, bins, counts, parts)
    point = 0 if grid is None else 1  # length of one
    first = np.flatnonzero(np.diff(codes, prepend=-1))  # (K,) first distinct value of each code
    last = np.append(first[1:], len(distinct)) - 1
    low, high = _ends(position, first, last, is_atom, is_gap, point)
    is_frequent = _frequent(counts, codes, high - low) & ~is_atom
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
        whole=whole,
        low=tuple(lows.tolist()),
        high=tuple(highs.tolist()),
        weight=tuple(weight.tolist()),
        code=tuple(code),
        counts=tuple(np.bincount(codes, counts).astype(int).tolist()),
        bin=tuple(bins[first].tolist()) if bins[-1] < codes[-1] else None,
    )


def _budget(num: int, max_codes: int | None) -> tuple[int, int]:
    """Bins of a column and codes of a bin, at most."""
    most = min(DEFAULT_BINS, max(4, round(2 * math.cbrt(num))))
    if max_codes is None:
        return most, PARTS
    parts = math.ceil(max_codes / most)
    return max_codes // parts, parts


def _codes(position: np.ndarray, bins: np.ndarray, counts: np.ndarray, parts: int) -> np.ndarray:
    """The code of each distinct value, shape (U,): parts of about equal counts of each bin."""
    rows = np.bincount(bins, counts)
    before = np.cumsum(counts) - counts
    middle = before - before[np.searchsorted(bins, bins)] + counts / 2
    place, ends = position.astype(np.float64), np.flatnonzero(np.diff(bins, append=bins[-1] + 1))
    with np.errstate(over="ignore"):
        length = np.diff(place[ends], prepend=place[0])
        is_long = length > LONG * np.median(length)
    num_parts = np.clip(rows // np.where(is_long, ROWS_OF_LONG, ROWS_PER_CODE), 1, parts)[bins]
    part = np.floor(middle / rows[bins] * num_parts)
    return np.cumsum((np.diff(bins, prepend=bins[0]) > 0) | (np.diff(part, prepend=part[0]) != 0))


def _gaps(position: np.ndarray, is_atom: np.ndarray, num: int) -> np.ndarray:
    """Whether a gap of the data lies behind each distinct value, bool (U - 1,).

    It is more than 2 + log N times as long as the mean of the twenty distances on each side; in even data, one of N is so
    with a probability of about exp(-2). A side with an atom next to the gap does not count. Fewer values on a side are not
    told from a tail.
    """
    place, far = position.astype(np.float64), NEIGHBOURS
    if len(place) <= far + 1:
        return np.zeros(len(place) - 1, dtype=bool)
    means = (place[far:] - place[:-far]) / far
    nothing = np.full(far, np.inf)
    before, behind = np.append(nothing, means[:-1]), np.append(means[1:], nothing)  # (U - 1,) each
    before, behind = np.where(is_atom[:-1], 0.0, before), np.where(is_atom[1:], 0.0, behind)
    with np.errstate(over="ignore"):
        return np.diff(place) > (2 + math.log(num)) * np.maximum(before, behind)


def _bins(position: np.ndarray, counts: np.ndarray, is_atom: np.ndarray, is_gap: np.ndarray, budget: int) -> np.ndarray:
    """The bin of each distinct value, shape (U,): one per atom, and bins between atoms and gaps."""
    run = np.cumsum(is_atom | np.append(False, is_atom[:-1] | is_gap))  # (U,)
    first = np.searchsorted(run, run)
    around = np.diff(position.astype(np.float64) / 2, prepend=position[:1] / 2, append=position[-1:] / 2)
    is_inside = np.append(False, run[1:] == run[:-1])
    length = np.where(is_inside, around[:-1], 0) + np.where(np.append(is_inside[1:], False), around[1:], 0)
    mass = np.bincount(run, counts)[run]
    steps = counts / mass
    root = np.sqrt(counts) * np.sqrt(length)
    whole = np.bincount(run, root)[run]
    steps = np.where(whole > 0, (steps + root / np.where(whole > 0, whole, 1)) / 2, steps)
    before = np.cumsum(steps) - steps
    middle = before - before[first] + steps / 2  # in [0, 1) along the run
    num_bins = np.round(mass * max(budget - is_atom.sum(), 1) / max(counts[~is_atom].sum(), 1)).clip(min=1)
    bins = np.where(is_atom, 0, np.floor(middle * num_bins))
    starts = np.append(True, (np.diff(run) > 0) | (np.diff(bins) != 0))
    starts &= ~_short(starts, run, counts)
    return np.cumsum(starts) - 1


def _short(starts: np.ndarray, run: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Whether a value begins a bin that is joined to its neighbour in the same run for lack of rows, bool (U,)."""
    firsts = np.flatnonzero(starts)
    rows = np.add.reduceat(counts, firsts)
    joined = np.zeros(len(starts), dtype=bool)
    held = 0
    for number, first in enumerate(firsts):
        same = number > 0 and run[first] == run[first - 1]
        is_last = number + 1 == len(firsts) or run[firsts[number + 1]] != run[first]
        joined[first] = same and (held < ROWS_PER_BIN or (is_last and rows[number] < ROWS_PER_BIN))
        held = rows[number] + (held if joined[first] else 0)
    return joined


def _ends(
    position: np.ndarray, first: np.ndarray, last: np.ndarray, is_atom: np.ndarray, is_gap: np.ndarray, point: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the codes, shape (K,) each: atoms are points; others fill the space to their neighbours, but no gaps."""
    low, high = position[first], position[last] + point
    border = _between(position[last[:-1]], position[first[1:]], point)
    for_bins, gap = ~is_atom[first], is_gap[last[:-1]]
    behind_atom, before_atom = is_atom[last[:-1]], is_atom[first[1:]]
    new_low = np.where(behind_atom, position[last[:-1]] + point, border)
    new_high = np.where(before_atom, position[first[1:]], border)
    low[1:] = np.where(for_bins[1:] & ~gap, new_low, low[1:])
    high[:-1] = np.where(for_bins[:-1] & ~gap, new_high, high[:-1])
    return low, high


def _between(left: np.ndarray, right: np.ndarray, point: int) -> np.ndarray:
    """Borders in (left, right]."""
    if point:
        return left + (right - left + 1) // 2
    middle = left + (right - left) / 2
    return np.where(middle > left, middle, right)


def _frequent(counts: np.ndarray, codes: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Whether a distinct value is much more frequent than the density of its code, shape (U,)."""
    if length.dtype.kind == "f":  # no grid: reals hardly ever agree by chance
        frequent = counts >= MIN_POINT
    else:  # a code of one point has nothing to gain
        rows = np.bincount(codes, counts)[codes]
        even, others = rows / length[codes], rows - counts
        gain = counts * np.log(counts / even) + others * np.log(others.clip(min=1) / (rows - even).clip(min=1))
        frequent = (counts > even) & (gain >= NATS_PER_CELL + math.log(len(counts)))
    if frequent.sum() > MAX_POINTS:
        frequent &= counts > np.sort(counts[frequent])[-MAX_POINTS - 1]
    return frequent


def _pieces(
    position: np.ndarray, counts: np.ndarray, is_frequent: np.ndarray, ends: tuple[float, float], point: int
) -> list[Piece]:
    """Points and cells of one code."""
    low, high = ends
    if high - low <= point:
        return [(low, high, counts.sum())]
    rest = np.where(is_frequent, 0, counts)
    most = int(np.clip(rest.sum() // ROWS_PER_CELL, 1, MAX_CELLS))
    cells = max((_cells(position, rest, ends, num, point) for num in range(1, most + 1)), key=_worth)
    for value, count in zip(position[is_frequent], counts[is_frequent], strict=True):
        short = [i for i, (a, b, _) in enumerate(cells) if b - a <= point and a == value]
        if short:  # the cell is the point
            cells[short[0]] = (value, value + point, cells[short[0]][2] + count)
        else:
            cells.append((value, value + point, count))
    return sorted(cells)


def _cells(position: np.ndarray, rows: np.ndarray, ends: tuple[float, float], num: int, point: int) -> list[Piece]:
    """A code in cells of about equal counts; one extra row is spread over them for values between those of training."""
    middle = np.cumsum(rows) - rows / 2
    cell = np.floor(middle / max(rows.sum(), 1) * num).clip(max=num - 1)
    starts = np.flatnonzero(np.diff(cell)) + 1
    borders = [ends[0], *_between(position[starts - 1], position[starts], point).tolist(), ends[1]]
    of_cells = [part.sum() + 1 / (len(starts) + 1) for part in np.split(rows, starts)]
    return list(zip(borders[:-1], borders[1:], of_cells, strict=True))


def _worth(cells: list[Piece]) -> float:
    """Log-likelihood of the rows of a code, less that of chance."""
    return sum(rows * (math.log(rows) - math.log(high - low)) for low, high, rows in cells) - NATS_PER_CELL * len(cells)
