"""Eight Gaussians on a circle with three binary attributes (Sec. 6.1): the toy data of the paper, with the true density.

Legend: N points, 8 modes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.data.generated_dataset import GeneratedDataset
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Position, Space

__all__ = ["Toy"]

RADIUS = 4 / math.sqrt(2)
STANDARD_DEVIATION = 0.5 / math.sqrt(2)


@dataclass(frozen=True)
class Toy(GeneratedDataset):
    """Mode k = 0 .. 7 lies at angle 45 k degrees; its attributes are the three bits of the Gray code of k.

    `bottom` holds modes 4 to 7, `left` modes 2 to 5, `diagonal` modes 1, 2, 5 and 6: three even partitions which
    together identify the mode. Neighbouring modes differ in exactly one attribute, so a kernel that changes one label at a
    time can walk from mode to mode.

    Args:
        num_test: number of test rows.

    References:
        Kelly & Grathwohl 2021, Sec. 6.1.

    Example:
        >>> toy = Toy()
        >>> values = toy.space.decode(toy.batch(3, generator=torch.Generator().manual_seed(0)))
        >>> sorted(values), values["point"].shape
        (['bottom', 'diagonal', 'left', 'point'], torch.Size([3, 2]))
    """

    num_test: int = 5_000

    name = "toy"
    space = Space(point=Continuous(2), bottom=Categorical(2), left=Categorical(2), diagonal=Categorical(2))
    judge = "nearest mode"
    figures = "toy"

    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws values of N points and their attributes from the true joint distribution."""
        modes = (uniform(torch.empty(num), generator) * 8).long()
        points = centers()[modes] + STANDARD_DEVIATION * normal(torch.empty(num, 2), generator)
        return {"point": points, **attributes_of(modes)}

    def log_density(self, position: Position) -> Tensor:
        """The true log p(x, y), normalised, at encoded positions, shape (N,), nats."""
        values = self.space.decode(position)
        modes = modes_of(values)
        squares = (values["point"] - centers().to(values["point"])[modes]).square().sum(dim=1)
        variance = STANDARD_DEVIATION**2
        return -squares / (2 * variance) - math.log(2 * math.pi * variance) - math.log(8)


def centers() -> Tensor:
    """Centres of the modes, shape (8, 2)."""
    angles = torch.arange(8) * (math.pi / 4)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def attributes_of(modes: Tensor) -> dict[str, Tensor]:
    """The three attributes of each mode, each of the shape of `modes`: the bits of its Gray code."""
    gray = modes ^ (modes // 2)
    return {"bottom": gray // 4, "left": gray // 2 % 2, "diagonal": gray % 2}


def modes_of(attributes: Mapping[str, Tensor]) -> Tensor:
    """The mode with these three attributes; the inverse of `attributes_of`."""
    bottom, left, diagonal = attributes["bottom"], attributes["left"], attributes["diagonal"]
    second = bottom ^ left
    return bottom * 4 + second * 2 + (second ^ diagonal)


def nearest_mode(points: Tensor) -> Tensor:
    """The mode nearest to each point (N, 2), which is the Bayes classifier, shape (N,)."""
    return torch.cdist(points, centers().to(points)).argmin(dim=1)
