"""Random parts of rows and random noise levels, which a function for every subset is trained on.

Legend: N rows, D reals of a row.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, device_of, uniform
from jointebm.spaces.space import Space

__all__ = ["DrawnLevels", "draw_levels", "random_parts"]

WHOLE, HALF, RECTANGLE = 0.25, 0.5, 0.75  # borders of the shares of each kind of part; the rest are single pixels
MISSING, TWO_LEVELS = 0.5, 0.75  # borders of the shares: the rest of a row missing, at another level, at the same


class DrawnLevels(NamedTuple):
    """Noise levels of N rows, each in two groups of reals.

    Args:
        log_levels: logarithms of the level of either group, (N, 2); infinite for a group that is missing.
        second: which reals belong to the second group, (N, D), bool.
    """

    log_levels: Tensor
    second: Tensor


def random_parts(space: Space, num: int, generator: Generator) -> Tensor:
    """Marks a random part of each of N rows, (N, D), bool.

    The part of an image is all of it, one of the four halves, a rectangle or what lies outside one, or random pixels, a
    quarter of the rows each. Of any other block it is all of it, or random entries at a random rate.
    """
    parts, device = [], device_of(generator)
    for name in space.continuous:
        shape = space[name].variable_shape
        draws = uniform(torch.empty(num, 8, device=device), generator)
        entries = uniform(torch.empty(num, space[name].num_variables, device=device), generator) < draws[:, 1:2]
        kind = draws[:, :1]  # (N, 1)
        if len(shape) == 2:
            half, rectangle = (mask.flatten(1) for mask in _shapes(shape, draws[:, 2:]))
            entries = torch.where(kind < RECTANGLE, rectangle, entries)
            entries = torch.where(kind < HALF, half, entries)
        parts.append(entries | (kind < WHOLE))
    return torch.cat(parts, dim=1)


def draw_levels(
    space: Space,
    num: int,
    *,
    bounds: tuple[float, float],
    lowest_share: float,
    whole_share: float = 0.0,
    generator: Generator,
) -> DrawnLevels:
    """Draws parts of N rows and their noise levels.

    A level is uniform in its logarithm. In half of the rows the rest is missing, in a quarter it has another level than the
    part, which is at the lowest, and in a quarter it has the level of the part. These are shares of the rows that are not
    chosen to be visible whole, at one level.

    Args:
        space: the blocks.
        num: N.
        bounds: the lowest and the highest level.
        lowest_share: share of rows whose first level is the lowest itself.
        whole_share: share of rows of which all reals are visible at one level, besides those above.
        generator: source of all draws.
    """
    low, high = (math.log(bound) for bound in bounds)
    draws = uniform(torch.empty(num, 3, device=device_of(generator)), generator)
    level = low + (high - low) * draws[:, 0]
    kind, lowest = (draws[:, 1] - whole_share) / (1 - whole_share), torch.full_like(level, low)
    kind = torch.where(kind < 0, TWO_LEVELS, kind)
    of_part = torch.where(draws[:, 2] < lowest_share, lowest, level)
    two_levels = (kind >= MISSING) & (kind < TWO_LEVELS)
    first = torch.where(two_levels, lowest, of_part)
    rest = torch.where(kind < MISSING, torch.inf, torch.where(two_levels, level, of_part))
    return DrawnLevels(torch.stack([first, rest], dim=1), ~random_parts(space, num, generator))


def _shapes(shape: tuple[int, ...], draws: Tensor) -> tuple[Tensor, Tensor]:
    """One of the four halves, and a rectangle or what lies outside it, of N images, each (N, H, W), bool."""
    height, width = shape
    rows = torch.arange(height, device=draws.device)[:, None]
    columns = torch.arange(width, device=draws.device)[None, :]

    def column(number: int) -> Tensor:
        return draws[:, number, None, None]

    by_rows, first = column(0) < 0.5, column(1) < 0.5
    before = torch.where(by_rows, rows < height // 2, columns < width // 2)
    between = []
    for place, size, start in ((rows, height, 2), (columns, width, 4)):
        low, high = column(start).minimum(column(start + 1)), column(start).maximum(column(start + 1))
        between.append((place >= low * size) & (place < high * size))
    inside = between[0] & between[1]
    return before == first, inside == first
