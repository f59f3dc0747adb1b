"""A frame of conditions: the entries of each row are given, one answer per row, and the answers hold these entries.

Legend: N rows.
"""

from collections.abc import Mapping

import numpy as np

from jointebm.tables.codes.codec import MISSING_CODE, Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["checked_conditions", "with_given"]


def checked_conditions(table: Mapping[Name, Column], codec: TableCodec) -> dict[Name, Column]:
    """The given columns in the roles and units of training; missing entries give nothing.

    Raises:
        ValueError: an unknown column, one that the model ignores, a category that was not seen, or a value off the grid.
    """
    found = {}
    for name, column in table.items():
        coded = codec.columns[codec.index(name)]
        rows = np.flatnonzero(~column.is_missing)
        if isinstance(coded.codec, IgnoredCodec):
            if len(rows):
                reason = coded.codec.reason
                raise ValueError(
                    f"given column {name!r}: the model ignores this column ({reason}); leave it out of given"
                )
            continue
        found[name] = converted = coded.converted(column)
        values = converted.values[rows]
        wrong, why = coded.codec.encode(values) == MISSING_CODE, "which was not seen in training"
        if isinstance(coded.codec, NumberCodec) and coded.codec.grid is not None:
            grid = coded.codec.grid
            wrong, why = grid.value(grid.index(values)) != values, "which is off the grid of the column"
        if wrong.any():
            row = rows[wrong][0]
            raise ValueError(f"given column {name!r}: row {row} holds {column.shown(row)}, {why}; correct it")
    return found


def with_given(drawn: Mapping[Name, Column], given: Mapping[Name, Column]) -> dict[Name, Column]:
    """Drawn columns with the given entries in their places, shape (N,) each."""
    table = dict(drawn)
    for name, column in given.items():
        new = drawn[name]
        values = np.where(column.is_missing, new.values, column.values).astype(new.values.dtype)
        table[name] = new._replace(values=values, is_missing=column.is_missing & new.is_missing)
    return table
