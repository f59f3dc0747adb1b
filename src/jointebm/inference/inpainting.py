"""In-painting, and prediction of labels from a region of an image, with or without the other labels.

Every answer is the joint model's own, with the given pixels and labels clamped row by row.

Legend: N rows, H x W pixels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.inference.chain_starts import chain_starts
from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import sample

__all__ = ["HALVES", "NOTHING", "WHOLE", "Region", "accuracy_given", "inpaint", "masked"]


class Region(NamedTuple):
    """A rectangle of given pixels: its borders in fractions of the height and width of an image, from the top and left.

    Example:
        >>> HALVES[0].mask((4, 2)).int().tolist()
        [[1, 1], [1, 1], [0, 0], [0, 0]]
    """

    text: str
    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0

    def mask(self, shape: tuple[int, ...]) -> Tensor:
        """Marks the given pixels, (H, W), bool.

        Borders are rounded down: the middle row of an odd height belongs to the bottom half.
        """
        height, width = shape
        mask = torch.zeros(height, width, dtype=torch.bool)
        rows = slice(int(self.top * height), int(self.bottom * height))
        mask[rows, int(self.left * width) : int(self.right * width)] = True
        return mask


WHOLE, NOTHING = Region("whole image"), Region("no image", bottom=0.0)
HALVES = (
    Region("top half", bottom=0.5),
    Region("bottom half", top=0.5),
    Region("left half", right=0.5),
    Region("right half", left=0.5),
)


def masked(images: Tensor, region: Region) -> Tensor:
    """The images (N, H, W) with NaN where a pixel is not given.

    Example:
        >>> masked(torch.ones(1, 2, 2), HALVES[0])
        tensor([[[1., 1.],
                 [nan, nan]]])
    """
    return images.masked_fill(~region.mask(tuple(images.shape[1:])).to(images.device), torch.nan)


def inpaint(
    model: Model,
    values: Mapping[str, Tensor],
    image: str,
    region: Region,
    *,
    labels: bool = False,
    num_steps: int | None = None,
    generator: Generator,
) -> dict[str, Tensor]:
    """Draws the rest of each image given a region of it, by chains from noise; given pixels keep every bit.

    Finite chains: samples are approximate, as those of `sample`. Labels of the rows are given too, if `labels` says so, and
    drawn with the rest otherwise. Returns values of all blocks.

    Example:
        >>> from jointebm import load
        >>> rows = {"image": torch.zeros(3, 28, 28), "digit": torch.tensor([0, 1, 1])}
        >>> drawn = inpaint(load("pretrained:mnist"), rows, "image", HALVES[0], labels=True, num_steps=2,
        ...                 generator=torch.Generator())
        >>> bool((drawn["image"][:, :14] == 0).all()), bool((drawn["image"][:, 14:] != 0).all()), drawn["digit"].tolist()
        (True, True, [0, 1, 1])
    """
    given = {image: masked(values[image], region)}
    given |= {name: values[name] for name in model.space.discrete if labels}
    samples = sample(
        model,
        model.space,
        model.kernel,
        num_chains=len(values[image]),
        num_steps=model.config.num_steps if num_steps is None else num_steps,
        given=given,
        init=chain_starts(model, len(values[image]), given, generator),
        generator=generator,
    )
    known = ~given[image].isnan()  # a transform there and back may round
    return {**samples.values, image: torch.where(known, values[image], samples.values[image])}


def accuracy_given(
    model: Model,
    values: Mapping[str, Tensor],
    image: str,
    region: Region,
    *,
    others: bool = False,
    num_chains: int = 4,
    num_steps: int | None = None,
    generator: Generator,
) -> dict[str, float]:
    """Accuracy of each block of labels, predicted from a region of the image with or without the other labels.

    By enumeration if the whole image is given, and by one pass of a model of any subset; otherwise by Rao-Blackwellised
    chains, which average over the missing pixels: `num_chains` per row, of `num_steps` sweeps. Errors are those of
    `predict`.

    Example:
        >>> from jointebm import load
        >>> rows = {"image": torch.zeros(10, 28, 28), "digit": torch.arange(10)}  # alike, so one of the ten is right
        >>> round(accuracy_given(load("pretrained:mnist"), rows, "image", WHOLE, generator=torch.Generator())["digit"], 2)
        0.1
    """
    found, one_pass = {}, isinstance(model.energy, LevelEnergy)
    for name in model.space.discrete:
        given = {image: masked(values[image], region)}
        given |= {other: values[other] for other in model.space.discrete if others and other != name}
        labels = predict(
            model,
            given,
            name,
            method="exact" if one_pass or region[1:] == WHOLE[1:] else "gibbs",
            num_chains=num_chains,
            num_steps=model.config.num_steps if num_steps is None else num_steps,
            generator=generator,
        ).labels[name]
        found[name] = float((labels == values[name]).float().mean())
    return found
