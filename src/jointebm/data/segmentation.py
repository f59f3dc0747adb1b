"""Noisy dSprites ellipses with their masks: 1,024 correlated binary labels per image."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import ArrayDataset
from jointebm.data.dsprites import dsprites
from jointebm.spaces.blocks import Binary, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity

__all__ = ["segmentation"]


def segmentation(data_dir: Path | None, *, noise_sd: float = 1.0) -> ArrayDataset:
    """1,000 + 400 images of `dsprites` under normal noise, with the mask of the ellipse.

    A pixel of 32 x 32 belongs to the mask if at least half of its 2 x 2 pixels of 64 x 64 do. The noise of an image is the
    same at every visit, so that the chain of a row keeps its image.

    Args:
        data_dir: folder searched for the official file of dSprites; without it images are rendered.
        noise_sd: standard deviation of the noise; the ellipse is 1 and the background 0.

    Returns:
        Blocks `image` (32, 32), unbounded, and `mask` (32, 32).

    Example:
        >>> data = segmentation(None)
        >>> data.space["mask"], len(data.train["mask"])
        (Binary(shape=(32, 32)), 1000)
    """
    images, generator = dsprites(data_dir), np.random.default_rng(0)

    def noisy(levels: npt.NDArray[Any], num: int) -> dict[str, npt.NDArray[Any]]:
        chosen = levels[generator.permutation(len(levels))[:num]]
        noise = noise_sd * generator.standard_normal(chosen.shape)
        return {"image": (chosen / 4 + noise).astype(np.float32), "mask": (chosen >= 2).astype(np.uint8)}

    return ArrayDataset(
        name="dsprites-masks",
        space=Space(image=Continuous((32, 32), Identity()), mask=Binary((32, 32))),
        train=noisy(images.train["image"], 1000),
        held_out=noisy(images.held_out["image"], 400),
        white=1,
        noise_width=0.0,
    )
