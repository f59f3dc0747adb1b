"""The relations of a training table: those that a user declares, and those that all rows keep."""

from collections.abc import Mapping, Sequence

from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column, Kind
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.found_functions import find_combinations, find_equalities, find_functions
from jointebm.tables.relations.found_orders import find_orders
from jointebm.tables.relations.found_sums import find_sums
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.request import parse_relation

__all__ = ["AUTO", "fit_relations"]

AUTO = "auto"


def fit_relations(
    table: Mapping[Name, Column],
    declared: Sequence[str] | None,
    *,
    kinds: Mapping[Name, Kind],
    max_bins: int,
    max_levels: int,
) -> RelationSystem | None:
    """The relations of a table, with the codec of the columns of the model; None without any.

    Args:
        table: of training.
        declared: texts such as "start <= end"; "auto" among them adds the relations that are detected; None is none.
        kinds: of columns, that the user asks for.
        max_bins: codes for a column of numbers.
        max_levels: codes for a column of categories.

    Raises:
        ValueError: a declared relation has unknown columns or columns of the wrong kinds, or a row breaks it.
    """
    if declared is None or not len(next(iter(table.values())).values):
        return None
    found = CollectedRelations(table, kinds=kinds, max_bins=max_bins, max_levels=max_levels)
    for text in declared:
        if text != AUTO:
            found.add(parse_relation(text, list(table)), declared=True)
    if AUTO in declared:
        names = [name for name in table if not found.is_ignored(name)]
        find_equalities(found, names)
        find_sums(found, names)
        find_functions(found, names)
        find_combinations(found, names)
        find_orders(found, names)
    return found.system()
