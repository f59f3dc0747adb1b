"""Indicators of missing entries: one column of booleans for each column that has missing entries in training.

Legend: N rows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, unused_name
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.column_summary import ColumnSummary

__all__ = ["Indicator", "fit_indicators", "indicator_column", "with_indicators"]


class Indicator(Config):
    """The column of the model that says whether the entries of another one are missing."""

    of: Name = Field(description="the column of the table")
    coded: CodedColumn = Field(description="the indicator, true where an entry is missing")


def fit_indicators(table: Mapping[Name, ColumnSummary], codec: TableCodec) -> tuple[Indicator, ...]:
    """One for each column that the model does not ignore and that has missing entries.

    Example:
        >>> age = ColumnSummary.of(Column("whole", np.array([31, 45, 0]), np.array([False, False, True])))
        >>> [each.coded.name for each in fit_indicators({"age": age}, TableCodec.fit({"age": age}))]
        ['age is missing']
    """
    indicators: list[Indicator] = []
    for coded in codec.columns:
        column = table[coded.name]
        if column.num_missing and not isinstance(coded.codec, IgnoredCodec):
            name = unused_name(f"{coded.name} is missing", [*table, *(each.coded.name for each in indicators)])
            rows = np.array([column.num_present, column.num_missing])
            held = rows > 0
            of_missing = ColumnSummary.of(indicator_column(np.array([False, True])))
            of_missing = of_missing._replace(
                num_present=int(rows.sum()), numbers=(np.array([False, True])[held], rows[held])
            )
            (own,) = TableCodec.fit({name: of_missing}).columns
            indicators.append(Indicator(of=coded.name, coded=own))
    return tuple(indicators)


def indicator_column(is_missing: np.ndarray) -> Column:
    """Known entries of an indicator, shape (N,)."""
    return Column("boolean", is_missing.copy(), np.zeros(len(is_missing), dtype=bool))


def with_indicators(table: Mapping[Name, Column], indicators: Sequence[Indicator]) -> dict[Name, Column]:
    """The table as it is recorded: with the indicators of its columns."""
    return {**table, **{each.coded.name: indicator_column(table[each.of].is_missing) for each in indicators}}
