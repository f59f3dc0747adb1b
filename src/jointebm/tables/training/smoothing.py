"""Smoothing along ordered columns: what is learned of a class is learned, in part, of its neighbours.

Each column's vectors W (K, H) are trained as W = S V with S the square root of

    C(k, l) = exp(-(x_k - x_l)^2 / 2 s^2) + n (sum over t of exp(-(b_k - b_l)^2 / 2 t^2) + o [k = l])

with x_k = k / K and b_k the place of the class along the column, in bins. A fresh V of independent normals makes a smooth
random curve along the column, with a rough one of bins on it, and a step in V moves neighbours together. S is invertible:
with enough rows any W is reached. Without it, every class of a column of numbers is learned alone, and in a table of some
hundred rows only noise is learned. For columns without order, S is the identity.

Legend: K classes of a column, F classes of all columns, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jointebm.tables.density.energy import Residual

__all__ = ["Curves"]

SCALE = 0.3  # s: how far along a column's range two classes are still alike
ROUGH_SCALES = 0.5, 2.0  # t: how far, in bins, two classes are still alike in what is rough
ROUGHNESS = 0.015  # n: variance of what is rough on each scale
OWN = 0.1  # o: share of it that is a class's own


class Curves(nn.Module):
    """A network whose first layer is trained as V in W = S V.

    The gradient of W goes to V as soon as a backward pass has made it; `give_vectors` sets W after V has changed.

    Args:
        residual: the network; the values of its `embedding` become V, and S V takes their place.
        bins: per column, the bin of each class; None if neighbouring classes are not alike.

    Example:
        >>> residual = Residual((40,), width=2, num_layers=1)
        >>> curves = Curves(residual, (range(40),))
        >>> residual.embedding[20].sum().backward()
        >>> curves.vectors.data -= curves.vectors.grad
        >>> curves.give_vectors()
        >>> bool((residual.embedding[19] < -0.9).all())  # its neighbour has moved as well
        True
    """

    def __init__(self, residual: Residual, bins: Sequence[Sequence[int] | None]) -> None:
        super().__init__()
        self.residual = residual
        starts = residual.offsets
        self._roots = [
            (slice(starts[column], starts[column + 1]), smoothing(of_column))
            for column, of_column in enumerate(bins)
            if of_column is not None
        ]
        self.vectors = nn.Parameter(residual.embedding.detach().clone())  # (F, H)
        self.give_vectors()
        residual.embedding.register_post_accumulate_grad_hook(self._take_gradient)

    @torch.no_grad()
    def give_vectors(self) -> None:
        """Sets W = S V."""
        self.residual.embedding.copy_(self._smoothed(self.vectors))

    @torch.no_grad()
    def _take_gradient(self, embedding: Tensor) -> None:
        """Sets the gradient of V from that of W: S^T dW."""
        assert embedding.grad is not None
        self.vectors.grad = self._smoothed(embedding.grad)
        embedding.grad = None

    def _smoothed(self, rows: Tensor) -> Tensor:
        """S times these rows, shape (F, H); S is symmetric."""
        smoothed = rows.clone()
        for column, root in self._roots:
            smoothed[column] = root.to(rows) @ rows[column]
        return smoothed


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
