"""Columns of a frame of any kind, or of a mapping of columns, as Python objects."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["column_of", "entry_is_missing", "names_of"]


def column_of(frame: Any, name: str) -> npt.NDArray[Any]:
    """A column as Python objects, shape (N,)."""
    names = [str(each) for each in names_of(frame)]
    if name not in names:
        raise ValueError(f"unknown column {name!r}; columns: {', '.join(map(repr, names))}")
    column = frame[name]
    entries = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    vector = np.empty(len(entries), dtype=object)
    vector[:] = entries
    return vector


def names_of(frame: Any) -> list[str]:
    """Names of the columns of a frame, or of a mapping of columns."""
    names = getattr(frame, "column_names", None)  # pyarrow, whose `columns` are arrays
    names = getattr(frame, "columns", None) if names is None else names
    return list(frame.keys() if names is None else names)


def entry_is_missing(each: object) -> bool:
    """Whether an entry is None, NaN, NA or NaT."""
    return each is None or type(each).__name__ in ("NAType", "NaTType") or bool(each != each)
