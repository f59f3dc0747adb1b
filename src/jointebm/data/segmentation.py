"""Noisy dSprites ellipses with their masks: 1,024 correlated binary labels to an image."""

from pathlib import Path

from jointebm.blocks import Binary, Continuous
from jointebm.data.datasets import ArrayDataset
from jointebm.data.dsprites import dsprites
from jointebm.spaces import Space
from jointebm.transforms import Identity

__all__ = ["segmentation"]


def segmentation(data_dir: Path | None, *, noise_sd: float = 1.0) -> ArrayDataset:
    """The images of `dsprites`, buried in normal noise, and what is ellipse in them.

    Rows, split and official file are those of `dsprites`. A pixel of 32 x 32 is part of the mask if at least half of
    its 2 x 2 pixels of 64 x 64 are.

    Args:
        data_dir: folder where the official file may lie; without it images are rendered.
        noise_sd: standard deviation of the noise; the ellipse is 1 and the background 0.

    Returns:
        Blocks `image` (32, 32), not bounded, and `mask` (32, 32).
    """
    images = dsprites(data_dir)
    return ArrayDataset(
        name="segmentation",
        space=Space(image=Continuous((32, 32), Identity()), mask=Binary((32, 32))),
        train={"image": images.train["image"], "mask": (images.train["image"] >= 2).astype("uint8")},
        held_out={"image": images.held_out["image"], "mask": (images.held_out["image"] >= 2).astype("uint8")},
        white=4,
        noise_width=0.0,
        noise_sd=noise_sd,
    )
