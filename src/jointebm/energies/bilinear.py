"""Bilinear energy: an inner product of a network of x and a network of y (Sec. 3)."""

from collections.abc import Mapping

from torch import Tensor, nn

from jointebm.energies.inputs import Inputs
from jointebm.spaces.space import Position, Space

__all__ = ["BilinearEnergy"]


class BilinearEnergy(nn.Module):
    """f(x, y) = g(x) . h(y), with x all continuous and y all discrete blocks of the space.

    Given x, f is linear in h(y): labels depend on one another given x only through h.

    Args:
        space: the blocks, at least one continuous and one discrete.
        g: module from x, flattened (N, columns of x), to (N, D).
        h: module from y, flattened (N, columns of y), to (N, D).
        scale: per block, the factor on its entries (see `Inputs`).

    Raises:
        ValueError: the space lacks continuous or discrete blocks, or `scale` names an unknown block.

    References:
        Kelly & Grathwohl 2021, Sec. 3.

    Example:
        >>> import torch
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import MLP
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> energy = BilinearEnergy(space, MLP(2, (16,), 8), MLP(3, (16,), 8))
        >>> energy({"x": torch.zeros(5, 2), "y": torch.zeros(5, 3)}).shape
        torch.Size([5])
    """

    def __init__(self, space: Space, g: nn.Module, h: nn.Module, *, scale: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if not space.continuous or not space.discrete:
            raise ValueError(f"BilinearEnergy: needs continuous and discrete blocks, got {space}")
        self.g, self.h = g, h
        self.encoded_blocks = space.continuous
        self._x, self._y = Inputs(space, space.continuous, scale), Inputs(space, space.discrete, scale)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.g,)

    def encode(self, position: Position) -> Tensor:
        """g(x), shape (N, D)."""
        return self.g(self._x(position))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f from g(x) and y, shape (N,), nats."""
        y = self._y(position)
        return (features.to(y.dtype) * self.h(y).to(y.dtype)).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)
