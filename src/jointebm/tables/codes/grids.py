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

__all__ = ["Grid", "find_grid"]

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
    if distinct.dtype.kind == "i":
        first, last = int(distinct[0]), int(distinct[-1])
        return _grid(distinct, 0) if max(-first, last, last - first) < MAX_INTEGER else None
    for decimals in range(MAX_DECIMALS + 1):
        units = np.rint(distinct * 10.0**decimals)
        if not (np.abs(units) < MAX_UNITS).all():
            return None
        if np.array_equal(units / 10.0**decimals, distinct):
            return _grid(units.astype(np.int64), decimals)
    return None


def _grid(units: np.ndarray, decimals: int) -> Grid:
    step = int(np.gcd.reduce(np.diff(units))) if len(units) >= MIN_DISTINCT else 1
    return Grid(offset=int(units[0]), step=max(step, 1), decimals=decimals)
