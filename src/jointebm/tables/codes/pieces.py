"""Densities on the line, made of uniform pieces and points, one density per code.

A position is a grid index (int64) or a real (float64). On a grid the piece [low, high) holds the points low, ..., high - 1;
on the reals it is an interval, or a single real with mass if low = high.

Legend: P pieces, K codes, N entries.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Pieces"]


@dataclass(frozen=True, eq=False)
class Pieces:
    """p(position | code) = sum of share / length over the pieces of the code that hold the position.

    Points (length one on a grid, zero on the reals) may lie on an interval of the same code; other pieces do not overlap,
    and codes ascend along the line. `log_prob` of a real that is a point is the mass of the point, without the density
    around it. A code without pieces has no mass and cannot be drawn.

    Pieces are sorted by code, then by low. Ends are exclusive, except for the last interval on the reals, and do not ascend:
    a point may come after the interval around it. Only ratios of weights within a code matter to draws and densities.

    Example:
        >>> pieces = Pieces(np.array([0, 1]), np.array([1, 11]), np.array([3.0, 1.0]), np.array([0, 0]))
        >>> np.exp(pieces.log_prob(np.array([0, 5, 12]), np.array([0, 0, 0])))
        array([0.75 , 0.025, 0.   ])
        >>> pieces.draw(np.array([0, 0]), np.array([0.2, 0.8]))
        array([0, 3])
    """

    low: np.ndarray  # (P,), int64 on a grid, else float64
    high: np.ndarray  # (P,)
    weight: np.ndarray  # (P,), positive
    code: np.ndarray  # (P,)

    @property
    def on_grid(self) -> bool:
        """Whether positions are grid indices."""
        return bool(self.low.dtype.kind == "i")

    def mass(self, num_codes: int) -> np.ndarray:
        """Sum of the weights of each code, shape (K,)."""
        return np.bincount(self.code, self.weight, minlength=num_codes)

    def draw(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Draws a position from the density of each code by inverting its distribution function."""
        chosen = np.searchsorted(self.code + self._start, codes + uniforms, "right") - 1
        chosen = chosen.clip(self._first[codes], self._last[codes])
        inside = ((uniforms - self._start[chosen]) / self._share[chosen]).clip(0.0, 1.0)
        low, high = self.low[chosen], self.high[chosen]
        if self.on_grid:
            return low + np.minimum((inside * (high - low)).astype(np.int64), high - low - 1)
        below = np.nextafter(high, low)  # strictly inside, below the next piece
        return (low + inside * (high - low)).clip(np.nextafter(low, below), below)

    def log_prob(self, position: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """log p(position | code), shape (N,), nats: of mass on a grid and at points, else per unit of position."""
        log_prob = np.full(len(position), -np.inf)
        for number, is_point in zip(self._find(position), (False, True), strict=True):
            rows = np.flatnonzero(number >= 0)
            piece = number[rows]
            share = np.where(self.code[piece] == codes[rows], self._share[piece], 0.0)
            length = np.ones(len(piece)) if is_point else (self.high - self.low)[piece]
            with np.errstate(divide="ignore"):
                part = np.log(share) - np.log(length)
            around = log_prob[rows] if self.on_grid else -np.inf  # a real has a mass or a density, not both
            log_prob[rows] = np.logaddexp(around, part)
        return log_prob

    def locate(self, position: np.ndarray) -> np.ndarray:
        """The code whose pieces hold each position, shape (N,), or -1."""
        interval, point = self._find(position)
        number = np.where(point >= 0, point, interval)
        return np.where(number >= 0, self.code[number], -1)

    def within(self, low: float, high: float) -> "Pieces":
        """The pieces cut to [low, high], with their part of the weight."""
        end = high + 1 if self.on_grid else high
        cut_low, cut_high = self.low.clip(min=low), self.high.clip(max=end)
        length = self.high - self.low
        kept = np.where(length > 0, cut_high > cut_low, cut_high == cut_low)
        fraction = np.where(length > 0, (cut_high - cut_low) / np.where(length > 0, length, 1), 1.0)
        columns = (cut_low.astype(self.low.dtype), cut_high.astype(self.low.dtype), self.weight * fraction, self.code)
        return Pieces(*(column[kept] for column in columns))

    @cached_property
    def ascending(self) -> "Pieces":
        """The same densities with intervals cut at the points on them, so that draws ascend with their uniforms."""
        parts = [np.stack([self.low, self.high])[:, self._is_point]]
        weight, code = [self.weight[self._is_point]], [self.code[self._is_point]]
        for number in np.flatnonzero(~self._is_point):
            low, high = self.low[number], self.high[number]
            points = parts[0][:, self.code[self._is_point] == self.code[number]]
            on_it = points[:, (points[0] >= low) & (points[0] < high)]
            ends = np.unique(np.concatenate([[low, high], *on_it]))
            parts.append(np.stack([ends[:-1], ends[1:]]))
            weight.append(self.weight[number] * np.diff(ends) / (high - low))
            code.append(np.full(len(ends) - 1, self.code[number]))
        ends, numbers = np.concatenate(parts, axis=1), np.concatenate(code)
        order = np.lexsort((ends[1], ends[0], numbers))
        return Pieces(ends[0, order], ends[1, order], np.concatenate(weight)[order], numbers[order])

    @cached_property
    def _share(self) -> np.ndarray:
        """Probability of each piece within its code, shape (P,)."""
        return self.weight / self.mass(0)[self.code]

    @cached_property
    def _first(self) -> np.ndarray:
        """Number of the first piece of each code."""
        return np.searchsorted(self.code, np.arange(self.code.max(initial=-1) + 1), "left")

    @cached_property
    def _last(self) -> np.ndarray:
        return np.searchsorted(self.code, np.arange(self.code.max(initial=-1) + 1), "right") - 1

    @cached_property
    def _start(self) -> np.ndarray:
        """Share of the earlier pieces of the same code, shape (P,)."""
        before = np.cumsum(self._share) - self._share
        return (before - before[self._first[self.code]]).clip(0.0, 1.0)

    @cached_property
    def _is_point(self) -> np.ndarray:
        return (self.high - self.low) <= (1 if self.on_grid else 0)

    def _find(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The interval and the point that hold each position, shape (N,) each, -1 for none."""
        intervals, points = np.flatnonzero(~self._is_point), np.flatnonzero(self._is_point)
        interval = _last_not_above(self.low[intervals], position, intervals)
        is_inside = position < self.high[interval] if self.on_grid else position <= self.high[interval]
        is_inside &= interval >= 0
        point = _last_not_above(self.low[points], position, points)
        is_there = (point >= 0) & (self.low[point] == position)
        return np.where(is_inside, interval, -1), np.where(is_there, point, -1)


def _last_not_above(low: np.ndarray, position: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The number of the last piece that starts at or below each position, -1 for none."""
    return np.append(numbers, -1)[np.searchsorted(low, position, "right") - 1]
