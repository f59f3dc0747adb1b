"""Numbers to codes and back: atoms and parts of bins along the line, with the exact density of a value given its code.

A code is an atom (one frequent value, such as 0 or 40), or a bin or part of one, which has a density: a histogram of a few
cells, on the rounding grid of the column if there is one, plus points at single values that are more frequent than their
neighbours. `jointebm.tables.codes.binning` finds atoms, bins, codes, cells and grid.

**Surprises** are values in a gap: between neighbouring codes that do not touch, or outside the range of training. A code
next to gaps keeps the share 1 / (its count + 2) for surprises, the same part of it for each of its gaps: spread evenly over
its half of the gap or, outside the range, with the probability s / (s + x) of a distance of x or more, with s the length of
the code there, or of the median code if that is longer; of atoms alone, the range. So every number has a finite log-density,
and the density of each code integrates to one. Draws are never surprises.

Legend: N entries, K codes, P pieces, G gaps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.grids import MAX_INTEGER, Grid
from jointebm.tables.codes.pieces import Pieces

__all__ = ["NumberCodec"]

LONGER = 2.0  # times the length of a row's code, that its mass sees of a neighbour
MAX_SCALE = 1e300  # of a range, so that sums with it stay finite
HALF_FLOAT32 = 2.0**-24  # relative rounding of 32-bit reals


class NumberCodec(Config):
    """Numbers <-> codes, and log p(value | code), as stored in `config.json`.

    Values are float64, or int64 if `whole`; whole numbers beyond 2^62, too large for a grid, are rounded reals.

    Example:
        >>> codec = NumberCodec(grid=Grid(offset=0, step=1), whole=True, low=(0, 1), high=(1, 11), weight=(1.0, 1.0),
        ...                     code=(0, 1), counts=(60, 40))  # an atom at 0, and a bin of 1 to 10
        >>> codec.encode(np.array([0, 7]))
        array([0, 1])
        >>> codec.decode(np.array([0, 1]), np.array([0.5, 0.5]))
        array([0, 6])
        >>> np.exp(codec.log_prob(np.array([0, 7]), np.array([0, 1]))).round(3)  # 1/62 and 1/42 are left for surprises
        array([0.984, 0.098])
    """

    kind: Literal["number"] = "number"
    grid: Grid | None = Field(description="rounding grid, None for reals")
    whole: bool = Field(description="whether values are whole numbers (int64)")
    low: tuple[int, ...] | tuple[float, ...] = Field(min_length=1, description="first position of each piece")
    high: tuple[int, ...] | tuple[float, ...] = Field(min_length=1, description="end of each piece")
    weight: tuple[float, ...] = Field(min_length=1, description="probability of each piece within its code")
    code: tuple[int, ...] = Field(min_length=1, description="code of each piece, ascending")
    counts: tuple[int, ...] = Field(min_length=1, description="training rows of each code")
    bin: tuple[int, ...] | None = Field(None, description="bin of each code, ascending; None: every code is one")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.low) == len(self.high) == len(self.weight) == len(self.code):
            raise ValueError("low, high, weight and code differ in length")
        steps = {after - before for before, after in zip((-1, *self.code), self.code, strict=False)}
        if not steps <= {0, 1} or self.code[0] != 0 or self.code[-1] != len(self.counts) - 1:
            raise ValueError("code must ascend from 0 to the number of counts - 1")
        if self.bin is not None and (
            len(self.bin) != len(self.counts) or self.bin[0] != 0 or not set(np.diff(self.bin).tolist()) <= {0, 1}
        ):
            raise ValueError("bin must hold a number for each code that ascends from 0")
        if not all(isinstance(end, int if self.grid else float) for end in self.low + self.high):
            raise ValueError("low and high must be whole with a grid, and reals without")
        shortest = 1 if self.grid else 0
        for low, high in zip(self.low, self.high, strict=True):
            if not (low + shortest <= high and (not self.grid or max(abs(low), abs(high)) <= MAX_INTEGER)):
                raise ValueError(f"a piece from {low} to {high}; it must not be empty, nor longer than 2^62")
        if min(self.weight) <= 0 or min(self.counts) < 0:
            raise ValueError("weights must be positive, and counts not negative")
        return self

    @property
    def num_codes(self) -> int:
        """Number of codes."""
        return len(self.counts)

    @property
    def bins(self) -> tuple[int, ...]:
        """The bin of each code."""
        return self.bin or tuple(range(self.num_codes))

    @property
    def spread(self) -> np.ndarray:
        """The share of a row of each code (columns) that counts for each code (rows), shape (K, K); columns sum to one.

            spread_kl ~ exp(-(k - l)^2 / 2) min(length_k, 2 length_l)

        A row stays with its code if that is a point, and never crosses a point or a gap. Codes hold about as many rows each,
        so what varies by chance is their length; spread rows follow the density around a code.
        """
        code, num = np.array(self.code), self.num_codes
        first = np.searchsorted(code, np.arange(num))
        last = np.searchsorted(code, np.arange(num), side="right") - 1
        low, high = (
            np.array(ends, dtype=np.float64) / 2 for ends in (self.low, self.high)
        )  # halved: differences are finite
        low, high = low[first], high[last]
        length = high - low
        is_point = length == (0.5 if self.grid else 0.0)
        run = np.cumsum(np.append(True, is_point[1:] | is_point[:-1] | (low[1:] > high[:-1])))
        length = np.where(is_point, 1.0, (length / length.max(initial=1e-300)).clip(min=1e-300))
        steps = np.arange(num)
        near = np.exp(-0.5 * np.square(steps[:, None] - steps, dtype=np.float64)) * (run[:, None] == run)
        near *= np.minimum(length[:, None] / length, LONGER)
        return near / near.sum(axis=0)

    @property
    def is_discrete(self) -> bool:
        """Whether every code is an atom."""
        length = 1 if self.grid else 0
        return all(high - low == length for low, high in zip(self.low, self.high, strict=True))

    @property
    def smallest(self) -> float:
        """Lower bound of all draws."""
        return self._values(self.pieces.low[:1])[0]

    @property
    def largest(self) -> float:
        """Upper bound of all draws."""
        return self._values(self.pieces.high.max(keepdims=True) - (1 if self.grid else 0))[0]

    @cached_property
    def pieces(self) -> Pieces:
        """The density of each code, without surprises."""
        dtype = np.int64 if self.grid else np.float64
        low, high = np.array(self.low, dtype=dtype), np.array(self.high, dtype=dtype)
        return Pieces(low, high, np.array(self.weight), np.array(self.code))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The code of each number, shape (N,): off the grid that of the nearest point, of a surprise its neighbour."""
        position = self._positions(values)
        located = self.pieces.locate(position)
        return np.where(located >= 0, located, self._gaps.code[self._gaps.find(position)])

    def decode(self, codes: np.ndarray, uniforms: np.ndarray, *, evidence: Evidence | None = None) -> np.ndarray:
        """Draws a value of each code given the evidence, shape (N,); every code must agree with the evidence."""
        return self._values(self._given(evidence).draw(codes, uniforms))

    def log_prob(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """log p(value | code), shape (N,), nats: a log-mass for atoms and on a grid, else per unit of value."""
        position = self._positions(values)
        inside = self.pieces.log_prob(position, codes) + np.log1p(-self._gaps.share)[codes]
        surprise = np.where(self._gaps.code[self._gaps.find(position)] == codes, self._gaps.log_prob(position), -np.inf)
        return np.where(self.pieces.locate(position) >= 0, inside, surprise)

    def log_surprise(self, values: np.ndarray) -> np.ndarray:
        """log-probability, given the code, of a surprise at least as far out, shape (N,), nats; 0 for values that are none.

        Without units, unlike a density.
        """
        position = self._positions(values)
        return np.where(self.pieces.locate(position) >= 0, 0.0, self._gaps.log_survival(position))

    def tail(self, values: np.ndarray) -> np.ndarray:
        """s / (s + x) of numbers at a distance x outside the range of training, shape (N,); 1 for those inside it.

        With s as for surprises: the share of those beyond that end of the range that are at least as far out. Numbers are
        rounded to the grid, and reals may lie outside by the rounding of 32 bits.
        """
        tail = self._gaps.tail(self._positions(values))
        if self.whole:
            return tail
        nearest = values.clip(self.smallest, self.largest)
        return np.where(np.abs(values - nearest) <= HALF_FLOAT32 * np.abs(nearest), 1.0, tail)

    def log_weights(self, evidence: Evidence) -> np.ndarray:
        """log p(evidence | code), shape (K,); -inf for codes that contradict it.

        Of reals, a choice has the log-mass or log-density of its values, up to one constant for all codes.
        """
        with np.errstate(divide="ignore"):
            fraction = np.log(self._given(evidence).mass(self.num_codes))
        return fraction if self.grid is None and isinstance(evidence, Choice) else np.minimum(fraction, 0.0)

    def quantile(self, probs: np.ndarray, level: float) -> np.ndarray:
        """The quantile at `level`, in [0, 1), of distributions over codes (N, K), shape (N,)."""
        cumulative = np.cumsum(probs, axis=1)
        target = level * cumulative[:, -1:]
        codes = (cumulative <= target).sum(axis=1).clip(max=self.num_codes - 1)
        rows = np.arange(len(codes))
        inside = (target[:, 0] - cumulative[rows, codes] + probs[rows, codes]) / probs[rows, codes].clip(min=1e-300)
        return self._values(self.pieces.ascending.draw(codes, inside.clip(0.0, 1.0 - 2**-53)))

    @cached_property
    def means(self) -> np.ndarray:
        """Mean of the values of each code, shape (K,), float64."""
        last = self.pieces.high - (1 if self.grid else 0)
        middle = (self._values(self.pieces.low) + self._values(last).astype(np.float64)) / 2
        return np.bincount(self.pieces.code, middle * self.pieces.weight) / self.pieces.mass(self.num_codes)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The nearest numbers on the grid and within the range of training, shape (N,)."""
        return self._values(self._positions(values)).clip(self.smallest, self.largest)

    @cached_property
    def _gaps(self) -> "_Gaps":
        return _Gaps.between(self.pieces, np.array(self.counts))

    def _given(self, evidence: Evidence | None) -> Pieces:
        if evidence is None:
            return self.pieces
        if isinstance(evidence, Choice):
            return self._points(np.unique(np.array(evidence.values, dtype=np.int64 if self.whole else np.float64)))
        low, high = evidence.low, evidence.high
        if self.grid is None:
            return self.pieces.within(-np.inf if low is None else low, np.inf if high is None else high)
        first = self.pieces.low[0] if low is None else self.grid.ceil(low)
        last = self.pieces.high.max() if high is None else self.grid.floor(high)
        return self.pieces.within(first, last)

    def _points(self, values: np.ndarray) -> Pieces:
        """The part of every code at some values: of mass on a grid, of density among reals, up to one constant.

        Training values weigh as in an interval. A surprise keeps its share, which intervals leave out.
        """
        position, codes = self._positions(values), self.encode(values)
        is_inside = self.pieces.locate(position) >= 0
        log_prob = np.where(is_inside, self.pieces.log_prob(position, codes), self._gaps.log_prob(position))
        weight = np.exp(log_prob - (log_prob.max() if self.grid is None else 0.0))
        return Pieces(position, position + (1 if self.grid else 0), weight, codes)

    def _positions(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float64) if self.grid is None else self.grid.index(values)

    def _values(self, position: np.ndarray) -> np.ndarray:
        if self.grid is None:
            return _whole(position) if self.whole else position
        values = self.grid.value(position)
        return values if self.whole else values.astype(np.float64)


def _whole(reals: np.ndarray) -> np.ndarray:
    """The nearest 64-bit integers; the largest is not a float, and 2^63 rounds down to it."""
    whole = np.rint(reals)
    return np.where(whole < 2.0**63, whole.clip(max=2.0**63 - 1024).astype(np.int64), np.int64(2**63 - 1))


@dataclass(frozen=True, eq=False)
class _Gaps:
    """Gaps without training values: halves of those between codes, and the two tails, sorted along the line.

    The first and the last gap are the tails, of unlimited length.
    """

    low: np.ndarray  # (G,) first position; meaningless for the left tail
    length: np.ndarray  # (G,) float64; 1 for the tails
    code: np.ndarray  # (G,) code that reaches into the gap
    share: np.ndarray  # (K,) share that each code keeps for its gaps
    log_weight: np.ndarray  # (G,) share of a code over the number of its gaps
    ends: tuple[float, float]  # end of the left tail, start of the right one
    scales: tuple[float, float]  # s of the left tail and of the right one
    on_grid: bool

    @classmethod
    def between(cls, pieces: Pieces, counts: np.ndarray) -> "_Gaps":
        """The gaps around pieces whose codes have these counts."""
        order = np.lexsort((-pieces.high, pieces.low))
        low, high, code = pieces.low[order], np.maximum.accumulate(pieces.high[order]), pieces.code[order]
        before = np.flatnonzero(low[1:] > high[:-1])  # gaps lie behind these
        start, end = high[before], low[before + 1]
        middle = start + (end - start) // 2 if pieces.on_grid else start + (end - start) / 2
        halves = np.stack([start, middle, middle, end], axis=1).reshape(-1, 2)
        owner = np.stack([code[before], code[before + 1]], axis=1).reshape(-1)
        halves, owner = halves[halves[:, 0] < halves[:, 1]], owner[halves[:, 0] < halves[:, 1]]
        owner = np.concatenate([[0], owner, [len(counts) - 1]])
        num_gaps = np.bincount(owner, minlength=len(counts))
        share = np.where(num_gaps > 0, 1 / (counts + 2), 0.0)
        return cls(
            low=np.concatenate([low[:1], halves[:, 0], high[-1:]]),
            length=np.concatenate([[1.0], halves[:, 1] - halves[:, 0], [1.0]]),
            code=owner,
            share=share,
            log_weight=np.log(share[owner]) - np.log(num_gaps[owner]),
            ends=(float(low[0]), float(high[-1])),
            scales=(_scale_of_tail(pieces, 0, len(counts)), _scale_of_tail(pieces, len(counts) - 1, len(counts))),
            on_grid=pieces.on_grid,
        )

    def find(self, position: np.ndarray) -> np.ndarray:
        """The number of the gap that holds each position, shape (N,); meaningless for one in no gap."""
        return (np.searchsorted(self.low, position, "right") - 1).clip(min=0)

    def log_prob(self, position: np.ndarray) -> np.ndarray:
        """log p(position | code of its gap), shape (N,), nats; meaningless for a position in no gap."""
        gap = self.find(position)
        distance, scale, is_beyond = self._distance(position)
        if self.on_grid:  # S(x) - S(x + 1) with S(x) = s / (s + x); x = 0 is the first point outside
            tail = np.log(scale) - np.log(scale + distance) - np.log(scale + distance + 1)
        else:
            tail = np.log(scale) - 2 * np.log(scale + distance)
        return self.log_weight[gap] + np.where(is_beyond, tail, -np.log(self.length[gap]))

    def log_survival(self, position: np.ndarray) -> np.ndarray:
        """log of the share of the code in the gap at least as far out, shape (N,)."""
        distance, scale, _ = self._distance(position)
        return self.log_weight[self.find(position)] + np.log(scale) - np.log(scale + distance)

    def tail(self, position: np.ndarray) -> np.ndarray:
        """s / (s + x) for the distance x from the range, shape (N,); 1 within it."""
        distance, scale, _ = self._distance(position)
        if self.on_grid:  # x = 1 is the first point outside
            distance += (position < self.ends[0]) | (position >= self.ends[1])
        return scale / (scale + distance)

    def _distance(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance of each position beyond the ends, the scale there, and whether it is beyond them, shape (N,) each."""
        gap = self.find(position)
        is_left, is_right = gap == 0, gap == len(self.low) - 1
        distance = np.select([is_left, is_right], [self.ends[0] - position, position - self.ends[1]], 0.0)
        scale = np.where(is_left, *self.scales)
        return (distance - (is_left if self.on_grid else 0)).clip(min=0), scale, is_left | is_right


def _scale_of_tail(pieces: Pieces, code: int, num_codes: int) -> float:
    """Length of the outermost code, or of the median code that is no point if that is longer; of points alone, the range.

    The median keeps a tail behind an atom, or behind values that are nearly equal, as long as others.
    """
    point = 1 if pieces.on_grid else 0
    lengths = np.array([_extent(pieces, pieces.code == each) - point for each in range(num_codes)])
    if not lengths.any():
        size = 1.0 if pieces.on_grid else max(abs(float(pieces.low[0])), 1.0)
        return min(_extent(pieces, slice(None)) - point or size, MAX_SCALE)
    return min(max(lengths[code], float(np.median(lengths[lengths > 0]))), MAX_SCALE)


def _extent(pieces: Pieces, some: np.ndarray | slice) -> float:
    """From the first position of some pieces to their end."""
    return float(pieces.high[some].max().item() - pieces.low[some].min().item())
