"""Random streams keyed by row: the draws of a row do not depend on its batch, its place there or the worker.

A stream is counter-based: its numbers are a hash of (seed, key of the row, draw, counter), so no state is shared and any
number can be computed without those before it. A row's key is usually a hash of its content (`row_keys`), or its number.

All arithmetic is on int64, which wraps around; the hash is the finaliser of splitmix64 (Steele, Lea & Flood 2014).

Legend: N rows, V columns.
"""

import math
from typing import Self

import torch
from torch import Tensor

from jointebm.randomness.draws import threshold_below

__all__ = ["RowStream", "row_keys", "splitmix64"]

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd: consecutive numbers land far apart
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # multipliers of splitmix64


def splitmix64(state: Tensor) -> Tensor:
    """The output function of splitmix64: a bijection of 64 bits in which every bit of the answer depends on every bit.

    Output number i of the generator with a seed is `splitmix64(seed + i * 0x9E3779B97F4A7C15)`, modulo 2^64.

    Example:
        >>> int(splitmix64(torch.tensor(1234567 - 7046029254386353131)))  # the first output for seed 1234567
        6457827717110365317
    """
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def row_keys(codes: Tensor) -> Tensor:
    """Hashes the content of each row of whole numbers (N, V), the order of its columns included: keys (N,), int64.

    Equal rows have equal keys, and different ones almost surely different keys.
    """
    keys = torch.full_like(codes[:, 0], codes.shape[1], dtype=torch.int64)
    for column in codes.to(torch.int64).unbind(dim=1):
        keys = splitmix64(keys + _GOLDEN * (column + 1))
    return keys


class RowStream:
    """A stream of draws for each of N rows, for use as the `generator` of `jointebm.randomness.draws`.

    Every call draws at the stream's counter and increments it, for all rows. `at` sets the counter, `select` keeps some
    rows; neither changes the draws of a row at a counter.

    Keys of the rows have shape (N,), int64; `draw` is the number of the replicate (an imputation, a chain), one for all rows
    or one per row.

    Example:
        >>> stream = RowStream(torch.tensor([7, 8, 9]), seed=0)
        >>> all_rows = stream.at(3).uniform(torch.empty(3))
        >>> one_row = RowStream(torch.tensor([9]), seed=0).at(3).uniform(torch.empty(1))
        >>> bool(all_rows[2] == one_row[0])
        True
    """

    def __init__(self, keys: Tensor, seed: int, *, draw: int | Tensor = 0, counter: int = 0) -> None:
        numbers = torch.as_tensor(draw, dtype=torch.int64, device=keys.device)
        of_row = splitmix64(splitmix64(keys.new_tensor(_wrapped(seed))) + keys)
        self._state = splitmix64(of_row + _GOLDEN * (numbers + 1))
        self.counter = counter

    def at(self, counter: int) -> Self:
        """The same rows at another counter."""
        return self._with(self._state, counter)

    def select(self, rows: Tensor) -> Self:
        """Some of the rows, by their numbers or a mask, at the same counter."""
        return self._with(self._state[rows], self.counter)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniforms on [0, 1) with the shape (N, ...) and dtype of `like`, with 53 random bits, or 24 below float64."""
        bits = self._bits(like)
        if like.dtype == torch.float64:
            return _shifted(bits, 11).to(torch.float64) * 2.0**-53
        return (_shifted(bits, 40).to(torch.float32) * 2.0**-24).to(like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normals with the shape (N, ...) and dtype of `like` (Box & Muller 1958)."""
        wide = like.to(torch.float64)
        radius = (-2 * torch.log1p(-self.uniform(wide))).sqrt()
        return (radius * torch.cos(2 * math.pi * self.uniform(wide))).to(like.dtype)

    def choose(self, log_weights: Tensor) -> Tensor:
        """One index per row of (N, M), or V of (N, M, V), with probability softmax(log_weights); see `draws.choose`."""
        cumulative = torch.softmax(log_weights.to(torch.float64), dim=1).cumsum(dim=1)
        total = cumulative[:, -1:]
        threshold = threshold_below(total, self.uniform(total))
        last = (each.movedim(1, -1).contiguous() for each in (cumulative, threshold))  # where it is searched
        return torch.searchsorted(*last, right=True).squeeze(-1).clamp_(max=log_weights.shape[1] - 1)

    def accept(self, log_ratio: Tensor) -> Tensor:
        """Accepts each row with probability min(1, exp(log_ratio)); see `draws.accept`."""
        return self.uniform(log_ratio).log() < log_ratio

    def _bits(self, like: Tensor) -> Tensor:
        """64 random bits for each entry of `like`."""
        if like.shape[:1] != self._state.shape:
            raise ValueError(f"stream of {len(self._state)} rows: asked for a draw of shape {tuple(like.shape)}")
        entries = torch.arange(math.prod(like.shape[1:]), device=like.device)
        at_counter = splitmix64(self._state + _wrapped(_GOLDEN * (self.counter + 1)))
        self.counter += 1
        return splitmix64(at_counter[:, None] + _GOLDEN * entries).reshape(like.shape)

    def _with(self, state: Tensor, counter: int) -> Self:
        stream = object.__new__(type(self))
        stream._state, stream.counter = state, counter
        return stream


def _shifted(state: Tensor, places: int) -> Tensor:
    """Shifts to the right and fills with zeros; int64 alone would fill with the sign."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def _wrapped(number: int) -> int:
    """The number modulo 2^64, as int64 stores it."""
    return (number + 2**63) % 2**64 - 2**63
