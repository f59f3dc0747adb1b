"""The relations of a training table: those that a user declares, and those that all rows keep."""

from collections.abc import Mapping, Sequence

from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column, Kind
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.found_functions import find_combinations, find_equalities, find_functions
from jointebm.tables.relations.found_orders import find_orders
from jointebm.tables.relations.found_sums import find_sums
from jointebm.tables.relations.request import parse_relation

__all__ = ["AUTO", "find_relations"]

AUTO = "auto"


def find_relations(
    table: Mapping[Name, Column],
    declared: Sequence[str] | None,
    *,
    names: Sequence[Name] | None = None,
    kinds: Mapping[Name, Kind],
    max_bins: int | None,
    max_levels: int,
) -> CollectedRelations | None:
    """Collects the relations of a table; None where none are asked for.

    Args:
        table: of training.
        names: columns that may be related; None is all.
        declared: texts such as "start <= end"; "auto" among them adds the relations that are detected; None is none.
        kinds: of columns, that the user asks for.
        max_bins: codes for a column of numbers, None for the default.
        max_levels: codes for a column of categories.

    Raises:
        BrokenRelationError: a row breaks a declared relation.
        ValueError: a declared relation has unknown columns or columns of the wrong kinds.
    """
    if declared is None or not len(next(iter(table.values())).values):
        return None
    names = list(table) if names is None else names
    found = CollectedRelations(table, kinds=kinds, max_bins=max_bins, max_levels=max_levels)
    for text in declared:
        if text != AUTO:
            found.add(parse_relation(text, names), declared=True)
    if AUTO in declared:
        searched = [name for name in names if not found.is_ignored(name)]
        find_equalities(found, searched)
        find_sums(found, searched)
        find_functions(found, searched)
        find_combinations(found, searched)
        find_orders(found, searched)
    return found
