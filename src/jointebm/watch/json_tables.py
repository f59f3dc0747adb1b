"""Columns of a table as JSON, and back: a list per column, null where an entry is missing, times as ISO text.

Legend: N rows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jointebm.estimators import JointEBM
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import read_frame, read_vector
from jointebm.tables.frames.writing import write_frame

__all__ = ["column_name", "frame_of_lists", "given_columns", "lists_of_columns", "lists_of_frame"]


def column_name(model: JointEBM, text: str) -> Name:
    """The column that is written so in JSON, where columns of an array have their number as text."""
    for name in model.frame_schema_.names:
        if str(name) == text:
            return name
    known = quoted(", ".join(repr(str(name)) for name in model.frame_schema_.names))
    raise ValueError(f"unknown column {quoted(repr(text))}; this model has {known}")


def frame_of_lists(model: JointEBM, rows: Mapping[str, Sequence[Any]]) -> Any:
    """A frame of pandas from a list of values per column.

    Raises:
        ValueError: no column, an unknown one, lists of different lengths, or values of another kind than in training.
    """
    if not rows:
        raise ValueError('rows: names no column; expected {"column": [values], ...}')
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"rows: every column needs the same number of rows, got {quoted(repr(lengths))}")
    names = {text: column_name(model, text) for text in rows}
    columns = {names[text]: _column(model, names[text], list(values)) for text, values in rows.items()}
    return write_frame(columns, model.frame_schema_.select(list(columns), "pandas"))


def given_columns(model: JointEBM, given: Mapping[str, Any]) -> dict[Name, Any]:
    """What a question gives, as `JointEBM.sample` takes it.

    Per column a value, a list of values, {"low": 30, "high": 40} for an interval with ends included, where null is no
    bound, or null, that the entry is missing.
    """
    found: dict[Name, Any] = {}
    for text, said in given.items():
        name = column_name(model, text)
        if isinstance(said, Mapping):
            if said.keys() != {"low", "high"}:
                raise ValueError(f'given column {text!r}: got {quoted(repr(said))}, expected {{"low": 30, "high": 40}}')
            found[name] = (said["low"], said["high"])
        else:
            found[name] = said
    return found


def lists_of_columns(table: Mapping[Name, Column]) -> dict[str, list[Any]]:
    """Values of each column for JSON.

    Example:
        >>> lists_of_columns({"age": Column("whole", np.array([31, 0]), np.array([False, True]))})
        {'age': [31, None]}
    """
    return {str(name): _list(column) for name, column in table.items()}


def lists_of_frame(frame: Any) -> dict[str, list[Any]]:
    """The same of a frame."""
    return lists_of_columns(read_frame(frame).table)


def _list(column: Column) -> list[Any]:
    values = column.values
    if column.role == "time":
        values = values.astype(np.int64).view(f"datetime64[{column.unit}]").astype(str)
    plain = values.tolist()
    missing = column.is_missing.tolist()
    return [
        None if gone or (isinstance(each, float) and not math.isfinite(each)) else each
        for each, gone in zip(plain, missing, strict=True)
    ]


def _column(model: JointEBM, name: Name, values: list[Any]) -> Column:
    for value in values:
        if not isinstance(value, str | int | float | None):
            raise ValueError(f"column {name!r}: got {quoted(repr(value))}, expected a number, text, a boolean or null")
    schema = model.frame_schema_.column(name)
    is_missing = np.array([value is None for value in values])
    if schema.role == "time":
        kind = "timedelta64" if schema.is_duration else "datetime64"
        try:
            times = np.array(["NaT" if value is None else value for value in values], dtype=f"{kind}[{schema.unit}]")
        except (ValueError, TypeError):
            raise ValueError(f"column {name!r}: expected ISO text such as '2024-02-29', or null") from None
        return Column("time", np.where(is_missing, 0, times.astype(np.int64)), is_missing, schema.unit)
    column = read_vector(values, str(name), num_rows=len(values))
    roles = {"real", "whole", "boolean"}
    if schema.role in ("real", "whole") and column.role in roles and not is_missing.all():
        kept = np.where(column.is_missing, 0, column.values)
        whole = schema.role == "whole" and bool((kept == np.floor(kept.astype(float))).all())
        numbers = kept.astype(np.int64 if whole else np.float64)
        return Column("whole" if whole else "real", numbers, column.is_missing)
    return column
