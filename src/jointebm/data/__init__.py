"""Data sets: the paper's toy data and the bundled digits."""

from collections.abc import Callable

from jointebm.data.datasets import ArrayDataset, Dataset
from jointebm.data.digits import digits
from jointebm.data.toy import Toy

__all__ = ["DATASETS", "ArrayDataset", "Dataset", "Toy", "digits", "open_dataset"]

DATASETS: dict[str, Callable[[], Dataset]] = {"toy": Toy, "digits": digits}


def open_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ValueError: there is none.

    Example:
        >>> open_dataset("toy").space.num_configurations
        8
    """
    if name not in DATASETS:
        raise ValueError(f"data {name!r}: there is none of that name; there are {', '.join(DATASETS)}")
    return DATASETS[name]()
