"""Checks of arguments that several questions share."""

import operator
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from jointebm.storage.untrusted import quoted

__all__ = ["is_name", "number_of_first", "row_weights", "seed_of_draws", "whole_number"]


def is_name(named: object) -> bool:
    """Whether it is one name rather than several; a set has no order, so it never is several."""
    return isinstance(named, str | np.generic | AbstractSet) or not isinstance(named, Iterable)


def whole_number(value: Any, name: str, *, least: int, expected: str) -> int:
    """A whole number of Python or numpy, from `least` to 63 bits."""
    number = operator.index(value) if hasattr(type(value), "__index__") else least - 1
    if not least <= number < 2**63:
        raise ValueError(f"{name}: got {quoted(repr(value))}, expected {expected}")
    return number


def number_of_first(first: Any) -> int:
    """The number of the first row of a question."""
    return whole_number(first, "first", least=0, expected="the number of a row, 0 or more")


def seed_of_draws(seed: Any) -> int | None:
    """The seed of a question; None is that of the model."""
    return None if seed is None else whole_number(seed, "seed", least=0, expected="a whole number from 0 to 2^63 - 1")


def row_weights(weights: Any, num_rows: int) -> np.ndarray | None:
    """Weights of rows as float64, shape (N,); None is none.

    Raises:
        ValueError: another shape, a weight that is negative or not finite, or no weight above zero.
    """
    if weights is None:
        return None
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (num_rows,):
        raise ValueError(
            f"sample_weight: got shape {checked.shape}, expected ({num_rows},): sample_weight.shape is one weight per row"
        )
    wrong = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if len(wrong):
        raise ValueError(f"sample_weight: row {wrong[0]} has {checked[wrong[0]]}, expected a finite weight from 0 on")
    if num_rows and not checked.any():
        raise ValueError("sample_weight: all are 0. Sample weights must contain at least one non-zero number")
    return checked
