"""Smoothing along ordered columns: what is learned of a class is learned, in part, of its neighbours.

Each column's vectors W (K, H) are trained as W = S V with S the square root of

    C(k, l) = exp(-(x_k - x_l)^2 / 2 s^2) + n [k = l],   x_k = k / K

so that a fresh V of independent normals makes a smooth random curve along the column, and a step in V moves neighbours
together. S is invertible: with enough rows any W is reached. Without it, every class of a column of numbers is learned
alone, and in a table of some hundred rows only noise is learned. For columns without order, S is the identity.

Legend: K classes of a column, F classes of all columns, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jointebm.tables.density.energy import Residual

__all__ = ["Curves"]

SCALE = 0.3  # s: how far along a column's range two classes are still alike
NOISE = 0.03  # n: variance of what is each class's own


class Curves(nn.Module):
    """A network whose first layer is trained as V in W = S V.

    The gradient of W goes to V as soon as a backward pass has made it; `give_vectors` sets W after V has changed.

    Args:
        residual: the network; the values of its `embedding` become V, and S V takes their place.
        ordered: per column, whether neighbouring classes are alike.

    Example:
        >>> residual = Residual((40,), width=2, num_layers=1)
        >>> curves = Curves(residual, (True,))
        >>> residual.embedding[20].sum().backward()
        >>> curves.vectors.data -= curves.vectors.grad
        >>> curves.give_vectors()
        >>> bool((residual.embedding[19] < -0.9).all())  # its neighbour has moved as well
        True
    """

    def __init__(self, residual: Residual, ordered: Sequence[bool]) -> None:
        super().__init__()
        self.residual = residual
        starts = residual.offsets
        self._roots = [
            (slice(starts[column], starts[column + 1]), smoothing(starts[column + 1] - starts[column]))
            for column, is_ordered in enumerate(ordered)
            if is_ordered
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


def smoothing(num_classes: int) -> Tensor:
    """S: the symmetric square root of C, shape (K, K), float64.

    Example:
        >>> smoothing(2) @ smoothing(2)
        tensor([[1.0300, 0.2494],
                [0.2494, 1.0300]], dtype=torch.float64)
    """
    place = torch.arange(num_classes, dtype=torch.float64) / num_classes
    distance = (place[:, None] - place) / SCALE
    covariance = torch.exp(-0.5 * distance.square()) + NOISE * torch.eye(num_classes, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.sqrt() @ vectors.T
