"""Finds equal columns, columns that are functions of a category, and pairs of which few combinations occur.

Legend: N rows, V columns, L levels.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.levels import Levels, is_function, levels_of
from jointebm.tables.relations.request import RelationRequest
from jointebm.tables.relations.support import (
    MAX_LOG_CHANCE,
    MIN_EVIDENCE,
    log_chance_of_columns,
    log_chance_of_function,
)

__all__ = ["find_combinations", "find_equalities", "find_functions"]

FIRST_LOOK = 512  # rows that refute most candidates
MAX_UNKNOWN_KEYS = 0.5  # of the rows with a value, so that the model does not lose what the value says
MAX_COMBINED = 64  # levels of a column of a combination
MIN_REPEATS = 5  # rows of each combination


def find_equalities(found: CollectedRelations, names: Sequence[Name]) -> None:
    """Adds a = b for columns of one kind with equal entries in all rows."""
    for first, second in combinations(names, 2):
        if first not in found.of_model or second not in found.of_model:
            continue
        one, two = found.work[first], found.work[second]
        kinds = {"number" if each.role in ("real", "whole") else each.role for each in (one, two)}
        if len(kinds) > 1 or one.unit != two.unit:
            continue
        both = np.flatnonzero(~one.is_missing & ~two.is_missing)
        if len(both) < MIN_EVIDENCE or (one.values[both[:FIRST_LOOK]] != two.values[both[:FIRST_LOOK]]).any():
            continue
        if (one.values[both] == two.values[both]).all():
            numbers = _numbers(one.values[both])
            if log_chance_of_columns(numbers) <= MAX_LOG_CHANCE:
                found.add(RelationRequest("equality", (first, second), f"{first} = {second}"), declared=False)


def find_functions(found: CollectedRelations, names: Sequence[Name]) -> None:
    """Adds key -> value where each level of a category, or of a number with few values, has one value.

    Of columns that determine one another the model keeps one with an order, else the first. A value that several keys
    determine is rebuilt from the one with the fewest levels.
    """
    names = [name for name in names if name in found.of_model]
    levels = levels_of({name: found.work[name] for name in names})
    keys = [name for name in names if _is_key(found, name)]
    pairs = {(key, value) for key in keys for value in names if key != value and _is_determined(levels, key, value)}
    rank = {name: (not found.codec_of(name).is_ordered, place) for place, name in enumerate(names)}
    for name in sorted(keys, key=lambda each: rank[each]):
        for other in names:
            if name in found.of_model and (name, other) in pairs and (other, name) in pairs:
                _add(found, name, other)
    for value in names:
        of_value = [key for key, other in pairs if other == value and key in found.of_model]
        if of_value and value in found.of_model:
            _add(found, min(of_value, key=lambda key: (len(levels[key].values), names.index(key))), value)


def find_combinations(found: CollectedRelations, names: Sequence[Name]) -> None:
    """Adds a & b for two categories of whose combinations at most half occur, each several times.

    Every combination that does not occur would be seen often if the columns were independent: with N_a and N_b rows of its
    levels, it has the probability exp(-N_a N_b / N) of not being seen.
    """
    involved = {name for each in found.relations for name in each.columns}
    free = [name for name in names if name in found.of_model and name not in involved]
    free = [name for name in free if isinstance(found.codec_of(name), CategoryCodec)]
    levels = levels_of({name: found.work[name] for name in free})
    for first, second in combinations(free, 2):
        one, two = levels[first], levels[second]
        if max(len(one.values), len(two.values)) > MAX_COMBINED or not {first, second} <= set(found.of_model):
            continue
        both = (one.numbers >= 0) & (two.numbers >= 0)
        shape = (len(one.values), len(two.values))
        counts = np.bincount(one.numbers[both] * shape[1] + two.numbers[both], minlength=shape[0] * shape[1])
        counts = counts.reshape(shape)
        expected = counts.sum(axis=1)[:, None] * counts.sum(axis=0) / max(int(both.sum()), 1)
        empty = counts == 0
        if 2 * empty.sum() < counts.size or (counts[~empty] < MIN_REPEATS).any() or both.sum() < MIN_EVIDENCE:
            continue
        if expected[empty].min() >= -MAX_LOG_CHANCE:
            found.add(RelationRequest("combination", (first, second), f"{first} & {second}"), declared=False)


def _numbers(values: np.ndarray) -> np.ndarray:
    """Values as numbers of their levels."""
    places: dict[object, int] = {}
    return np.array([places.setdefault(each, len(places)) for each in values.tolist()])


def _is_key(found: CollectedRelations, name: Name) -> bool:
    """Whether a column has levels that can be looked up: categories, and whole numbers with one code per value."""
    codec = found.codec_of(name)
    if isinstance(codec, CategoryCodec):
        return len(codec.levels) > 1
    is_whole = found.work[name].role == "whole"
    return isinstance(codec, NumberCodec) and is_whole and codec.is_discrete and codec.num_codes > 1


def _is_determined(levels: dict[Name, Levels], key: Name, value: Name) -> bool:
    """Whether the value is a function of the key without exception, and not by chance."""
    keys, values = levels[key], levels[value]
    if not 2 <= len(values.values) <= len(keys.values):
        return False
    both = np.flatnonzero((keys.numbers >= 0) & (values.numbers >= 0))
    if len(both) - len(keys.values) < MIN_EVIDENCE or len(both) < (1 - MAX_UNKNOWN_KEYS) * (values.numbers >= 0).sum():
        return False
    for rows in (both[:FIRST_LOOK], both):
        if not is_function(keys.numbers[rows], values.numbers[rows], len(keys.values)):
            return False
    seen = np.bincount(keys.numbers[both], minlength=len(keys.values))
    chance = log_chance_of_function(len(keys.values), values.numbers[both])
    return bool((seen > 0).all()) and chance <= MAX_LOG_CHANCE


def _add(found: CollectedRelations, key: Name, value: Name) -> None:
    codec = found.codec_of(key)
    is_grouped = isinstance(codec, CategoryCodec) and codec.num_codes < len(codec.levels)
    num_values = len(levels_of({value: found.work[value]})[value].values)
    if not is_grouped or num_values <= found.max_levels:  # else too many groups of rare levels
        found.add(RelationRequest("functional", (key, value), f"{key} -> {value}"), declared=False)
