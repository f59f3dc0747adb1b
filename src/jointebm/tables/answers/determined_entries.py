"""Predictions of entries that relations determine from known ones: the entry itself, not one that its code stands for.

Legend: N rows.
"""

from typing import Any

import numpy as np

from jointebm.tables.answers.recorded_table import RecordedRows
from jointebm.tables.answers.related_table import RelatedRows
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column

__all__ = ["with_determined"]


def with_determined(predicted: Column, rows: Any, name: Name) -> Column:
    """A prediction of a column, with the entries that relations determine in their place.

    Args:
        predicted: N entries, none missing.
        rows: N rows as `Answering.rows` read them, in which the column is missing.
        name: of the column.
    """
    within = rows.recorded if isinstance(rows, RecordedRows) else rows
    if not isinstance(within, RelatedRows):
        return predicted
    determined = within.work[name]
    values = np.where(determined.is_missing, predicted.values, determined.values)
    if predicted.values.dtype.kind in "iuf":
        values = values.astype(predicted.values.dtype)
    return predicted._replace(values=values)
