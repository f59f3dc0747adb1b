"""Checks of arguments that several questions share."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Real
from typing import Any

import numpy as np

from jointebm.storage.untrusted import quoted

__all__ = [
    "check_mapping",
    "is_name",
    "number_of_first",
    "numbers_of_rows",
    "quantile_levels",
    "relation_texts",
    "row_weights",
    "seed_of_draws",
    "whole_number",
]


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


def numbers_of_rows(first: Any, num_rows: int) -> int | np.ndarray:
    """The number of the first row of a question, or a vector with the number of each, shape (N,), int64."""
    if np.ndim(first) == 0:
        return number_of_first(first)
    numbers = np.asarray(first)
    if numbers.shape != (num_rows,) or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise ValueError(
            f"first: got {numbers.dtype} of shape {numbers.shape}, expected the number of the first row, or those of all "
            f"{num_rows} rows, whole numbers of 0 or more"
        )
    return numbers.astype(np.int64)


def quantile_levels(quantiles: Any) -> list[float]:
    """The levels of quantiles, one or more."""
    is_list = isinstance(quantiles, Iterable) and not isinstance(quantiles, str)
    levels = list(quantiles) if is_list else []
    wrong = [level for level in levels if not isinstance(level, Real) or not 0 < float(level) < 1]
    if wrong or not levels:
        got = quoted(repr(wrong[0] if wrong else quantiles))
        raise ValueError(f"quantiles: got {got}, expected a list of levels in (0, 1), such as [0.05, 0.95]")
    if len({f"{100 * level:g}" for level in levels}) < len(levels):
        raise ValueError(f"quantiles: got {quoted(repr(levels))}, where a level occurs twice; name it once")
    return [float(level) for level in levels]


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


def relation_texts(relations: object) -> tuple[str, ...] | None:
    """The texts of relations; "none" is what the command line calls None."""
    if relations is None or (isinstance(relations, str) and relations == "none"):
        return None
    texts = (relations,) if isinstance(relations, str) else relations
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"relations: got {quoted(repr(relations))}, expected 'auto', None or texts such as ['start <= end']"
        )
    return tuple(texts)


def check_mapping(name: str, given: object, example: Mapping[str, object]) -> None:
    """Raises unless a parameter is a mapping or None."""
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{name}: got {quoted(repr(given))}, expected a mapping, such as {example}")
