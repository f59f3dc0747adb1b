"""Data sets by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from jointebm.data.datasets import Dataset
from jointebm.data.digits import digits
from jointebm.data.dsprites import dsprites
from jointebm.data.ising_grids import IsingGrids
from jointebm.data.letters import letters
from jointebm.data.mnist import mnist
from jointebm.data.segmentation import segmentation
from jointebm.data.sets import Sets
from jointebm.data.toy import Toy
from jointebm.spaces.transforms import Identity

__all__ = ["DATASETS", "open_dataset"]


# Each opens a data set, given the folder where data files lie; what is embedded in the package reads none.
# `-pixels`: kernels move pixels, of which the data have normal noise. `-random`: with the paper's test set, which has twins
# of training images in it. `-masks`: images under noise, and which of their pixels are ellipse.
DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "toy": lambda data_dir: Toy(),  # noqa: ARG005
    "digits": lambda data_dir: digits(),  # noqa: ARG005
    "sets": lambda data_dir: Sets(),  # noqa: ARG005
    "ising": lambda data_dir: IsingGrids(),  # noqa: ARG005
    "mnist": mnist,
    "mnist-pixels": partial(mnist, name="mnist-pixels", transform=Identity(), noise_width=0.0, noise_sd=0.1),
    "dsprites": dsprites,
    "dsprites-pixels": partial(dsprites, name="dsprites-pixels", transform=Identity(), noise_width=0.0, noise_sd=0.1),
    "dsprites-random": partial(dsprites, name="dsprites-random", split="random"),
    "dsprites-masks": segmentation,
    "letters": letters,
}


def open_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """The data set of that name.

    Args:
        name: one of `DATASETS`.
        data_dir: folder where data files lie; None if there is none, which is enough for embedded data.

    Raises:
        ValueError: there is none.

    Example:
        >>> open_dataset("toy").space.num_configurations
        8
    """
    if name not in DATASETS:
        raise ValueError(f"data {name!r}: there is none of that name; there are {', '.join(DATASETS)}")
    return DATASETS[name](data_dir)
