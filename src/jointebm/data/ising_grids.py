"""Grids of spins drawn exactly from the Ising model (Sec. 2.2): data whose true parameters are known.

Legend: N grids, S = 2^16 configurations.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from jointebm.data.generated_dataset import GeneratedDataset
from jointebm.randomness.draws import Generator, uniform
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Position, Space

__all__ = ["IsingGrids"]


@dataclass(frozen=True)
class IsingGrids(GeneratedDataset):
    """4 x 4 spins s = 2 y - 1 on a torus, from p(y) proportional to exp(J sum of s_i s_j over neighbours + h sum of s_i).

    All configurations are enumerated, so draws are exact.

    Args:
        coupling: J.
        field: h.
        num_test: number of test rows.

    Example:
        >>> IsingGrids().batch(3, generator=torch.Generator())["spins"].shape
        torch.Size([3, 4, 4])
    """

    coupling: float = 0.3
    field: float = 0.1
    num_test: int = 1_000

    name = "ising"
    space = Space(spins=Binary((4, 4)))

    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws values of N grids from the true distribution."""
        grids, weights = self._table
        drawn = torch.searchsorted(weights, uniform(weights.new_empty(num), generator)).clamp(max=len(grids) - 1)
        return {"spins": grids[drawn].long()}

    def log_density(self, position: Position) -> Tensor:
        """The true f at grids (N, 4, 4), shape (N,), nats."""
        spins = 2 * position["spins"] - 1
        pairs = (spins * (spins.roll(1, dims=1) + spins.roll(1, dims=2))).sum(dim=(1, 2))
        return self.coupling * pairs + self.field * spins.sum(dim=(1, 2))

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """All grids (S, 4, 4), and the cumulative sums of their probabilities (S,)."""
        grids = self.space.configurations()
        return grids["spins"], self.log_density(grids).double().softmax(dim=0).cumsum(dim=0)
