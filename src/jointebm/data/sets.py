"""Labels that are sets: six points in the plane form two clusters of three, and the label is one of the clusters.

Legend: N rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.data.generated_dataset import GeneratedDataset
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.blocks import Binary, Continuous
from jointebm.spaces.space import Space

__all__ = ["Sets"]

NUM_ITEMS = 6


@dataclass(frozen=True)
class Sets(GeneratedDataset):
    """Clusters of standard deviation 1/2, three apart in a random direction around a random point, in random order.

    Either cluster is the label with probability 1/2, so given all points every point is a member with probability 1/2: a
    classifier of single points has nothing to learn, a density over sets has. Given the points, the entropy of the set is
    log 2, up to clusters that overlap.

    Args:
        num_test: number of test rows.

    Example:
        >>> sets = Sets()
        >>> rows = sets.batch(5, generator=torch.Generator().manual_seed(0))
        >>> rows["points"].shape, rows["members"].sum(dim=1).tolist()
        (torch.Size([5, 6, 2]), [3.0, 3.0, 3.0, 3.0, 3.0])
    """

    num_test: int = 500

    name = "sets"
    space = Space(points=Continuous((NUM_ITEMS, 2)), members=Binary(NUM_ITEMS))

    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws values of N rows from the true joint distribution."""
        angle = 2 * torch.pi * uniform(torch.empty(num), generator)
        apart = 1.5 * torch.stack([angle.cos(), angle.sin()], dim=1)[:, None]  # (N, 1, 2)
        members = uniform(torch.empty(num, NUM_ITEMS), generator).argsort(dim=1) < NUM_ITEMS // 2
        middle = normal(torch.empty(num, 1, 2), generator)
        spread = 0.5 * normal(torch.empty(num, NUM_ITEMS, 2), generator)
        return {"points": middle + (2 * members[..., None] - 1) * apart + spread, "members": members.long()}
