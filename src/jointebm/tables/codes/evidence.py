"""Evidence about one column: a choice of values, or an interval."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np

from jointebm.storage.untrusted import quoted

__all__ = ["Choice", "Evidence", "Interval", "as_evidence"]


class Choice(NamedTuple):
    """The value is one of these."""

    values: tuple[object, ...]


class Interval(NamedTuple):
    """The value lies in [low, high]; None is no bound."""

    low: Any
    high: Any


Evidence = Choice | Interval


def as_evidence(given: object) -> Evidence:
    """Reads what a user gives: a pair is an interval, a set or list is a choice, all else is a single value.

    Raises:
        ValueError: a tuple that is not a pair, an empty choice, or several values in neither a set nor a list.

    Example:
        >>> as_evidence((30, None)), as_evidence("Private")
        (Interval(low=30, high=None), Choice(values=('Private',)))
    """
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"a tuple is an interval (low, high), got {len(given)} entries; use a set for choices")
        return Interval(*given)
    if isinstance(given, AbstractSet | list):
        if not given:
            raise ValueError("got an empty choice; give at least one value")
        return Choice(tuple(given))
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | np.generic):
        raise ValueError(
            f"got {type(given).__name__} {quoted(repr(given))}, which is several values; use a set or list for choices"
        )
    return Choice((given,))
