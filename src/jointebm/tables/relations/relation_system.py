"""All relations of a table: the columns that the model holds, and how the others are rebuilt from them.

Legend: N rows, L levels.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.combination import Combination
from jointebm.tables.relations.fitted_forms import Relation
from jointebm.tables.relations.functional import Functional
from jointebm.tables.relations.joint_sums import deduce_together
from jointebm.tables.relations.work_table import RelatedColumn, Work, missing_in_any, opened

__all__ = ["Bound", "RelationSystem", "deduce_all", "depends", "levels_table", "parents_of", "settled"]

KindOfRelation = Annotated[Relation, Field(discriminator="kind")]


class Bound(Config):
    """The range of training of a rebuilt number, which draws do not leave."""

    name: Name = Field(description="of the column")
    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")


class RelationSystem(Config):
    """A reversible map between rows of a table and rows of the model, as stored in `config.json`.

    The rebuilt columns are functions of the columns of the model, in any order of the relations: each relation fills what it
    determines, until nothing changes.
    """

    relations: tuple[KindOfRelation, ...] = Field(description="that rebuild columns")
    checked: tuple[KindOfRelation, ...] = Field((), description="orders that draws are redrawn for")
    columns: tuple[RelatedColumn, ...] = Field(description="of the table, then those that relations add")
    bounds: tuple[Bound, ...] = Field((), description="of rebuilt numbers")
    codec: TableCodec = Field(description="of the columns of the model")

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = {column.name for column in self.columns}
        mentioned = {name for each in self.relations for name in (*each.columns, *each.added)}
        mentioned |= {name for each in self.checked for name in each.columns}
        if not mentioned | set(self.codec.names) | {bound.name for bound in self.bounds} <= names:
            raise ValueError("a relation, a bound or the codec names an unknown column")
        if set(self.rebuilt) & set(self.codec.names) or set(self.rebuilt) | set(self.codec.names) != names:
            raise ValueError("each column must be either of the model or rebuilt")
        return self

    @property
    def listed(self) -> tuple[Relation, ...]:
        """All relations that every draw keeps."""
        return (*self.relations, *self.checked)

    @property
    def rebuilt(self) -> tuple[Name, ...]:
        """Columns that the model leaves out."""
        return tuple(name for each in self.relations for name in each.derived)

    @cached_property
    def parents(self) -> dict[Name, tuple[Name, ...]]:
        """The columns that each rebuilt column is computed from."""
        return parents_of(self.relations)

    @cached_property
    def ancestors(self) -> dict[Name, tuple[Name, ...]]:
        """The columns of the model that each rebuilt column is computed from."""
        return {
            name: tuple(each for each in self.codec.names if depends(name, each, self.parents)) for name in self.parents
        }

    @cached_property
    def roots(self) -> dict[Name, tuple[Name, ...]]:
        """The columns of the model that determine others by maps, each with these others."""
        roots = {}
        for each in self.relations:
            root = each.key if isinstance(each, Functional) else each.number if isinstance(each, Combination) else None
            if root is not None and root in self.codec.names:
                roots[root] = tuple(name for name, known in self.ancestors.items() if known == (root,))
        return roots

    def open(self, table: Mapping[Name, Column], num_rows: int) -> Work:
        """A table with all columns, and all entries that the relations determine."""
        return deduce_all(opened(table, self.columns, num_rows), self.relations)

    def training(self, table: Mapping[Name, Column]) -> tuple[TableCodec, dict[Name, Column]]:
        """The codec and the entries of the columns of the model, of a whole table."""
        return self.codec, self.of_model(self.open(table, len(next(iter(table.values())).values)))

    def of_model(self, work: Mapping[Name, Column]) -> dict[Name, Column]:
        """The columns of the model."""
        return {name: work[name] for name in self.codec.names}

    def known(self, work: Work, codec: TableCodec) -> list[tuple[CodedColumn, Column]]:
        """The entries of the columns of the model, and those of rebuilt ones that are computed from missing entries.

        Args:
            work: the table, with what the relations determine.
            codec: of the columns of the table.
        """
        found = [(coded, work[coded.name]) for coded in self.codec.columns]
        for coded in codec.columns:
            if parts := self.ancestors.get(coded.name):
                column, is_computed = work[coded.name], ~missing_in_any(work, parts)
                found.append((coded, column._replace(is_missing=column.is_missing | is_computed)))
        return found

    def close(self, table: Mapping[Name, Column], num_rows: int) -> Work:
        """All columns from those of the model."""
        return self.open({name: table[name] for name in self.codec.names}, num_rows)

    def broken(self, work: Work) -> np.ndarray:
        """Rows that contradict a relation, bool (N,)."""
        return np.logical_or.reduce([each.broken(work) for each in self.listed])

    def require_kept(self, table: Mapping[Name, Column], num_rows: int) -> None:
        """Raises unless the entries of all rows of conditions agree with the relations.

        Raises:
            ValueError: names a relation and the first row that breaks it.
        """
        work = self.open(table, num_rows)
        for each in self.listed:
            rows = np.flatnonzero(each.broken(work))
            if len(rows):
                raise ValueError(f"given: row {rows[0]} breaks {quoted(repr(str(each)))}; correct it")

    def refused(self, work: Work) -> np.ndarray:
        """Draws to be drawn again: they break an order, or a rebuilt number is out of its range, bool (N,)."""
        refused = np.zeros(len(next(iter(work.values())).values), dtype=bool)
        for each in self.checked:
            refused |= each.broken(work)
        for bound in self.bounds:
            column = work[bound.name]
            refused |= ~column.is_missing & ((column.values < bound.low) | (column.values > bound.high))
        return refused

    def level_table(self, root: Name, levels: np.ndarray) -> Work:
        """What each level of a column of the model determines, L rows."""
        return levels_table(root, levels, self.columns, self.relations)


def deduce_all(work: Work, relations: Sequence[Relation]) -> Work:
    """Fills in place what the relations determine, until nothing changes; returns the table."""
    balances = [each for each in relations if isinstance(each, Balance)]
    while any(each.deduce(work) for each in relations) or (len(balances) > 1 and deduce_together(work, balances)):
        pass
    return work


def settled(table: Mapping[Name, Column], columns: Sequence[RelatedColumn], relations: Sequence[Relation]) -> Work:
    """A copy of a table with what the relations determine."""
    num_rows = len(next(iter(table.values())).values)
    return deduce_all(opened(table, columns, num_rows), relations)


def levels_table(
    root: Name, levels: np.ndarray, columns: Sequence[RelatedColumn], relations: Sequence[Relation]
) -> Work:
    """What each level of one column determines, L rows."""
    column = next(each for each in columns if each.name == root).absent(len(levels))
    known = column._replace(values=levels.astype(column.values.dtype), is_missing=np.zeros(len(levels), dtype=bool))
    return settled({root: known}, columns, relations)


def parents_of(relations: Iterable[Relation]) -> dict[Name, tuple[Name, ...]]:
    """The columns that each rebuilt column is computed from."""
    parents: dict[Name, tuple[Name, ...]] = {}
    for each in relations:
        others = tuple(name for name in (*each.columns, *each.added) if name not in each.derived)
        parents |= dict.fromkeys(each.derived, others)
    return parents


def depends(name: Name, other: Name, parents: Mapping[Name, tuple[Name, ...]]) -> bool:
    """Whether a column is another one, or is computed from it."""
    return name == other or any(depends(each, other, parents) for each in parents.get(name, ()))
