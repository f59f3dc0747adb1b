"""Data sets: the paper's toy data and the bundled digits, and MNIST where a user has its files."""

from collections.abc import Callable
from pathlib import Path

from jointebm.data.datasets import ArrayDataset, Dataset
from jointebm.data.digits import digits
from jointebm.data.mnist import mnist
from jointebm.data.toy import Toy

__all__ = ["DATASETS", "ArrayDataset", "Dataset", "Toy", "digits", "mnist", "open_dataset"]

# Each opens a data set, given the folder where data files lie; what is embedded in the package reads none.
DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "toy": lambda data_dir: Toy(),  # noqa: ARG005
    "digits": lambda data_dir: digits(),  # noqa: ARG005
    "mnist": mnist,
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
