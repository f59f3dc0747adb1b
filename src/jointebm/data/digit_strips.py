"""Strips of four handwritten digits whose sum is a multiple of a number: labels that depend strongly on one another.

Legend: N strips, M pictures, T = 4 places of a strip.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import ArrayDataset
from jointebm.data.mnist import mnist
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity

__all__ = ["NUM_DIGITS", "blotted", "digit_strips", "strip_rows"]

NUM_DIGITS = 4
NUM_STRIPS = 20_000
NUM_TEST_STRIPS = 5_000
LAST_SHARE = 0.1  # of the pictures and of the strips: the last strips hold the last pictures
BLOT = 255


def digit_strips(data_dir: Path | None, *, multiple: int = 5) -> ArrayDataset:
    """20,000 + 5,000 strips of four MNIST digits, 28 x 112 pixels, whose sum is a multiple of a number.

    Four pictures are drawn independently, and the strip is kept if its digits sum to a multiple:

        p(y) is proportional to p(y_1) p(y_2) p(y_3) p(y_4) [y_1 + y_2 + y_3 + y_4 = 0 mod `multiple`]

    with p the class frequencies of the pictures. Three digits tell the fourth up to 10 / `multiple` candidates. Blots of
    full ink cover one digit, each equally often, of a quarter of the training strips, and all four of another quarter,
    which show the rule alone; test strips have none (see `blotted`). The last tenth of the training strips consists of the
    last tenth of the training pictures, which are in no other strip, so that strips held out for validation show unseen
    pictures.

    Args:
        data_dir: the folder of the MNIST files.
        multiple: 1 .. 10; with 1 digits are independent.

    Returns:
        Blocks `image` (4, 28, 28), grey levels on [0, 1], and `digits` (4,), 10 classes.

    Raises:
        FileNotFoundError: a file is missing; names the places searched.
        ValueError: a file is not the original, or `multiple` is not in 1 .. 10.

    Example:
        >>> digit_strips(None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileNotFoundError: mnist: no data folder; pass --data DIR or set JOINTEBM_DATA to the folder that holds ...
    """
    if not 1 <= multiple <= 10:
        raise ValueError(f"digit_strips: multiple must lie in 1 .. 10, got {multiple}")
    pictures, generator = mnist(data_dir), np.random.default_rng(0)
    first = round((1 - LAST_SHARE) * len(pictures.train["digit"]))
    num_first = round((1 - LAST_SHARE) * NUM_STRIPS)
    parts = [
        _strips({name: array[rows] for name, array in pictures.train.items()}, num, multiple, generator)
        for rows, num in ((slice(first), num_first), (slice(first, None), NUM_STRIPS - num_first))
    ]
    train = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # A quarter of the numbers name the place of one blot, a quarter stand for all places, the others for none.
    kinds = generator.integers(4 * NUM_DIGITS, size=(NUM_STRIPS, 1))
    covered = (kinds == np.arange(NUM_DIGITS)) | ((kinds >= NUM_DIGITS) & (kinds < 2 * NUM_DIGITS))
    return ArrayDataset(
        name="digit-strips" if multiple == 5 else f"digit-strips-{multiple}",
        space=Space(
            image=Continuous((NUM_DIGITS, *pictures.space["image"].variable_shape), Identity()),
            digits=Categorical(10, (NUM_DIGITS,)),
        ),
        train={**train, "image": blotted(train["image"], covered, BLOT)},
        held_out=_strips(pictures.held_out, NUM_TEST_STRIPS, multiple, generator),
        white=255,
        noise_width=0.0,
        judge=None,
        figures=None,
    )


def blotted(images: npt.NDArray[Any], covered: npt.NDArray[np.bool_], white: float = 1.0) -> npt.NDArray[Any]:
    """Strips (N, T, height, width) with some digits covered by full ink.

    Args:
        images: the strips, which do not change.
        covered: which digits are covered, (N, T).
        white: level of the blot; 1 for values on [0, 1].

    Example:
        >>> blotted(np.zeros((1, 4, 28, 28)), np.array([[False, True, False, False]])).mean(axis=(2, 3)).tolist()
        [[0.0, 1.0, 0.0, 0.0]]
    """
    return np.where(covered[:, :, None, None], np.asarray(white, images.dtype), images)


def strip_rows(
    digits: npt.NDArray[np.integer], num: int, multiple: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Numbers (N, T) of pictures with these labels (M,), drawn independently until they sum to a multiple.

    Example:
        >>> rows = strip_rows(np.arange(10), 100, 5, np.random.default_rng(0))
        >>> rows.shape, set((rows.sum(axis=1) % 5).tolist())
        ((100, 4), {0})
    """
    kept: list[npt.NDArray[np.int64]] = []
    while sum(map(len, kept)) < num:
        drawn = generator.integers(len(digits), size=(num * multiple, NUM_DIGITS))
        kept.append(drawn[digits[drawn].sum(axis=1, dtype=np.int64) % multiple == 0])
    return np.concatenate(kept)[:num]


def _strips(
    pictures: dict[str, npt.NDArray[Any]] | Any, num: int, multiple: int, generator: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    rows = strip_rows(pictures["digit"], num, multiple, generator)
    return {"image": pictures["image"][rows], "digits": pictures["digit"][rows]}
