"""Tables whose entries are filled in as relations determine them.

Legend: N rows.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column, Role, Unit

__all__ = ["RelatedColumn", "Work", "fill", "missing_in_any", "opened", "overlaid", "taken", "with_known"]

Work = dict[Name, Column]
_DTYPES: dict[Role, type] = {"real": np.float64, "whole": np.int64, "boolean": bool, "label": object, "time": np.int64}


class RelatedColumn(Config):
    """A column of the table, or one that relations add."""

    name: Name = Field(description="of the column")
    role: Role = Field(description="what its values are")
    unit: Unit | None = Field(None, description="of a time")
    is_duration: bool = Field(False, description="of a time: whether it is a length of time")

    def absent(self, num_rows: int) -> Column:
        """The column with all entries missing."""
        values: np.ndarray = np.zeros(num_rows, dtype=_DTYPES[self.role])
        return Column(self.role, values, np.ones(num_rows, dtype=bool), self.unit, is_duration=self.is_duration)


def opened(table: Mapping[Name, Column], columns: Sequence[RelatedColumn], num_rows: int) -> Work:
    """A copy of a table with these columns, in the roles they had in training; absent ones are missing."""
    work = {}
    for each in columns:
        column = table.get(each.name)
        if column is None or column.is_missing.all():
            work[each.name] = each.absent(num_rows)
            continue
        if each.role == column.role == "time":
            column = column.in_unit(each.unit)
        values: np.ndarray = column.values.copy()
        if each.role in ("real", "whole") and values.dtype.kind in "iufb":
            is_whole = values.dtype.kind != "f" or bool((values == np.rint(values))[~column.is_missing].all())
            values = values.astype(np.float64 if each.role == "real" or not is_whole else np.int64)
        work[each.name] = column._replace(values=values, is_missing=column.is_missing.copy())
    return work


def fill(work: Work, name: Name, rows: np.ndarray, values: np.ndarray) -> bool:
    """Fills entries of a column, in place; returns whether there were any.

    Args:
        work: the table.
        name: of the column.
        rows: which entries, bool (N,).
        values: of these entries.
    """
    column = work[name]
    if not rows.any():
        return False
    column.values[rows] = np.rint(values) if column.values.dtype.kind == "i" and values.dtype.kind == "f" else values
    column.is_missing[rows] = False
    return True


def missing_in_any(work: Mapping[Name, Column], names: Iterable[Name]) -> np.ndarray:
    """Rows with a missing entry in one of the columns, bool (N,)."""
    return np.logical_or.reduce([work[name].is_missing for name in names])


def taken(table: Mapping[Name, Column], rows: np.ndarray) -> Work:
    """Some rows, by number or mask, as copies."""
    return {
        name: column._replace(values=column.values[rows], is_missing=column.is_missing[rows])
        for name, column in table.items()
    }


def overlaid(table: Mapping[Name, Column], rows: np.ndarray, other: Mapping[Name, Column]) -> Work:
    """The table with some rows, by number, those of another table."""
    result = taken(table, np.arange(len(next(iter(table.values())).values)))
    for name, column in other.items():
        mine = result[name]
        values = mine.values if mine.values.dtype == column.values.dtype else mine.values.astype(column.values.dtype)
        values[rows], mine.is_missing[rows] = column.values, column.is_missing
        result[name] = mine._replace(values=values)
    return result


def with_known(complete: Mapping[Name, Column], known: Mapping[Name, Column]) -> Work:
    """A table with the known entries of another one."""
    result = {}
    for name, column in complete.items():
        values = np.where(known[name].is_missing, column.values, known[name].values)
        result[name] = column._replace(values=values, is_missing=column.is_missing & known[name].is_missing)
    return result
