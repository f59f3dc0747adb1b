"""The Ising model on a torus (Sec. 2.2)."""

import math

import torch
from torch import Tensor, nn

from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Position, Space

__all__ = ["IsingEnergy"]


class IsingEnergy(nn.Module):
    """f(y) = J sum over neighbours of s_i s_j + h sum_i s_i, with spins s = 2 y - 1 on a torus.

    Every spin has four neighbours, and each pair counts once; on a side of two, the pair joined in both directions
    counts twice. At temperature T, in units of the interaction, J = 1 / T. The infinite grid is magnetised for
    J above log(1 + sqrt 2) / 2 = 0.4407. J and h are trainable parameters; `jointebm.testing` has the closed forms.

    Args:
        space: one binary block of shape (rows, columns), each at least 2, and no other block.
        coupling: J, nats per pair.
        field: h, nats per spin.

    Raises:
        ValueError: the space has other blocks, or J or h is not finite.

    References:
        Kelly & Grathwohl 2021, Sec. 2.2: log p(y) = y^T W y + b^T y - log Z. Ising 1925. Onsager 1944.

    Example:
        >>> from jointebm import Binary, Space
        >>> energy = IsingEnergy(Space(spins=Binary((4, 4))), coupling=0.5)
        >>> energy({"spins": torch.ones(1, 4, 4)}).tolist()  # 32 pairs
        [16.0]
    """

    def __init__(self, space: Space, *, coupling: float, field: float = 0.0) -> None:
        super().__init__()
        blocks = tuple(space.values())
        shape = blocks[0].variable_shape
        if len(blocks) != 1 or not isinstance(blocks[0], Binary) or len(shape) != 2 or min(shape) < 2:
            raise ValueError(
                f"IsingEnergy: needs one binary block of shape (rows, columns), each at least 2, and no other, got {space}; "
                "write Space(spins=Binary((4, 4)))"
            )
        for name, value in {"coupling": coupling, "field": field}.items():
            if not math.isfinite(value):
                raise ValueError(f"IsingEnergy: {name} must be finite, got {value}")
        (self.block,) = space
        self.coupling = nn.Parameter(torch.tensor(float(coupling)))
        self.field = nn.Parameter(torch.tensor(float(field)))

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self,)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        spins = 2 * position[self.block] - 1  # (N, rows, columns)
        neighbours = spins.roll(1, dims=1) + spins.roll(1, dims=2)  # above and to the left: each pair once
        return self.coupling * (spins * neighbours).sum(dim=(1, 2)) + self.field * spins.sum(dim=(1, 2))
