"""Smoothing of a network's vectors: what is learned of a class is learned, in part, of others.

In a column with an order, the vectors W (K, H) are trained as W = S V with S the square root of

    C(k, l) = exp(-(x_k - x_l)^2 / 2 s^2) + n (sum over t of exp(-(b_k - b_l)^2 / 2 t^2) + o [k = l]) + u_k [k = l]
    u_k = (N_k / (N_k + m))^2

with x_k = k / K, b_k the place of the class along the column, in bins, and N_k its training rows. A fresh V of independent
normals makes a smooth random curve along the column, with a rough one of bins on it, and a step in V moves neighbours
together. Without it, every class of a column of numbers is learned alone, and in a table of some hundred rows only
noise is learned. A class of many rows, such as a value that half of them have, needs no neighbours: u_k gives it a
vector of its own, which moves as fast as that of a level without order, so that numbers that determine a level do so
sharply. S is invertible: with enough rows any W is reached.

In a column without order, levels of few rows start at the vector of a missing entry, which is zero, and their vectors move
faster by a factor r:

    W_k = r V_k,   V_k = 0 at the start

So what a rare level says is what its rows have taught, and not a random vector that the network must learn around. A level
without training rows stays like a missing entry; one whose rows a bootstrap sample lacks becomes so by the prior. Adam
moves a vector by its rate in each iteration, but one of a rare level only around its rows: r makes up for that. The other
levels, and columns with few rare levels, have W = V.

Legend: K classes of a column, F classes of all columns, H hidden units.
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
MANY_ROWS = 500  # m: a class of so many rows has a quarter of the variance of a level without order to itself
MIN_RARE = 16  # rare levels of a column, from which on they are learned so
RATE_OF_RARE = 4.0  # r


class RareLevels(NamedTuple):
    """The levels of few rows of a column without order.

    Args:
        are_rare: with fewer than ten rows, bool (K,).
        are_unseen: without any, bool (K,).
    """

    are_rare: Tensor
    are_unseen: Tensor

    @property
    def rates(self) -> Tensor:
        """W_k / V_k, shape (K,)."""
        return torch.where(self.are_rare & ~self.are_unseen, RATE_OF_RARE, 1.0)


def rare_levels(codes: Tensor, num_classes: int) -> RareLevels | None:
    """The rare levels of a column; None if there are hardly any.

    Args:
        codes: of the column, shape (N,), -1 is missing.
        num_classes: K.

    Example:
        >>> rare_levels(torch.arange(20).repeat(3), 21).are_unseen.nonzero().tolist()
        [[20]]
    """
    rows = rows_of_classes(codes, num_classes)
    are_rare = rows < RARE_ROWS
    return None if int(are_rare.sum()) < MIN_RARE else RareLevels(are_rare, rows == 0)


def rows_of_classes(codes: Tensor, num_classes: int) -> Tensor:
    """Rows of each class of a column (N,), -1 is missing, shape (K,), int64."""
    return torch.bincount(codes[codes >= 0].to(torch.int64), minlength=num_classes)


class AlongColumns(nn.Module):
    """Vectors W of all classes from free ones V.

    Args:
        offsets: first class of each column, and F.
        bins: per column, the bin of each class; None if the column has no order.
        codes: of training, shape (N, V), -1 is missing.
    """

    def __init__(self, offsets: Sequence[int], bins: Sequence[Sequence[int] | None], codes: Tensor) -> None:
        super().__init__()
        self._sizes = [end - start for start, end in pairwise(offsets)]
        roots = (
            None if of_column is None else smoothing(of_column, rows_of_classes(codes[:, column], len(of_column)))
            for column, of_column in enumerate(bins)
        )
        self._roots = [None if root is None else root.to(codes.device) for root in roots]
        self._levels = [
            rare_levels(codes[:, column], size) if bins[column] is None else None
            for column, size in enumerate(self._sizes)
        ]

    @torch.no_grad()
    def fresh(self, free: Tensor) -> Tensor:
        """V for the start of training, shape (F, H): that of rare levels is zero."""
        parts = [
            part if levels is None else part.masked_fill(levels.are_rare[:, None], 0)
            for levels, part in zip(self._levels, free.split(self._sizes), strict=True)
        ]
        return torch.cat(parts)

    def forward(self, free: Tensor) -> Tensor:
        """W of V, shape (F, H)."""
        vectors = []
        for root, levels, part in zip(self._roots, self._levels, free.split(self._sizes), strict=True):
            if levels is not None:
                part = torch.where(levels.are_unseen[:, None], part.detach(), levels.rates.to(part)[:, None] * part)
            vectors.append(part if root is None else root.to(part) @ part)
        return torch.cat(vectors)

    @torch.no_grad()
    def transposed(self, gradient: Tensor) -> Tensor:
        """The gradient of V from that of W, shape (F, H)."""
        parts = []
        for root, levels, part in zip(self._roots, self._levels, gradient.split(self._sizes), strict=True):
            if levels is not None:
                part = (levels.rates.to(part)[:, None] * part).masked_fill(levels.are_unseen[:, None], 0)
            parts.append(part if root is None else root.to(part) @ part)  # S is symmetric
        return torch.cat(parts)

    @torch.no_grad()
    def solved(self, vectors: Tensor) -> Tensor:
        """V of W, shape (F, H)."""
        parts = []
        for root, levels, part in zip(self._roots, self._levels, vectors.split(self._sizes), strict=True):
            if root is not None:
                part = torch.linalg.solve(root, part.double()).to(part)
            parts.append(part if levels is None else part / levels.rates.to(part)[:, None])
        return torch.cat(parts)


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
        self._along = AlongColumns(residual.offsets, bins, codes)
        self.give_vectors()
        residual.embedding.register_post_accumulate_grad_hook(self._take_gradient)

    @torch.no_grad()
    def give_vectors(self) -> None:
        """Sets W from V."""
        self.residual.embedding.copy_(self._along(self.vectors))

    @torch.no_grad()
    def _take_gradient(self, embedding: Tensor) -> None:
        """Sets the gradient of V from that of W."""
        assert embedding.grad is not None
        self.vectors.grad = self._along.transposed(embedding.grad)
        embedding.grad = None


def smoothing(bins: Sequence[int], num_rows: Tensor) -> Tensor:
    """S: the symmetric square root of C, shape (K, K), float64.

    Args:
        bins: the bin of each class, ascending from 0.
        num_rows: training rows of each class, shape (K,).

    Example:
        >>> root = smoothing((0, 0, 1), torch.tensor([0, 0, 500]))
        >>> (root @ root).numpy().round(3)  # classes of one bin are more alike, and one of many rows has its own vector
        array([[1.032, 0.563, 0.098],
               [0.563, 1.032, 0.558],
               [0.098, 0.558, 1.282]])
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
    rows_of_each = num_rows.double().cpu()
    covariance = covariance + torch.diag((rows_of_each / (rows_of_each + MANY_ROWS)).square())
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.sqrt() @ vectors.T
