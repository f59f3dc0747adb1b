"""Splits training rows into rows to train on and held-out rows, on which choices are made and diagnoses reported."""

from dataclasses import replace
from typing import NamedTuple

import torch

from jointebm.data.datasets import ArrayDataset, Dataset
from jointebm.spaces.space import Position

__all__ = ["VALIDATION_SHARE", "TrainingSplit", "split_rows"]

VALIDATION_SHARE = 0.1  # of stored training rows: the last ones
GENERATED_ROWS = (10_000, 2_000)  # drawn where rows are not stored: to fit, held out
MAX_SPLIT_ROWS = 2_000  # of the held-out rows
SPLIT_SEED = 2  # of the noise of both parts, and of generated rows


class TrainingSplit(NamedTuple):
    """Training rows in two parts.

    Args:
        dataset: the data without the held-out rows; test rows are those of the whole.
        rows: training rows, once each: a position, NaN is missing.
        held_out: held-out rows in the same form, at most `MAX_SPLIT_ROWS`.
    """

    dataset: Dataset
    rows: Position
    held_out: Position


def split_rows(dataset: Dataset) -> TrainingSplit:
    """Holds out the last tenth of stored training rows; fresh draws where rows are drawn afresh in every batch.

    Both parts depend on the data alone: noise and draws have a seed of their own.

    Args:
        dataset: the data.

    Raises:
        ValueError: fewer than 20 rows.

    Example:
        >>> from jointebm.data import digits
        >>> split = split_rows(digits())
        >>> len(split.rows["digit"]), len(split.held_out["digit"])
        (1294, 144)
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    stored = dataset.stored
    if stored is None:
        rows, held_out = (dataset.batch(num, generator=generator) for num in GENERATED_ROWS)
        return TrainingSplit(dataset, rows, held_out)
    num_rows = len(next(iter(stored.train.values())))
    num_held_out = round(VALIDATION_SHARE * num_rows)
    if num_held_out < 2:
        raise ValueError(
            f"data {dataset.name!r}: got {num_rows} training rows; at least 20 are needed to hold out a tenth"
        )
    first = num_rows - num_held_out
    training, last = _part(stored, slice(None, first)), _part(stored, slice(first, first + MAX_SPLIT_ROWS))
    return TrainingSplit(training, training.all_rows(generator=generator), last.all_rows(generator=generator))


def _part(stored: ArrayDataset, rows: slice) -> ArrayDataset:
    """Some of the training rows, with what is known of them."""
    return replace(
        stored,
        train={name: array[rows] for name, array in stored.train.items()},
        observed={name: mask[rows] for name, mask in stored.observed.items()},
    )
