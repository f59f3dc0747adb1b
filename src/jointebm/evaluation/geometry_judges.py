"""Judges without training, for data whose geometry is known.

Legend: N rows, H x W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.data.dsprites import CENTER_SPACING, FIRST_CENTER
from jointebm.data.toy import attributes_of, nearest_mode
from jointebm.inference.conditions import variable_names
from jointebm.spaces.space import Space

__all__ = ["NearestMode", "Placement", "SpriteCentre", "placement"]

BACKGROUND = 0.5  # grey level; darker pixels do not belong to the sprite
NUM_POSITION_BINS = 16
POSITIONS_PER_BIN = 2
NO_SPRITE = -NUM_POSITION_BINS  # label; more than one bin away from every bin


class NearestMode:
    """The Bayes classifier of the toy data: the attributes of the nearest mode.

    Example:
        >>> NearestMode().label({"point": torch.tensor([[2.9, 0.1]])})["bottom"].shape
        torch.Size([1])
    """

    name = "nearest mode"
    num_positions = None
    features = None

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The attributes of the nearest mode."""
        return attributes_of(nearest_mode(values["point"]))


class SpriteCentre:
    """The bins of the centre of a dSprites image, from the geometry of the renderer alone.

    The weight of a pixel is its excess over .5, at most .5; the centre of these weights is mapped to the nearest of the 32
    latent positions, and that to its bin. An image without a pixel above .5 has no centre; its labels are -16, more than
    one bin away from every bin.

    Example:
        >>> image = torch.zeros(1, 32, 32)
        >>> image[0, 8, 23] = 1.0
        >>> SpriteCentre().label({"image": image})
        {'horizontal': tensor([15]), 'vertical': tensor([0])}
    """

    name = "centre of the sprite"
    num_positions = NUM_POSITION_BINS
    features = None

    def label(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The bins of the centres, (N,) each, from `image` (N, 32, 32)."""
        weights = (values["image"].clamp(max=1) - BACKGROUND).clamp(min=0)  # (N, H, W)
        return {"horizontal": _bins(weights.sum(dim=1)), "vertical": _bins(weights.sum(dim=2))}


def _bins(weights: Tensor) -> Tensor:
    """The bins of the means of weights along one axis, (N, 32) -> (N,), int64."""
    pixels = torch.arange(weights.shape[1], dtype=weights.dtype, device=weights.device)
    mean = (weights @ pixels) / weights.sum(dim=1)  # NaN without any weight
    original = 2 * mean + 0.5  # in pixels of 64 x 64: pixel u is the mean of 2 u and 2 u + 1
    position = ((original - FIRST_CENTER) / CENTER_SPACING).round()  # number of the latent position
    bins = (position / POSITIONS_PER_BIN).floor().clamp(0, NUM_POSITION_BINS - 1)
    return torch.where(bins.isnan(), NO_SPRITE, bins).long()


@dataclass(frozen=True)
class Placement:
    """Shares of rows by the distance of labels from those asked for, per variable, and for "all" of them at once."""

    exact: dict[str, float]
    within_one: dict[str, float]  # labels at most one away


def placement(space: Space, measured: Mapping[str, Tensor], asked: Mapping[str, Tensor]) -> Placement:
    """Compares measured positions with the requested ones, per discrete block (N, *variable_shape).

    Example:
        >>> from jointebm import Categorical
        >>> space = Space(column=Categorical(9), row=Categorical(9))
        >>> measured = {"column": torch.tensor([3, 4]), "row": torch.tensor([1, 5])}
        >>> placement(space, measured, {"column": torch.tensor([3, 5]), "row": torch.tensor([1, 7])}).within_one
        {'column': 1.0, 'row': 0.5, 'all': 0.5}
    """
    distances: dict[str, Tensor] = {}
    for name in space.discrete:
        columns = (measured[name] - asked[name]).abs().reshape(len(measured[name]), -1).T
        distances |= zip(variable_names(space, name), columns, strict=True)
    distances["all"] = torch.stack(list(distances.values())).amax(dim=0)
    exact, within_one = (
        {name: float((distance <= limit).double().mean()) for name, distance in distances.items()} for limit in (0, 1)
    )
    return Placement(exact, within_one)
