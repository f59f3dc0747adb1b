"""Checks of arguments that several questions share."""

import operator
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from jointebm.storage.untrusted import quoted

__all__ = ["SEED", "is_name", "whole_number"]

SEED = "a whole number from 0 to 2^63 - 1"


def is_name(named: object) -> bool:
    """Whether it is one name rather than several; a set has no order, so it never is several."""
    return isinstance(named, str | np.generic | AbstractSet) or not isinstance(named, Iterable)


def whole_number(value: Any, name: str, *, least: int, expected: str) -> int:
    """A whole number of Python or numpy, from `least` to 63 bits."""
    number = operator.index(value) if hasattr(type(value), "__index__") else least - 1
    if not least <= number < 2**63:
        raise ValueError(f"{name}: got {quoted(repr(value))}, expected {expected}")
    return number
