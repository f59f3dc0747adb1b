"""Questions about images of which a part is given: in-painting, and labels from a part, with or without other labels.

Nothing here is a model of its own: every answer is the joint model's, with what is given clamped row by row.

Legend: N rows, H x W pixels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import sample

__all__ = ["HALVES", "NOTHING", "WHOLE", "Part", "accuracy_given", "inpaint", "masked"]


class Part(NamedTuple):
    """The part of an image that is given: a rectangle, in shares of its height and width.

    Args:
        text: what to call it, such as "top half".
        top: share of the rows above it.
        bottom: share of the rows above its end.
        left: share of the columns left of it.
        right: share of the columns left of its end.

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
        """Which pixels are given, (H, W), bool. Borders are rounded down: the middle row of an odd height belongs to
        the bottom half."""
        height, width = shape
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[int(self.top * height) : int(self.bottom * height), int(self.left * width) : int(self.right * width)] = (
            True
        )
        return mask


WHOLE, NOTHING = Part("whole image"), Part("no image", bottom=0.0)
HALVES = (
    Part("top half", bottom=0.5),
    Part("bottom half", top=0.5),
    Part("left half", right=0.5),
    Part("right half", left=0.5),
)


def masked(images: Tensor, part: Part) -> Tensor:
    """The images (N, H, W) with NaN where a pixel is not given.

    Example:
        >>> masked(torch.ones(1, 2, 2), HALVES[0])
        tensor([[[1., 1.],
                 [nan, nan]]])
    """
    return images.masked_fill(~part.mask(tuple(images.shape[1:])).to(images.device), torch.nan)


def inpaint(
    model: Model,
    values: Mapping[str, Tensor],
    image: str,
    part: Part,
    *,
    labels: bool = False,
    num_steps: int | None = None,
    generator: Generator,
) -> dict[str, Tensor]:
    """Draws the rest of each image given a part of it, from noise; what is given is bit for bit the same afterwards.

    Args:
        model: the model; its kernel and noise are used.
        values: rows, per block (N, *variable_shape).
        image: name of the block of images.
        part: what is given of each.
        labels: whether all labels of the rows are given too; if not, they are drawn with the rest.
        num_steps: kernel steps; None is the model's.
        generator: source of all draws.

    Returns:
        Values of all blocks, (N, *variable_shape).

    Example:
        >>> from jointebm import Binary, Continuous, KernelSpec, ModelConfig, Space
        >>> from jointebm.energies import ConcatSpec, MLPSpec
        >>> space = Space(image=Continuous((4, 4)), y=Binary())
        >>> model = Model(ModelConfig(name="example", data="none", space=space.config,
        ...                           energy=ConcatSpec(net=MLPSpec(hidden=(8,))), kernel=KernelSpec(step_size=0.1)))
        >>> rows = {"image": torch.zeros(3, 4, 4), "y": torch.tensor([0, 1, 1])}
        >>> drawn = inpaint(model, rows, "image", HALVES[0], labels=True, num_steps=2, generator=torch.Generator())
        >>> bool((drawn["image"][:, :2] == 0).all()), bool((drawn["image"][:, 2:] != 0).all()), drawn["y"].tolist()
        (True, True, [0, 1, 1])
    """
    given = {image: masked(values[image], part)}
    given |= {name: values[name] for name in model.space.discrete if labels}
    samples = sample(
        model,
        model.space,
        model.kernel,
        num_chains=len(values[image]),
        num_steps=model.config.num_steps if num_steps is None else num_steps,
        given=given,
        init=model.noise,
        generator=generator,
    )
    known = ~given[image].isnan()  # a transform there and back may round
    return {**samples.values, image: torch.where(known, values[image], samples.values[image])}


def accuracy_given(
    model: Model,
    values: Mapping[str, Tensor],
    image: str,
    part: Part,
    *,
    others: bool = False,
    num_chains: int = 4,
    num_steps: int | None = None,
    generator: Generator,
) -> dict[str, float]:
    """How often each block of labels is predicted right from a part of the image, with the other labels or without.

    By enumeration where the whole image is given, and else by Rao-Blackwellised chains, which average over the missing part.

    Args:
        model: the model.
        values: rows with their true labels, per block (N, *variable_shape).
        image: name of the block of images.
        part: what is given of each.
        others: whether the labels of all other blocks are given.
        num_chains: chains per row.
        num_steps: sweeps; None is the model's number of steps.
        generator: source of all draws.

    Returns:
        Share of right labels per discrete block, over rows and variables.

    Raises:
        ValueError: no rows; the space has other reals than the image; or the whole image is given and the labels asked for
            have too many configurations to enumerate.
        FloatingPointError: the log-density is not finite.

    Example:
        >>> from jointebm import Binary, Continuous, KernelSpec, ModelConfig, Space
        >>> from jointebm.energies import ConcatSpec, MLPSpec
        >>> space = Space(image=Continuous((4, 4)), y=Binary())
        >>> model = Model(ModelConfig(name="example", data="none", space=space.config,
        ...                           energy=ConcatSpec(net=MLPSpec(hidden=(8,))), kernel=KernelSpec(step_size=0.1)))
        >>> rows = {"image": torch.zeros(2, 4, 4), "y": torch.tensor([0, 1])}  # alike, so one of the two is right
        >>> accuracy_given(model, rows, "image", WHOLE, generator=torch.Generator())
        {'y': 0.5}
    """
    found = {}
    for name in model.space.discrete:
        given = {image: masked(values[image], part)}
        given |= {other: values[other] for other in model.space.discrete if others and other != name}
        labels = predict(
            model,
            given,
            name,
            method="exact" if part[1:] == WHOLE[1:] else "gibbs",
            num_chains=num_chains,
            num_steps=model.config.num_steps if num_steps is None else num_steps,
            generator=generator,
        ).labels[name]
        found[name] = float((labels == values[name]).float().mean())
    return found
