"""Rendered dSprites ellipses of every position and size: a part of them, as a data set."""

import numpy as np

from jointebm import Categorical, Continuous, Space
from jointebm.data import ArrayDataset
from jointebm.data.dsprites import chosen_latents, halved, render
from jointebm.spaces.transforms import Identity


def sprites(noise_sd: float = 0.1, every: int = 29) -> ArrayDataset:
    latents = chosen_latents()[::every]
    rows = {
        "image": halved(render(latents)),
        "horizontal": (latents[:, 4] // 2).astype(np.uint8),
        "vertical": (latents[:, 5] // 2).astype(np.uint8),
    }
    space = Space(image=Continuous((32, 32), Identity()), horizontal=Categorical(16), vertical=Categorical(16))
    return ArrayDataset(
        "dsprites-some",
        space,
        train=rows,
        held_out=rows,
        white=4,
        noise_width=0.0,
        noise_sd=noise_sd,
        judge="sprite centre",
    )
