"""Collects relations one by one into a system, in which each rebuilt column is rebuilt once and no cycle remains.

Legend: N rows, V columns.
"""

from collections.abc import Mapping

import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec, Kind
from jointebm.tables.codes.column_fit import fit_column
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.combination import Combination
from jointebm.tables.relations.fitted_forms import Relation, fitted_forms
from jointebm.tables.relations.functional import Functional
from jointebm.tables.relations.key_codes import with_groups
from jointebm.tables.relations.ordering import Ordering
from jointebm.tables.relations.relation_system import (
    Bound,
    RelationSystem,
    deduce_all,
    depends,
    levels_table,
    parents_of,
)
from jointebm.tables.relations.request import RelationRequest
from jointebm.tables.relations.work_table import RelatedColumn, Work, opened

__all__ = ["CollectedRelations"]

NUM_SHUFFLED = 512  # rows that tell whether a relation follows from others
SHUFFLE_SEED = 20_240_229


class CollectedRelations:
    """The relations collected so far, and the training table with what they determine.

    Args:
        table: of training, N rows.
        kinds: that the user asks for.
        max_bins: codes for a column of numbers, None for the default.
        max_levels: codes for a column of categories.
    """

    def __init__(
        self, table: Mapping[Name, Column], *, kinds: Mapping[Name, Kind], max_bins: int | None, max_levels: int
    ) -> None:
        self.names = tuple(table)
        self.kinds, self.max_bins, self.max_levels = dict(kinds), max_bins, max_levels
        self.columns = [
            RelatedColumn(name=name, role=each.role, unit=each.unit, is_duration=each.is_duration)
            for name, each in table.items()
        ]
        self.num_rows = len(next(iter(table.values())).values)
        self.work: Work = opened(table, self.columns, self.num_rows)
        self.relations: list[Relation] = []
        self.checked: list[Relation] = []
        self.of_model: list[Name] = list(table)

    def add(self, request: RelationRequest, *, declared: bool) -> bool:
        """Adds a relation unless it follows from others; returns whether it is new.

        An order of columns that others rebuild already is checked instead. A detected relation that cannot be added is left
        out.

        Raises:
            ValueError: a declared relation has columns of the wrong kinds, is broken by a row, or conflicts with others.
        """
        try:
            forms = fitted_forms(request, self.work, [each.name for each in self.columns])
        except ValueError:
            if declared:
                raise
            return False
        if self._follows(forms[0]) and not isinstance(forms[0], Ordering):
            return False
        for form in forms:
            if self._fits(form) and not self._follows(form):
                self._accept(form)
                return True
        if isinstance(forms[0], Ordering):
            self.checked.append(forms[0])
            return True
        if declared:
            fixed = ", ".join(repr(name) for name in forms[0].columns if name not in self.of_model)
            raise ValueError(
                f"relations: {quoted(repr(request.text))}: other relations already rebuild {fixed or 'its columns'}; "
                "leave one of them out"
            )
        return False

    @property
    def related(self) -> set[Name]:
        """The columns that a relation is about or adds."""
        return {name for each in (*self.relations, *self.checked) for name in (*each.columns, *each.added)}

    def system(self, summaries: Mapping[Name, ColumnSummary] | None = None) -> RelationSystem | None:
        """The system, with the codec of the columns of the model; None without relations.

        Args:
            summaries: of columns in more rows than those of the table, with what relations determine.
        """
        if not self.relations and not self.checked:
            return None
        summaries = summaries or {}
        table = {name: summaries.get(name, self.work[name]) for name in self.of_model}
        kinds = {name: kind for name, kind in self.kinds.items() if name in table}
        codec = TableCodec.fit(table, kinds=kinds, max_bins=self.max_bins, max_levels=self.max_levels)
        codec = TableCodec(columns=tuple(self._grouped(each) for each in codec.columns))
        return RelationSystem(
            relations=tuple(self.relations),
            checked=tuple(self.checked),
            columns=tuple(self.columns),
            bounds=tuple(self._bounds(summaries)),
            codec=codec,
        )

    def codec_of(self, name: Name) -> CategoryCodec | NumberCodec | IgnoredCodec:
        """The codec that a column of the model would get."""
        summary = ColumnSummary.of(self.work[name])
        return fit_column(summary, kind=self.kinds.get(name), max_bins=self.max_bins, max_levels=self.max_levels)

    def is_ignored(self, name: Name) -> bool:
        """Whether the model ignores a column: ids, and columns without entries."""
        return isinstance(self.codec_of(name), IgnoredCodec)

    def _fits(self, form: Relation) -> bool:
        """Whether the column to be rebuilt is still one of the model and nothing that it is computed from depends on it."""
        parents = parents_of(self.relations)
        others = [name for name in form.columns if name not in form.derived]
        return all(
            name in self.of_model and not any(depends(other, name, parents) for other in others)
            for name in form.derived
        )

    def _accept(self, form: Relation) -> None:
        place = min(self.of_model.index(name) for name in form.derived)
        self.of_model = [name for name in self.of_model if name not in form.derived]
        for name in form.added:
            some = [self.work[each].role for each in form.columns]
            is_real = isinstance(form, Ordering) and "real" in some
            column = RelatedColumn(name=name, role="real" if is_real else "whole")
            self.columns.append(column)
            self.work[name] = column.absent(self.num_rows)
            self.of_model.insert(place, name)
        if isinstance(form, Combination):
            self.kinds[form.number] = "categorical"
        if isinstance(form, Functional) and form.key in self.of_model:
            codec = self.codec_of(form.key)
            if isinstance(codec, IgnoredCodec) or (isinstance(codec, NumberCodec) and not codec.is_discrete):
                self.kinds[form.key] = "categorical"  # each level keeps its identity
        self.relations.append(form)
        deduce_all(self.work, self.relations)

    def _follows(self, form: Relation) -> bool:
        """Whether rows with shuffled columns of the model keep the relation as well."""
        if not self.relations:
            return False
        generator = np.random.default_rng(SHUFFLE_SEED)
        table = {}
        for name in self.of_model:
            present = np.flatnonzero(~self.work[name].is_missing)
            if len(present):
                rows = generator.choice(present, NUM_SHUFFLED)
                column = self.work[name]
                table[name] = column._replace(values=column.values[rows], is_missing=column.is_missing[rows])
        work = deduce_all(opened(table, self.columns, NUM_SHUFFLED), self.relations)
        is_known = ~np.logical_or.reduce([work[name].is_missing for name in form.columns])
        return bool(is_known.all()) and not form.broken(work).any()

    def _grouped(self, coded: CodedColumn) -> CodedColumn:
        """The column with rare levels of a key grouped by what they determine."""
        if not isinstance(coded.codec, CategoryCodec) or coded.codec.num_codes == len(coded.codec.levels):
            return coded
        if not any(isinstance(each, Functional) and each.key == coded.name for each in self.relations):
            return coded
        work = levels_table(coded.name, coded.codec.values, self.columns, self.relations)
        images = [work[name].values.tolist() for name in work if name != coded.name and not work[name].is_missing.any()]
        groups = list(zip(*images, strict=True))
        return coded.model_copy(update={"codec": with_groups(coded.codec, groups)})

    def _bounds(self, summaries: Mapping[Name, ColumnSummary]) -> list[Bound]:
        bounds = []
        for each in self.relations:
            for name in each.derived if isinstance(each, Balance | Ordering) else ():
                numbers = summaries[name].numbers if name in summaries else ColumnSummary.of(self.work[name]).numbers
                assert numbers is not None  # of a sum or an order
                bounds.append(Bound(name=name, low=numbers[0][0].item(), high=numbers[0][-1].item()))
        return bounds
