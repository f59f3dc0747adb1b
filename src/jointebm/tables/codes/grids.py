"""Rounding grids: the numbers offset + k * step, converted exactly to k and back.

Tables hold rounded numbers: whole years, prices in steps of 25, lengths to a tenth of a millimetre. They get a probability
for each k, not a density over reals.

Legend: N values.
"""

import math
from fractions import Fraction

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config

__all__ = ["Grid", "GridTest", "find_grid"]

MAX_DECIMALS = 6
MAX_UNITS = 2**53  # whole numbers up to here are floats
MAX_INTEGER = 2**62  # differences of whole numbers up to here fit 64 bits
MIN_DISTINCT = 8  # fewer values may share a coarse step by chance


class Grid(Config):
    """The numbers (offset + k * step) / 10^decimals, for whole k.

    Example:
        >>> grid = Grid(offset=5, step=5, decimals=1)  # 0.5, 1.0, 1.5, ...
        >>> grid.index(np.array([0.5, 1.6])), grid.value(np.array([0, 2]))
        (array([0, 2]), array([0.5, 1.5]))
    """

    offset: int = Field(
        ge=-MAX_INTEGER, le=MAX_INTEGER, description="the number at k = 0, in units of the last decimal"
    )
    step: int = Field(ge=1, le=MAX_INTEGER, description="distance of neighbours, in units of the last decimal")
    decimals: int = Field(0, ge=0, le=MAX_DECIMALS, description="digits behind the point")

    def index(self, values: np.ndarray) -> np.ndarray:
        """k of the grid point nearest to each value, shape (N,), int64; values beyond 64 bits are clipped."""
        ahead = self._units(values) - self.offset
        return (ahead.clip(max=2**63 - 1 - self.step // 2) + self.step // 2) // self.step

    def floor(self, number: float) -> int:
        """The largest k whose number is not above the given one."""
        return math.floor(self._steps(number))

    def ceil(self, number: float) -> int:
        """The smallest k whose number is not below the given one."""
        return math.ceil(self._steps(number))

    def value(self, index: np.ndarray) -> np.ndarray:
        """The number at each k, shape (N,): int64 without decimals, else the float nearest to its decimals."""
        units = self.offset + index * self.step
        return units if self.decimals == 0 else units / 10.0**self.decimals

    def _steps(self, number: float) -> Fraction:
        """Steps from k = 0 to a number, exact in its decimal digits."""
        near = max(min(number, MAX_INTEGER), -MAX_INTEGER)  # infinity has no fraction
        written = near if isinstance(near, int) else Fraction(repr(float(near)))
        clipped = max(min(written * 10**self.decimals, MAX_INTEGER), -MAX_INTEGER)
        return Fraction(clipped - self.offset) / self.step

    def _units(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "i":
            largest = MAX_INTEGER // 10**self.decimals
            return values.clip(-largest, largest).astype(np.int64) * 10**self.decimals
        limit = MAX_UNITS / 10.0**self.decimals
        return np.rint(values.clip(-limit, limit) * 10.0**self.decimals).astype(np.int64)


class GridTest:
    """Which grids all values of a column lie on, found part by part; the order of the parts does not matter.

    It holds, for each number of decimals that all values have at most, one value and the greatest common divisor of the
    differences.

    Example:
        >>> test = GridTest()
        >>> test.add(np.array([100, 175]))
        >>> test.add(np.array([125, 400]))
        >>> test.grid(100, 400, num_distinct=8)
        Grid(offset=100, step=25, decimals=0)
    """

    def __init__(self) -> None:
        self._steps: dict[int, tuple[int, int]] | None = None  # of the decimals; None before the first value

    @property
    def is_settled(self) -> bool:
        """Whether no further value can change the answer: there is no grid."""
        return self._steps == {}

    def add(self, distinct: np.ndarray) -> None:
        """Adds different values, shape (U,), ascending, int64 or float64."""
        if not len(distinct) or self.is_settled:
            return
        is_whole = distinct.dtype.kind == "i"
        decimals = ([0] if is_whole else range(MAX_DECIMALS + 1)) if self._steps is None else self._steps
        found = {each: _units(distinct, each) for each in decimals}
        steps = {each: (int(units[0]), _common_step(units)) for each, units in found.items() if units is not None}
        self._steps = steps if self._steps is None else _merged(self._steps, steps)

    def merge(self, other: "GridTest") -> None:
        """Adds the values of another test."""
        if other._steps is not None:
            self._steps = other._steps if self._steps is None else _merged(self._steps, other._steps)

    def grid(self, low: float, high: float, *, num_distinct: int) -> Grid | None:
        """The coarsest grid that all values lie on, of a column with this range and so many different values.

        None if they have more than six decimals or too many digits.
        """
        if not self._steps:
            return None
        decimals = min(self._steps)
        if isinstance(low, int) and max(-low, int(high), int(high) - low) >= MAX_INTEGER:
            return None
        offset = low if isinstance(low, int) else int(np.rint(low * 10.0**decimals))
        step = self._steps[decimals][1] if num_distinct >= MIN_DISTINCT else 1
        return Grid(offset=offset, step=max(step, 1), decimals=decimals)


def find_grid(distinct: np.ndarray) -> Grid | None:
    """The coarsest grid that all values lie on, or None if they have more than six decimals or too many digits.

    The step is the greatest common divisor of all differences; with fewer than eight values it is one unit of the last
    decimal.

    Example:
        >>> find_grid(np.array([39.1, 39.5, 40.25]))
        Grid(offset=3910, step=1, decimals=2)
        >>> find_grid(np.arange(100, 400, 25))
        Grid(offset=100, step=25, decimals=0)
        >>> find_grid(np.array([np.pi, np.e])) is None
        True
    """
    test = GridTest()
    test.add(distinct)
    return test.grid(distinct[0].item(), distinct[-1].item(), num_distinct=len(distinct))


def _units(values: np.ndarray, decimals: int) -> np.ndarray | None:
    """Values in units of the last decimal, or None if one has more decimals or too many digits."""
    if values.dtype.kind == "i":
        return values
    with np.errstate(over="ignore"):
        units = np.rint(values * 10.0**decimals)
    if (np.abs(units) < MAX_UNITS).all() and np.array_equal(units / 10.0**decimals, values):
        return units.astype(np.int64)
    return None


def _common_step(units: np.ndarray) -> int:
    return int(np.gcd.reduce(np.diff(units))) if len(units) > 1 else 0


def _merged(one: dict[int, tuple[int, int]], two: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    return {
        decimals: (first, math.gcd(step, two[decimals][1], first - two[decimals][0]))
        for decimals, (first, step) in one.items()
        if decimals in two
    }
