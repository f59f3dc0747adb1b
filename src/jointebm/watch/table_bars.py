"""Distributions of a column as bars: numbers over equal intervals, categories by level.

Legend: K codes, B bars.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["ColumnBars"]

NUM_INTERVALS = 32  # of numbers
MAX_BARRED = 60  # levels with a bar each; the rest share one
OUTERMOST = 0.005  # of training rows that the first and the last bar take in


@dataclass(frozen=True)
class ColumnBars:
    """The bars of one column.

    Args:
        coded: the column.
    """

    coded: CodedColumn

    @cached_property
    def edges(self) -> np.ndarray | None:
        """Ends of the intervals of numbers, shape (B + 1,); None for categories."""
        codec = self.coded.codec
        if not isinstance(codec, NumberCodec):
            return None
        first, last = self._range
        if codec.grid is not None and last - first <= NUM_INTERVALS * self._unit:  # a bar for each number
            return np.arange(first - self._unit / 2, last + self._unit, self._unit)
        return np.linspace(first, max(last, np.nextafter(first, np.inf)), NUM_INTERVALS + 1)

    @property
    def levels(self) -> list[object]:
        """Levels of a category with a bar each, in the order of their codes; none for numbers."""
        codec = self.coded.codec
        return list(codec.levels[:MAX_BARRED]) if isinstance(codec, CategoryCodec) else []

    @cached_property
    def shares_of_codes(self) -> np.ndarray:
        """Share of each code that lies in each bar, shape (K, B); the last bar of many levels is that of all others."""
        codec = self.coded.codec
        if isinstance(codec, CategoryCodec):
            shares = np.zeros((codec.num_codes, min(len(codec.levels), MAX_BARRED + 1)))
            mass = np.bincount(codec.code, codec.weight)
            for number, (code, weight) in enumerate(zip(codec.code, codec.weight, strict=True)):
                shares[code, min(number, MAX_BARRED)] += weight / mass[code]
            return shares
        assert isinstance(codec, NumberCodec) and self.edges is not None
        low, high = self._ends
        pieces = codec.pieces
        edges = self.edges.copy()
        edges[0], edges[-1] = -np.inf, np.inf
        length = high - low
        inside = (np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])).clip(min=0)
        at = np.searchsorted(edges, low, side="right") - 1
        points = np.arange(len(edges) - 1) == at.clip(0, len(edges) - 2)[:, None]
        share = np.where(length[:, None] > 0, inside / np.where(length > 0, length, 1)[:, None], points)
        total = np.zeros((codec.num_codes, len(edges) - 1))
        np.add.at(total, pieces.code, share * pieces.weight[:, None])
        return total / pieces.mass(codec.num_codes)[:, None]

    def of_codes(self, probs: np.ndarray) -> list[float]:
        """Bars of a distribution over codes, shape (K,)."""
        return (probs @ self.shares_of_codes).tolist()

    @property
    def of_training(self) -> list[float] | None:
        """Bars of the training rows; None for categories, whose codec does not count rows."""
        codec = self.coded.codec
        if not isinstance(codec, NumberCodec):
            return None
        counts = np.array(codec.counts, dtype=float)
        return self.of_codes(counts / max(1.0, counts.sum()))

    def counts(self, column: Column) -> np.ndarray:
        """How many entries of a column lie in each bar, shape (B,)."""
        values = column.values[~column.is_missing]
        if self.edges is not None:
            at = np.searchsorted(self.edges, values.astype(float), side="right") - 1
            return np.bincount(at.clip(0, len(self.edges) - 2), minlength=len(self.edges) - 1)
        codec = self.coded.codec
        assert isinstance(codec, CategoryCodec)
        numbers = {level: number for number, level in enumerate(codec.levels)}
        at = np.array([min(numbers.get(value, MAX_BARRED), MAX_BARRED) for value in values.tolist()], dtype=int)
        return np.bincount(at, minlength=self.shares_of_codes.shape[1])

    @cached_property
    def _unit(self) -> float:
        codec = self.coded.codec
        assert isinstance(codec, NumberCodec) and codec.grid is not None
        first, second = codec.grid.value(np.array([0, 1]))
        return float(second - first)

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last number of each piece, float64; on a grid half a step further."""
        codec = self.coded.codec
        assert isinstance(codec, NumberCodec)
        low, high = codec.pieces.low, codec.pieces.high
        if codec.grid is None:
            return low.astype(float), high.astype(float)
        half = self._unit / 2
        return codec.grid.value(low) - half, codec.grid.value(high - 1) + half

    @cached_property
    def _range(self) -> tuple[float, float]:
        """Where the training rows lie, without the outermost."""
        codec = self.coded.codec
        assert isinstance(codec, NumberCodec)
        counts = np.array(codec.counts, dtype=float)[None]
        if counts.sum() == 0:
            return float(codec.smallest), float(codec.largest)
        low, high = (float(codec.quantile(counts / counts.sum(), level)[0]) for level in (OUTERMOST, 1 - OUTERMOST))
        return low, high
