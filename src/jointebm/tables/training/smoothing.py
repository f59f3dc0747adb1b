"""Smoothing of a network's vectors: what is learned of a class is learned, in part, of others.

In a column with an order, the vectors W (K, H) are trained as W = S V with S the square root of

    C(k, l) = exp(-(x_k - x_l)^2 / 2 s^2) + n (sum over t of exp(-(b_k - b_l)^2 / 2 t^2) + o [k = l])

with x_k = k / K and b_k the place of the class along the column, in bins. A fresh V of independent normals makes a smooth
random curve along the column, with a rough one of bins on it, and a step in V moves neighbours together. S is invertible:
with enough rows any W is reached. Without it, every class of a column of numbers is learned alone, and in a table of some
hundred rows only noise is learned.

In a column without order, the levels of few rows share a vector u and have one of their own,

    W_k = sqrt(1 - b_k) V_k + sqrt(b_k) u,   b_k = m / (n_k + m),   n_k rows of the level

A level without any row is a mean rare level, and each of its rows makes it more of its own. The other levels, and columns
with few rare levels, have W = V.

Legend: K classes of a column, F classes of all columns, H hidden units, R rare levels of a column.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jointebm.tables.codes.categories import RARE_ROWS
from jointebm.tables.density.energy import Residual

__all__ = ["AlongColumns", "Curves", "RareLevels", "rare_levels", "smoothing"]

SCALE = 0.3  # s: how far along a column's range two classes are still alike
ROUGH_SCALES = 0.5, 2.0  # t: how far, in bins, two classes are still alike in what is rough
ROUGHNESS = 0.015  # n: variance of what is rough on each scale
OWN = 0.1  # o: share of it that is a class's own
MIN_RARE = 16  # rare levels of a column that share a vector; fewer have little to share
ROWS_OF_SHARED = 1.0  # m: rows of a level that count as much as what all rare levels share
NO_ROWS = 0.01  # what a level without rows counts, so that W determines V


class RareLevels(NamedTuple):
    """What the levels of a column without order share.

    Args:
        own: sqrt(1 - b_k), shape (K,); 1 for a level that is not rare.
        shared: sqrt(b_k), shape (K,).
    """

    own: Tensor
    shared: Tensor

    def start(self, free: Tensor) -> Tensor:
        """u of fresh vectors V (K, H), distributed as each of them: the sum of the R rare ones over sqrt(R), shape (H,)."""
        is_rare = (self.shared > 0).to(free)
        return is_rare @ free / is_rare.sum().sqrt()

    def forward(self, free: Tensor, shared: Tensor) -> Tensor:
        """W from V (K, H) and u (H,)."""
        return self.own.to(free)[:, None] * free + self.shared.to(free)[:, None] * shared

    def solved(self, vectors: Tensor) -> Tensor:
        """The V whose start and forward give these W (K, H), float64."""
        own, shared = self.own.double(), self.shared.double()
        is_rare = shared > 0
        weights = torch.where(is_rare, shared / own, 0)
        start = is_rare / own @ vectors.double() / (is_rare.sum().sqrt() + weights.sum())
        return vectors.double() / own[:, None] - weights[:, None] * start


def rare_levels(codes: Tensor, num_classes: int) -> RareLevels | None:
    """What the levels of a column share, by their rows; None if hardly any are rare.

    Args:
        codes: of the column, shape (N,), -1 is missing.
        num_classes: K.

    Example:
        >>> rare_levels(torch.arange(20).repeat(3), 21).shared.square()[[0, 20]]
        tensor([0.2500, 0.9901])
    """
    rows = torch.bincount(codes[codes >= 0].to(torch.int64), minlength=num_classes).double()
    is_rare = rows < RARE_ROWS
    if int(is_rare.sum()) < MIN_RARE:
        return None
    shared = torch.where(is_rare, ROWS_OF_SHARED / (rows.clamp(min=NO_ROWS) + ROWS_OF_SHARED), 0)
    return RareLevels((1 - shared).sqrt().float(), shared.sqrt().float())


class AlongColumns(nn.Module):
    """Vectors W of all classes from free ones V, and from the vectors u that rare levels share.

    Args:
        free: V at the start, shape (F, H), which decides u.
        offsets: first class of each column, and F.
        bins: per column, the bin of each class; None if the column has no order.
        codes: of training, shape (N, V), -1 is missing.
    """

    def __init__(
        self, free: Tensor, offsets: Sequence[int], bins: Sequence[Sequence[int] | None], codes: Tensor
    ) -> None:
        super().__init__()
        self._sizes = [end - start for start, end in pairwise(offsets)]
        self._roots = [None if of_column is None else smoothing(of_column) for of_column in bins]
        self._levels = [
            rare_levels(codes[:, column], size) if bins[column] is None else None
            for column, size in enumerate(self._sizes)
        ]
        parts = zip(self._levels, free.detach().split(self._sizes), strict=True)
        starts = [levels.start(part) for levels, part in parts if levels is not None]
        self.shared = nn.ParameterList(starts)  # u of each column that has one, (H,)

    def forward(self, free: Tensor) -> Tensor:
        """W of V, shape (F, H)."""
        shared, vectors = iter(self.shared), []
        for root, levels, part in zip(self._roots, self._levels, free.split(self._sizes), strict=True):
            if levels is not None:
                part = levels.forward(part, next(shared))
            vectors.append(part if root is None else root.to(part) @ part)
        return torch.cat(vectors)

    @torch.no_grad()
    def give_gradients(self, free: Tensor, gradient: Tensor) -> None:
        """Sets the gradients of V and of u from that of W, shape (F, H)."""
        shared, of_free = iter(self.shared), []
        for root, levels, part in zip(self._roots, self._levels, gradient.split(self._sizes), strict=True):
            if levels is not None:
                next(shared).grad = levels.shared.to(part) @ part
                part = levels.own.to(part)[:, None] * part
            of_free.append(part if root is None else root.to(part) @ part)  # S is symmetric
        free.grad = torch.cat(of_free)

    @torch.no_grad()
    def solved(self, vectors: Tensor) -> Tensor:
        """The V that start at these W, shape (F, H)."""
        free = []
        for root, levels, part in zip(self._roots, self._levels, vectors.split(self._sizes), strict=True):
            if root is not None:
                part = torch.linalg.solve(root, part.double()).to(part)
            free.append(part if levels is None else levels.solved(part).to(part))
        return torch.cat(free)


class Curves(nn.Module):
    """A network whose first layer is trained as V, see `AlongColumns`.

    The gradient of W goes to V as soon as a backward pass has made it; `give_vectors` sets W after V has changed.

    Args:
        residual: the network; the values of its `embedding` become V, and W takes their place.
        bins: per column, the bin of each class; None if the column has no order.
        codes: of training, shape (N, V), -1 is missing.

    Example:
        >>> residual = Residual((40,), width=2, num_layers=1)
        >>> curves = Curves(residual, (range(40),), torch.zeros(9, 1, dtype=torch.int64))
        >>> residual.embedding[20].sum().backward()
        >>> curves.vectors.data -= curves.vectors.grad
        >>> curves.give_vectors()
        >>> bool((residual.embedding[19] < -0.9).all())  # its neighbour has moved as well
        True
    """

    def __init__(self, residual: Residual, bins: Sequence[Sequence[int] | None], codes: Tensor) -> None:
        super().__init__()
        self.residual = residual
        self.vectors = nn.Parameter(residual.embedding.detach().clone())  # (F, H)
        self.along = AlongColumns(self.vectors, residual.offsets, bins, codes)
        self.give_vectors()
        residual.embedding.register_post_accumulate_grad_hook(self._take_gradient)

    @torch.no_grad()
    def give_vectors(self) -> None:
        """Sets W from V."""
        self.residual.embedding.copy_(self.along(self.vectors))

    @torch.no_grad()
    def _take_gradient(self, embedding: Tensor) -> None:
        """Sets the gradient of V from that of W."""
        assert embedding.grad is not None
        self.along.give_gradients(self.vectors, embedding.grad)
        embedding.grad = None


def smoothing(bins: Sequence[int]) -> Tensor:
    """S: the symmetric square root of C, shape (K, K), float64.

    Args:
        bins: the bin of each class, ascending from 0.

    Example:
        >>> (smoothing((0, 0, 1)) @ smoothing((0, 0, 1))).numpy().round(3)  # classes of one bin are more alike
        array([[1.032, 0.563, 0.098],
               [0.563, 1.032, 0.558],
               [0.098, 0.558, 1.032]])
    """
    of_bin = torch.tensor(bins)
    numbers, rows = torch.arange(len(of_bin), dtype=torch.float64), torch.bincount(of_bin)
    first = rows.cumsum(0) - rows
    along = of_bin + (numbers - first[of_bin] + 0.5) / rows[of_bin]  # in bins
    distance = (along[:, None] - along).abs()
    rough = sum(torch.exp(-0.5 * (distance / scale).square()) for scale in ROUGH_SCALES)
    rough = rough + OWN * torch.eye(len(of_bin), dtype=torch.float64)
    place = numbers / len(of_bin)
    covariance = torch.exp(-0.5 * ((place[:, None] - place) / SCALE).square()) + ROUGHNESS * rough
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.sqrt() @ vectors.T
