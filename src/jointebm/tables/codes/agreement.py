"""Whether observed entries agree with evidence about their column.

Legend: N rows.
"""

import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import CodedColumn
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["require_agreement"]


def require_agreement(coded: CodedColumn, column: Column, known: Evidence) -> None:
    """Raises unless every observed entry of a column, shape (N,), is one that the evidence allows.

    Raises:
        ValueError: an entry contradicts the evidence; names its row.
    """
    converted = coded.converted(column)
    rows = np.flatnonzero(~converted.is_missing)
    values = converted.values[rows]
    if isinstance(known, Choice):
        agrees = np.array([value in known.values for value in values.tolist()], dtype=bool)
    elif isinstance(coded.codec, NumberCodec):
        agrees = np.ones(len(rows), dtype=bool)
        if known.low is not None:
            agrees &= values >= known.low
        if known.high is not None:
            agrees &= values <= known.high
    else:  # an interval of ordered levels; a level that was not seen in training is missing
        codes = coded.codec.encode(values)
        agrees = ~np.isneginf(coded.codec.log_weights(known)[codes]) | (codes < 0)
    if not agrees.all():
        row = rows[~agrees][0]
        raise ValueError(
            f"given column {coded.name!r}: row {row} of X holds {quoted(repr(column.values[row : row + 1].tolist()[0]))}, "
            "which contradicts it; leave the entry out, or leave the column out of given"
        )
