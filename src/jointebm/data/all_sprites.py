"""dSprites with all five attributes as labels: 737,280 images under noise, drawn or from the official file.

Legend: N images.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jointebm.data.datasets import Batch, Dataset
from jointebm.data.dsprites import LATENTS, check_official, find_official, halved
from jointebm.data.sprite_shapes import draw_sprites
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity
from jointebm.storage.npz import read_rows

__all__ = ["AllSprites", "all_sprites"]

ATTRIBUTES = {
    "shape": "shape",
    "scale": "scale",
    "orientation": "orientation",
    "horizontal": "posX",
    "vertical": "posY",
}
NUM_HELD_OUT = 500  # test images, and as many for validation
NOISE_SD = 0.5


@dataclass(frozen=True)
class AllSprites(Dataset):
    """Images of one sprite, 32 x 32, under normal noise, with its shape, scale, orientation and position.

    All combinations of the attributes are equally likely. Each image is the mean of 2 x 2 pixels, 1 on 0, plus noise, drawn
    afresh for training rows. Training never draws the test images, nor those of `validation`; an image that differs from
    one of these in one attribute, or looks the same in another orientation, may occur.

    Args:
        noise_sd: standard deviation of the noise, >= 0.
        images: levels 0 .. 4 of all images in the official order, (737280, 32, 32); None draws the images asked for.

    Example:
        >>> AllSprites().space.num_configurations // 737_280, AllSprites().test()["image"].shape
        (1, torch.Size([500, 32, 32]))
    """

    noise_sd: float = NOISE_SD
    images: npt.NDArray[np.uint8] | None = field(default=None, repr=False)

    name = "dsprites-full"
    space = Space(
        image=Continuous((32, 32), Identity()),
        **{name: Categorical(LATENTS[latent]) for name, latent in ATTRIBUTES.items()},
    )

    def rows(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows uniformly among the images that are not held out."""
        order = _order()[2 * NUM_HELD_OUT :]
        chosen = (uniform(torch.empty(num, dtype=torch.float64), generator) * len(order)).long().numpy()
        return Batch(self.space.encode(self._values(order[chosen], generator))[0])

    def labelled(self, num: int, *, generator: Generator) -> Batch:
        """Draws rows; every row has all its labels."""
        return self.rows(num, generator=generator)

    def test(self) -> dict[str, Tensor]:
        """500 images drawn at random without replacement, with the same noise each time."""
        return self._values(_order()[:NUM_HELD_OUT], torch.Generator().manual_seed(1))

    def validation(self) -> dict[str, Tensor]:
        """500 further images, to choose settings by."""
        return self._values(_order()[NUM_HELD_OUT : 2 * NUM_HELD_OUT], torch.Generator().manual_seed(2))

    def without_noise(self) -> "AllSprites":
        """The same images without noise."""
        return replace(self, noise_sd=0.0)

    def with_all_images(self) -> "AllSprites":
        """The same rows from images that are all in memory, 755 MB; drawing them takes about two minutes."""
        if self.images is not None:
            return self
        return replace(self, images=draw_sprites(_latents(np.arange(math.prod(LATENTS.values())))))

    def table(self, images: Tensor) -> Tensor:
        """The true log p(x, y) at all labels, (N, 3, 6, 40, 32, 32), nats: the best that any model can know.

        Args:
            images: (N, 32, 32); NaN is missing, and the same pixels are missing in all rows.

        Raises:
            ValueError: rows miss different pixels, or the images of these data are not in memory (`with_all_images`).
        """
        seen = ~images[0].isnan()
        if self.images is None or not bool((images.isnan() == ~seen).all()):
            raise ValueError(
                "AllSprites.table: needs all images in memory, and rows that miss the same pixels; call with_all_images() "
                "first, and ask about rows with other missing pixels by themselves"
            )
        x, found = images[:, seen], []
        for piece in np.array_split(self.images, 36):
            pictures = torch.from_numpy(piece).to(images)[:, seen] / 4
            found.append(x @ pictures.T - 0.5 * pictures.square().sum(dim=1))
        f = torch.cat(found, dim=1) - 0.5 * x.square().sum(dim=1)[:, None]
        constant = x.shape[1] * math.log(self.noise_sd * math.sqrt(2 * math.pi)) + math.log(len(self.images))
        return (f / self.noise_sd**2 - constant).reshape(-1, *[LATENTS[latent] for latent in ATTRIBUTES.values()])

    def _values(self, numbers: npt.NDArray[np.int64], generator: Generator) -> dict[str, Tensor]:
        latents = _latents(numbers)
        levels = draw_sprites(latents) if self.images is None else self.images[numbers]
        image = torch.from_numpy(levels).to(torch.get_default_dtype()) / 4
        if self.noise_sd:
            image = image + self.noise_sd * normal(image, generator)
        places = list(LATENTS)
        labels = {name: torch.from_numpy(latents[:, places.index(latent)]) for name, latent in ATTRIBUTES.items()}
        return {"image": image, **labels}


def _latents(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Latents (N, 6) of images by number, in the official order."""
    return np.stack(np.unravel_index(numbers, tuple(LATENTS.values())), axis=1)


_ORDERS: list[npt.NDArray[np.int64]] = []


def _order() -> npt.NDArray[np.int64]:
    """Numbers of all images in random order, the same bits in every version."""
    if not _ORDERS:
        _ORDERS.append(np.argsort(np.random.PCG64(0).random_raw(math.prod(LATENTS.values())), kind="stable"))
    return _ORDERS[0]


def all_sprites(data_dir: Path | None) -> AllSprites:
    """`AllSprites` of the official file if it exists (755 MB of memory), else of images that are drawn when asked for.

    Args:
        data_dir: folder searched for the official file, as is its folder `dsprites/`.

    Raises:
        ValueError: a file has the official name but not the official content.

    Example:
        >>> all_sprites(None).space.num_configurations  # rendered
        737280
    """
    path = find_official(data_dir)
    if path is None:
        return AllSprites()
    check_official(path)
    num, side = math.prod(LATENTS.values()), 64
    pieces = read_rows(path, "imgs", np.arange(num), shape=(num, side, side), dtype=np.uint8)
    return AllSprites(images=np.concatenate([halved(piece) for piece in pieces]))
