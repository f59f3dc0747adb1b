"""Values of blocks as JSON, and back: nested lists of numbers, null where an entry is missing or free."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from jointebm.spaces.space import Space
from jointebm.storage.untrusted import quoted

__all__ = ["block_values", "given_blocks", "listed_values"]


def block_values(space: Space, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Rows of blocks as arrays; null is missing.

    Args:
        space: the blocks.
        values: per block, nested lists of shape (N, *variable_shape).

    Raises:
        ValueError: an unknown block, or something that is not a number; names the block.

    Example:
        >>> from jointebm import Categorical, Continuous
        >>> block_values(Space(x=Continuous(2), y=Categorical(3)), {"x": [[0.5, None]], "y": [2]})["x"].tolist()
        [[0.5, nan]]
    """
    space.require(values)
    return {name: _array(space, name, value) for name, value in values.items()}


def given_blocks(space: Space, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a question gives, as `Model.sample` takes it.

    A value, nested lists of values, {"classes": [0, 1]} for a set of classes, or {"low": 0, "high": 1} for an interval of
    reals, where null is no bound. Sets and intervals stand for the whole of a block with one variable, or for an entry of
    a list with one entry per variable.
    """
    space.require(given)
    return {name: _given(space, name, value) for name, value in given.items()}


def listed_values(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Values by block as nested lists; missing reals are null, and missing labels -1."""
    return {name: _plain(value.tolist()) for name, value in values.items()}


def _given(space: Space, name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if space[name].variable_shape:
            raise ValueError(
                f"block {name!r}: got {quoted(repr(value))} for a block of several variables; give a list with an entry "
                "for each"
            )
        return _range(name, value)
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        free = -1 if space[name].discrete else math.nan
        return [
            _range(name, entry) if isinstance(entry, Mapping) else free if entry is None else entry for entry in value
        ]
    return _array(space, name, value)


def _range(name: str, value: Mapping[str, Any]) -> set[Any] | tuple[Any, Any]:
    if value.keys() == {"classes"} and isinstance(value["classes"], list):
        classes = value["classes"]
        if all(isinstance(each, int) for each in classes):
            return set(classes)
    if value.keys() == {"low", "high"} and all(isinstance(end, int | float | None) for end in value.values()):
        return value["low"], value["high"]
    raise ValueError(
        f'block {name!r}: got {quoted(repr(value))}, expected a number, a list, {{"classes": [0, 1]}} or '
        '{"low": 0, "high": null}'
    )


def _array(space: Space, name: str, value: Any) -> np.ndarray:
    """An array of numbers, -1 or NaN where an entry is null."""
    try:
        array = np.asarray(value, dtype=object)
        numbers = np.array([math.nan if each is None else each for each in array.ravel()])
        if numbers.dtype.kind not in "iuf" and numbers.size:
            raise TypeError(f"holds {numbers.dtype}")
        numbers = numbers.astype(np.float64).reshape(array.shape)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"block {name!r}: got {quoted(repr(value))}, expected numbers in nested lists of equal lengths, null where an "
            "entry is missing"
        ) from None
    return np.where(np.isnan(numbers), -1, numbers) if space[name].discrete else numbers


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
