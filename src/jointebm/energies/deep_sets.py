"""Energies of sets: invariant to the order of the items.

Legend: N chains, M items, H features.
"""

import torch
from torch import Tensor, nn

from jointebm.randomness.full_precision import full_precision
from jointebm.spaces.space import Position, Space

__all__ = ["DeepSetEnergy", "PerItem"]


class DeepSetEnergy(nn.Module):
    """f(x, y) = rho(sum_i phi(x_i, y_i)) over items i, the first axis of every block.

    Permuting the items of all blocks alike leaves f unchanged up to rounding, and permutes the score. With a binary block, y
    is a subset of the items, and f a log-density over subsets.

    The sum and rho run in the parameters' own precision under autocast too, because differences of f decide what is
    accepted.

    Args:
        space: blocks whose variables all have the same first axis, the M items.
        phi: module from (rows, columns of one item) to (rows, H); the columns are the blocks in order, flattened.
        rho: module from (N, H) to (N, 1).

    Raises:
        ValueError: the blocks differ in their number of items.

    References:
        Zaheer et al. 2017, Deep Sets, Theorem 2. Kelly & Grathwohl 2021, Sec. 3.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> from jointebm.energies import MLP
        >>> space = Space(points=Continuous((8, 2)), chosen=Binary(8))
        >>> energy = DeepSetEnergy(space, MLP(3, (16,), 16), MLP(16, (16,)))
        >>> energy({"points": torch.zeros(5, 8, 2), "chosen": torch.zeros(5, 8)}).shape
        torch.Size([5])
    """

    def __init__(self, space: Space, phi: nn.Module, rho: nn.Module) -> None:
        super().__init__()
        counts = {shape[:1] for block in space.values() for shape in (block.variable_shape, block.position_shape)}
        if len(counts) != 1 or () in counts:
            raise ValueError(
                f"DeepSetEnergy: every block needs the same first axis, the items, got {space}; write for example "
                "Space(points=Continuous((8, 2)), chosen=Binary(8))"
            )
        self.phi, self.rho = phi, rho
        self.blocks = tuple(space)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.rho,)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        items = torch.cat([position[name].reshape(*position[name].shape[:2], -1) for name in self.blocks], dim=2)
        features = self.phi(items)  # (N, M, H), bfloat16 under autocast
        with full_precision(features):
            summed = features.to(next(self.rho.parameters(), features).dtype).sum(dim=1)
            return self.rho(summed).squeeze(1)


class PerItem(nn.Module):
    """g_i(x) = rho(x_i, sum_j phi(x_j)): one number per item given all items; permuting items permutes the numbers.

    As the `unary` of a `StructuredEnergy` without interaction, it classifies single items.

    Args:
        phi: module from (rows, columns of one item) to (rows, H).
        rho: module from (rows, columns of one item + H) to (rows, 1).

    References:
        Zaheer et al. 2017, Deep Sets.

    Example:
        >>> from jointebm.energies import MLP
        >>> PerItem(MLP(2, (16,), 4), MLP(6, (16,)))(torch.zeros(5, 8, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(self, phi: nn.Module, rho: nn.Module) -> None:
        super().__init__()
        self.phi, self.rho = phi, rho

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.rho,)

    def forward(self, items: Tensor) -> Tensor:
        context = self.phi(items).sum(dim=1, keepdim=True)  # (N, 1, H)
        return self.rho(torch.cat([items, context.expand(-1, items.shape[1], -1)], dim=2)).squeeze(2)
