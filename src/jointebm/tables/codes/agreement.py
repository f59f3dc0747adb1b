"""Whether entries agree with evidence about their column.

Legend: N rows.
"""

import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence, Interval

__all__ = ["agrees", "require_agreement"]


def agrees(coded: CodedColumn, known: Evidence, column: Column) -> np.ndarray:
    """Whether each entry of a column without missing ones agrees with the evidence, bool (N,)."""
    if isinstance(known, Choice):
        chosen = set(known.values)
        return np.array([value in chosen for value in column.values.tolist()], dtype=bool)
    if isinstance(coded.codec, CategoryCodec):
        return coded.codec.allows(column.values, known)
    is_allowed = np.ones(len(column.values), dtype=bool)
    if known.low is not None:
        is_allowed &= column.values >= known.low
    if known.high is not None:
        is_allowed &= column.values <= known.high
    return is_allowed


def require_agreement(coded: CodedColumn, column: Column, known: Evidence, *, verb: str = "holds") -> None:
    """Raises unless every observed entry of a column, shape (N,), is one that the evidence allows.

    Args:
        coded: the column.
        column: its entries.
        known: evidence about its missing ones.
        verb: what a row does with the entry, for the message.

    Raises:
        ValueError: an entry contradicts the evidence; names its row.
    """
    converted = coded.converted(column)
    rows = np.flatnonzero(~converted.is_missing)
    if isinstance(known, Interval) and isinstance(coded.codec, CategoryCodec):
        rows = rows[coded.codec.encode(converted.values[rows]) >= 0]  # a level not seen in training is missing
    wrong = ~agrees(coded, known, converted.take(rows))
    if wrong.any():
        row = rows[wrong][0]
        raise ValueError(
            f"given column {coded.name!r}: row {row} of X {verb} {quoted(repr(column.values[row : row + 1].tolist()[0]))}, "
            "which contradicts it; leave the entry out, or leave the column out of given"
        )
