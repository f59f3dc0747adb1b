"""Checks relations on all rows of a table that is read in chunks, and summarises the columns that they rebuild or add.

Relations are found in a sample. A row that breaks one is a witness: with it, the relation is not found again, or a map such
as zip -> city knows one more key. Of the rows that break a relation in the same way, the first one is kept, so that neither
the chunks nor their order change the witnesses.
"""

from collections.abc import Callable, Mapping

import numpy as np

from jointebm.tables.codes.chunks import Chunk
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.row_sample import joined_tables
from jointebm.tables.codes.table_summary import TableSummary
from jointebm.tables.relations.functional import Functional
from jointebm.tables.relations.relation_system import RelationSystem

__all__ = ["RelationCheck"]


class RelationCheck:
    """Witnesses against relations, and summaries of related columns, from all rows.

    Args:
        system: the relations.
        related: columns to summarise, with the entries that relations determine.
        new_summary: makes an empty summary.
    """

    def __init__(self, system: RelationSystem, related: set[Name], new_summary: Callable[[], TableSummary]) -> None:
        self._system, self._related = system, related
        self._summary = new_summary()
        self._first: dict[tuple[int, object], int] = {}  # row that breaks a relation, and with which key
        self._parts: list[tuple[np.ndarray, dict[Name, Column]]] = []  # numbers and rows

    def add(self, chunk: Chunk) -> None:
        """Takes in the rows of a chunk."""
        num_rows = len(next(iter(chunk.table.values())).values)
        work = self._system.open(chunk.table, num_rows)
        kept: set[int] = set()
        for place, each in enumerate(self._system.listed):
            rows = np.flatnonzero(each.broken(work)).tolist()
            keys = work[each.key].values[rows].tolist() if isinstance(each, Functional) else [None] * len(rows)
            for key, row in zip(keys, rows, strict=True):
                if self._is_first(place, key, chunk.first + row):
                    kept.add(row)
        if kept:
            rows_kept = np.array(sorted(kept))
            self._parts.append(
                (chunk.first + rows_kept, {name: column.take(rows_kept) for name, column in chunk.table.items()})
            )
        self._summary.add(Chunk({name: work[name] for name in work if name in self._related}, chunk.first))

    def merge(self, other: "RelationCheck") -> None:
        """Takes in the rows of another check of the same relations."""
        for (place, key), number in other._first.items():
            self._is_first(place, key, number)
        self._parts += other._parts
        self._summary.merge(other._summary)

    def witnesses(self) -> tuple[np.ndarray, dict[Name, Column]] | None:
        """Numbers and rows that break relations, the first ones of each kind, ascending; None without any."""
        if not self._parts:
            return None
        numbers = np.concatenate([part[0] for part in self._parts])
        table = joined_tables([part[1] for part in self._parts])
        kept = np.flatnonzero(np.isin(numbers, list(self._first.values())))
        order = kept[np.argsort(numbers[kept])]
        return numbers[order], {name: column.take(order) for name, column in table.items()}

    def summaries(self) -> Mapping[Name, ColumnSummary]:
        """The summaries of the related columns."""
        return self._summary.columns()

    def _is_first(self, place: int, key: object, number: int) -> bool:
        """Notes a row; returns whether it is the first one so far that breaks the relation in this way."""
        if self._first.get((place, key), number + 1) <= number:
            return False
        self._first[place, key] = number
        return True
