"""Checks of entries against evidence about their column.

Legend: N rows.
"""

import numpy as np

from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence, Interval

__all__ = ["DisagreementError", "agrees", "require_agreement"]


class DisagreementError(ValueError):
    """A row of a question contradicts the evidence.

    Args:
        name: the column that the evidence is about.
        row: number of the row.
        reason: what the row does.
        remedy: what to do.
    """

    def __init__(
        self,
        name: Name,
        row: int,
        reason: str,
        remedy: str = "leave the entry out, or leave the column out of given",
    ) -> None:
        super().__init__(f"given column {name!r}: row {row} of X {reason}; {remedy}")
        self.name, self.row, self.reason, self.remedy = name, row, reason, remedy


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
        DisagreementError: an entry contradicts the evidence; names its row.
    """
    converted = coded.converted(column)
    rows = np.flatnonzero(~converted.is_missing)
    if isinstance(known, Interval) and isinstance(coded.codec, CategoryCodec):
        rows = rows[coded.codec.encode(converted.values[rows]) >= 0]  # a level not seen in training is missing
    wrong = ~agrees(coded, known, converted.take(rows))
    if wrong.any():
        row = int(rows[wrong][0])
        raise DisagreementError(coded.name, row, f"{verb} {column.shown(row)}, which contradicts it")
