"""Hides entries of training rows, to train as if they had never been known.

What is hidden is drawn from a seed of its own: it is the same in every run with that seed, whatever the seed of training.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import ArrayDataset, Dataset
from jointebm.spaces.space import Space
from jointebm.training.train_config import Hiding

__all__ = ["hide"]


def hide(dataset: Dataset, hiding: Hiding) -> Dataset:
    """The same data with entries of the training rows hidden; test rows stay whole.

    With the same seed, the rows whose labels are seen at a small `labels_per_class` or `observe_labels` are among those at
    a larger one.

    Args:
        dataset: what to hide entries of.
        hiding: which.

    Returns:
        The data set itself if nothing is hidden.

    Raises:
        ValueError: the data are drawn afresh in every batch; entries are hidden already; some class has too few rows; or
            `labels_per_class` is asked of data with several labels.

    Example:
        >>> from jointebm.data import digits
        >>> data = hide(digits(), Hiding(labels_per_class=5))
        >>> int(data.observed["digit"].sum()), len(data.labelled_numbers())
        (50, 50)
    """
    if not hiding.hides:
        return dataset
    if not isinstance(dataset, ArrayDataset):
        raise ValueError(f"data {dataset.name!r}: are drawn afresh in every batch, so no entries of rows can be hidden")
    if dataset.observed:
        raise ValueError(f"data {dataset.name!r}: have hidden entries already; hide once")
    generator = np.random.default_rng(hiding.hiding_seed)
    observed: dict[str, npt.NDArray[np.bool_]] = {}
    if hiding.labels_per_class is not None:
        name = _only_label(dataset.space)
        observed[name] = _some_of_each(dataset.train[name], hiding.labels_per_class, name, generator)
    for names, rate in (
        (dataset.space.discrete, hiding.observe_labels),
        (dataset.space.continuous, hiding.observe_reals),
    ):
        for name in names if rate < 1 else ():
            seen = generator.random(dataset.train[name].shape) < rate
            observed[name] = observed.get(name, np.True_) & seen
    return replace(dataset, observed=observed)


def _only_label(space: Space) -> str:
    names = space.discrete
    if len(names) != 1 or space[names[0]].num_variables != 1:
        raise ValueError(
            f"labels_per_class: is for data with one label per row, but these have {', '.join(map(repr, names)) or 'none'}; "
            "use observe_labels, the probability that a label is seen"
        )
    return names[0]


def _some_of_each(
    labels: npt.NDArray[np.uint8], num: int, name: str, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """So many rows of each class, shape (rows,), bool; the first of a random order, so that fewer are among more."""
    seen = np.zeros(labels.shape, dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < num:
            raise ValueError(f"labels_per_class: {num} asked, but class {label} of block {name!r} has {len(rows)} rows")
        seen[generator.permutation(rows)[:num]] = True
    return seen
