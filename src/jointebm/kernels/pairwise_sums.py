"""Log-densities of labels that are known in full: linear and quadratic in the columns, so that no step evaluates them.

Legend: N chains, M columns, J columns that one reads, W columns that are wanted.
"""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import LogDensity, evaluate
from jointebm.kernels.columns import columns_of
from jointebm.kernels.couplings import constant_couplings
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Position, Space

__all__ = ["PairwiseSums", "Pull"]

MAX_KNOWN_COLUMNS = 2048  # of which second derivatives are taken, by one backward pass each
GATHER_COST = 100  # columns that a product with a matrix reads in the time that one neighbour of each takes alone
NUM_CHECKED = 64
SUM_ROUNDING = 64  # times the spacing of numbers next to the sum of absolute terms


class PairwiseSums(NamedTuple):
    """f(y) = constant + linear y + y matrix y / 2 over all columns of a space.

    Args:
        constant: shape (), nats.
        linear: (M,).
        matrix: (M, M), symmetric.
    """

    constant: Tensor
    linear: Tensor
    matrix: Tensor

    @staticmethod
    def found(
        log_density: LogDensity, space: Space, position: Position, *, generator: Generator
    ) -> "PairwiseSums | None":
        """The sums that are f, if the space has labels alone and second derivatives of f are constant.

        The sums are compared with f at 64 random configurations or more, in batches of as many rows as are given: None if
        they differ by more than rounding, such as where each row has fields of its own.

        Example:
            >>> from jointebm import Binary
            >>> def log_density(position): return 2 * position["bits"][:, 0] * position["bits"][:, 1] + 5
            >>> rows, generator = {"bits": torch.zeros(2, 3)}, torch.Generator().manual_seed(0)
            >>> sums = PairwiseSums.found(log_density, Space(bits=Binary(3)), rows, generator=generator)
            >>> sums.constant, sums.matrix[0]
            (tensor(5.), tensor([0., 2., 0.]))
        """
        like = next(iter(position.values()))
        columns = columns_of(space, space.discrete, like.device) if space.discrete and not space.continuous else None
        if columns is None or len(columns.variable) > MAX_KNOWN_COLUMNS:
            return None
        matrix = constant_couplings(log_density, space, space.discrete, position, generator=generator)
        if matrix is None:
            return None
        zero = evaluate(log_density, {name: torch.zeros_like(value) for name, value in position.items()})
        assert zero.score is not None
        sums = PairwiseSums(zero.f[0], columns.join(zero.score)[0], matrix.detach())
        for _ in range(-(-NUM_CHECKED // len(like))):
            rows, _ = space.clamp(None, num_chains=len(like), generator=generator, dtype=like.dtype, device=like.device)
            with torch.no_grad():
                f, y = log_density(rows), columns.join(rows)
                size = sums.constant.abs() + y @ sums.linear.abs() + 0.5 * ((y @ sums.matrix.abs()) * y).sum(dim=1)
                allowed = SUM_ROUNDING * torch.finfo(f.dtype).eps * size
                if not bool(((f - sums.at(y, sums.score(y))).abs() <= allowed).all()):
                    return None
        return sums

    def to(self, device: torch.device, dtype: torch.dtype) -> "PairwiseSums":
        """The sums on a device and in a dtype."""
        return PairwiseSums(*(each.to(device, dtype) for each in self))

    def permuted(self, order: Tensor) -> "PairwiseSums":
        """The sums over columns in another order, (M,)."""
        return PairwiseSums(self.constant, self.linear[order], self.matrix[order][:, order])

    def score(self, y: Tensor) -> Tensor:
        """The score (N, M) at columns (N, M)."""
        return self.linear + y @ self.matrix

    def at(self, y: Tensor, score: Tensor) -> Tensor:
        """f (N,) at columns (N, M) with their score (N, M)."""
        return self.constant + 0.5 * ((score + self.linear) * y).sum(dim=1)


class Pull(NamedTuple):
    """The score of some columns, from the columns that they are coupled with.

    Args:
        linear: (W,).
        sources: columns that are read, (J,), or (slots, W) where each wanted column reads its own.
        weights: (J, W), or (slots, W).
        slots: whether columns are read one by one.
        run: the first source and the one behind the last if they are side by side, those of weight 0 among them.
    """

    linear: Tensor
    sources: Tensor
    weights: Tensor
    slots: bool
    run: tuple[int, int] | None

    @staticmethod
    def of(sums: PairwiseSums, wanted: Tensor) -> "Pull":
        """That of columns with some numbers, (W,); all on the CPU."""
        block = sums.matrix[:, wanted]  # (M, W)
        coupled = block != 0
        most, (sources,) = int(coupled.sum(dim=0).max()), coupled.any(dim=1).nonzero(as_tuple=True)
        if most * GATHER_COST <= len(sources):
            sources = coupled.to(torch.int8).argsort(dim=0, descending=True, stable=True)[:most]  # (slots, W)
            return Pull(sums.linear[wanted], sources, block.gather(0, sources), True, None)
        first, end = int(sources[0]), int(sources[-1]) + 1
        run = (first, end) if 2 * len(sources) >= end - first else None  # a few zeros cost less than a gather
        sources = sources if run is None else torch.arange(first, end)
        return Pull(sums.linear[wanted], sources, block[sources], False, run)

    def to(self, device: torch.device) -> "Pull":
        """The pull on a device."""
        parts = (self.linear.to(device), self.sources.to(device), self.weights.to(device))
        return Pull(*parts, self.slots, self.run)

    def score(self, y: Tensor) -> Tensor:
        """The score (N, W) at columns (N, M)."""
        if not self.slots:
            read = y[:, self.sources] if self.run is None else y[:, slice(*self.run)]
            return self.linear + read @ self.weights
        start = self.linear.expand(len(y), -1)
        pairs = zip(self.sources.unbind(0), self.weights.unbind(0), strict=True)
        return reduce(lambda total, pair: total + pair[1] * y[:, pair[0]], pairs, start)
