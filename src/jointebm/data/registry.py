"""Data sets by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jointebm.data.all_sprites import all_sprites
from jointebm.data.datasets import Dataset
from jointebm.data.digit_strips import digit_strips
from jointebm.data.digits import digits
from jointebm.data.dsprites import dsprites
from jointebm.data.ising_grids import IsingGrids
from jointebm.data.letters import letters
from jointebm.data.mnist import mnist
from jointebm.data.scenes import CaptionedScenes
from jointebm.data.segmentation import segmentation
from jointebm.data.sets import Sets
from jointebm.data.toy import Toy

__all__ = ["DATASETS", "open_dataset"]


# Each entry opens a data set, given the folder of data files; embedded data sets ignore it.
# `-pixels`: positions are pixels with normal noise. `-random`: the test set of the paper, which contains duplicates of
# training images. `-masks`: noisy images with the mask of the ellipse. `-10`: sums are multiples of ten instead of five.
DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "toy": lambda data_dir: Toy(),  # noqa: ARG005
    "digits": lambda data_dir: digits(),  # noqa: ARG005
    "digits-pixels": lambda data_dir: digits(pixels=True),  # noqa: ARG005
    "sets": lambda data_dir: Sets(),  # noqa: ARG005
    "ising": lambda data_dir: IsingGrids(),  # noqa: ARG005
    "captions": lambda data_dir: CaptionedScenes(),  # noqa: ARG005
    "mnist": mnist,
    "mnist-pixels": partial(mnist, pixels=True),
    "digit-strips": digit_strips,
    "digit-strips-10": partial(digit_strips, multiple=10),
    "dsprites": dsprites,
    "dsprites-pixels": partial(dsprites, pixels=True),
    "dsprites-random": partial(dsprites, split="random"),
    "dsprites-full": all_sprites,
    "dsprites-masks": segmentation,
    "letters": letters,
}
"""How to open each data set, by name, given the folder of data files; embedded data ignore it.

Example:
    >>> DATASETS["toy"](None).space.discrete
    ('bottom', 'left', 'diagonal')
"""


def open_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """Opens a data set by name.

    Args:
        name: one of `DATASETS`.
        data_dir: folder of data files; None is enough for embedded data.

    Raises:
        ValueError: the name is unknown.
        FileNotFoundError: a file is missing; names the places searched.

    Example:
        >>> open_dataset("toy").space.num_configurations
        8
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data {name!r}; available: {', '.join(DATASETS)}")
    if data_dir is not None and not data_dir.is_dir():
        raise FileNotFoundError(
            f"{data_dir}: no such folder; expected the folder of data files, or None for embedded data"
        )
    return DATASETS[name](data_dir)
