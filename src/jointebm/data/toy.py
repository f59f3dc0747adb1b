"""Eight Gaussians on a circle with three binary attributes (Sec. 6.1): the paper's toy data, with its true density.

Legend: N points, 8 modes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.blocks import Categorical, Continuous
from jointebm.draws import Generator, normal, uniform
from jointebm.spaces import Position, Space

__all__ = ["Toy"]

RADIUS = 4 / math.sqrt(2)
STANDARD_DEVIATION = 0.5 / math.sqrt(2)


@dataclass(frozen=True)
class Toy:
    """Mode k = 0 .. 7 lies at angle 45 k degrees; its attributes are the three bits of k.

    `half` is k // 4 (the upper or the lower half circle), `quarter` is (k // 2) mod 2, `parity` is k mod 2: three even
    partitions of the modes which together say which mode it is. Every training batch is drawn afresh.

    Args:
        num_test: number of test rows, drawn once with a seed of their own.

    References:
        Kelly & Grathwohl 2021, Sec. 6.1.

    Example:
        >>> toy = Toy()
        >>> values = toy.space.decode(toy.batch(3, generator=torch.Generator().manual_seed(0)))
        >>> sorted(values), values["point"].shape
        (['half', 'parity', 'point', 'quarter'], torch.Size([3, 2]))
    """

    num_test: int = 10_000

    name = "toy"

    @property
    def space(self) -> Space:
        return Space(point=Continuous(2), half=Categorical(2), quarter=Categorical(2), parity=Categorical(2))

    def batch(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws a fresh batch."""
        return self.space.encode(self.draw(num, generator=generator))[0]

    def test(self) -> dict[str, Tensor]:
        """The test rows."""
        return self.draw(self.num_test, generator=torch.Generator().manual_seed(1))

    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws values of N points and their attributes from the true joint distribution."""
        modes = (uniform(torch.empty(num), generator) * 8).long()
        points = centers()[modes] + STANDARD_DEVIATION * normal(torch.empty(num, 2), generator)
        return {"point": points, **attributes_of(modes)}

    def log_density(self, position: Position) -> Tensor:
        """The true log p(x, y), normalised, at encoded positions, shape (N,), nats."""
        values = self.space.decode(position)
        modes = values["half"] * 4 + values["quarter"] * 2 + values["parity"]
        squares = (values["point"] - centers().to(values["point"])[modes]).square().sum(dim=1)
        variance = STANDARD_DEVIATION**2
        return -squares / (2 * variance) - math.log(2 * math.pi * variance) - math.log(8)


def centers() -> Tensor:
    """Centres of the modes, shape (8, 2)."""
    angles = torch.arange(8) * (math.pi / 4)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def attributes_of(modes: Tensor) -> dict[str, Tensor]:
    """The three attributes of each mode, each of the shape of `modes`."""
    return {"half": modes // 4, "quarter": modes // 2 % 2, "parity": modes % 2}


def nearest_mode(points: Tensor) -> Tensor:
    """The mode each point (N, 2) is nearest to, which is the Bayes classifier, shape (N,)."""
    return torch.cdist(points, centers().to(points)).argmin(dim=1)
