"""Hides entries of training rows, to train as if they had never been known.

The hidden entries depend on `hiding_seed` alone, not on the seed of training.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import Dataset
from jointebm.spaces.space import Space
from jointebm.training.train_config import Hiding

__all__ = ["hide"]


def hide(dataset: Dataset, hiding: Hiding) -> Dataset:
    """The same data with entries of the training rows hidden; test rows stay complete.

    With the same seed, the labels seen at a small `labels_per_class` or `observe_labels` are a subset of those seen at a
    larger one.

    Args:
        dataset: the data.
        hiding: which entries to hide.

    Returns:
        The data set itself if nothing is hidden.

    Raises:
        ValueError: the data are drawn afresh in every batch; entries are hidden already; a class has too few rows; or
            `labels_per_class` is set for data with several labels per row.

    Example:
        >>> from jointebm.data import digits
        >>> data = hide(digits(), Hiding(labels_per_class=5))
        >>> int(data.observed["digit"].sum()), len(data.labelled_numbers())
        (50, 50)
    """
    if not hiding.hides:
        return dataset
    stored = dataset.stored
    if stored is None:
        raise ValueError(
            f"data {dataset.name!r}: rows are drawn afresh in every batch, so no entries can be hidden; leave out "
            "labels_per_class, observe_labels and observe_reals"
        )
    if stored.observed:
        raise ValueError(f"data {dataset.name!r}: entries are hidden already; hide them once")
    generator = np.random.default_rng(hiding.hiding_seed)
    observed: dict[str, npt.NDArray[np.bool_]] = {}
    if hiding.labels_per_class is not None:
        name = _only_label(dataset.space)
        observed[name] = _some_of_each(stored.train[name], hiding.labels_per_class, name, generator)
    for names, rate in (
        (dataset.space.discrete, hiding.observe_labels),
        (dataset.space.continuous, hiding.observe_reals),
    ):
        for name in names if rate < 1 else ():
            seen = generator.random(stored.train[name].shape) < rate
            observed[name] = observed.get(name, np.True_) & seen
    return replace(stored, observed=observed)


def _only_label(space: Space) -> str:
    names = space.discrete
    if len(names) != 1 or space[names[0]].num_variables != 1:
        raise ValueError(
            f"labels_per_class: expected data with one label per row, got blocks {', '.join(map(repr, names)) or 'none'}; "
            "set observe_labels, the probability that a label is seen"
        )
    return names[0]


def _some_of_each(
    labels: npt.NDArray[np.uint8], num: int, name: str, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """`num` rows of each class, shape (rows,), bool; the first in a random order, so that fewer are a subset of more."""
    seen = np.zeros(labels.shape, dtype=np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < num:
            raise ValueError(
                f"labels_per_class: got {num}, but class {label} of block {name!r} has {len(rows)} rows; choose at most that"
            )
        seen[generator.permutation(rows)[:num]] = True
    return seen
