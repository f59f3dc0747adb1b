"""Finds columns in order: start <= end.

Legend: N rows, V columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.functional import Functional
from jointebm.tables.relations.request import RelationRequest
from jointebm.tables.relations.support import MAX_LOG_CHANCE, MIN_EVIDENCE, log_chance_of_order
from jointebm.tables.relations.units import common_decimals, to_units

__all__ = ["find_orders"]

FIRST_COMPARED = 256  # rows that refute most candidates
MAX_ORDERED = 200  # columns that are searched
NEAR = 0.1  # of the median gap
MIN_NEAR_RATE = 0.01  # of rows with a gap that small, so that the order is what bounds the gap


class FoundOrder(NamedTuple):
    """An order that all rows keep."""

    low: Name
    high: Name
    strict: bool
    looseness: float  # median gap in standard deviations of the larger column


def find_orders(found: CollectedRelations, names: Sequence[Name]) -> None:
    """Adds low <= high for columns of one kind, the tightest first, without orders that follow from two others.

    Columns whose ranges do not overlap are in order by themselves; where no gap is small, one column is merely far above
    the other. Both are left out.
    """
    keys = {each.key for each in found.relations if isinstance(each, Functional)}
    groups: dict[object, list[Name]] = {}
    for name in names:
        column = found.work[name]
        if name in found.of_model and name not in keys and column.role in ("real", "whole", "time"):
            groups.setdefault((column.role == "time", column.unit), []).append(name)
    for group in groups.values():
        orders = [each for low, high in _not_refuted(found, group) if (each := _order(found, low, high)) is not None]
        known = {(each.low, each.high) for each in orders}
        for each in sorted(orders, key=lambda order: order.looseness):
            if not any((each.low, between) in known and (between, each.high) in known for between in group):
                text = f"{each.low} <= {each.high}"
                found.add(RelationRequest("ordering", (each.low, each.high), text, strict=each.strict), declared=False)


def _not_refuted(found: CollectedRelations, names: list[Name]) -> list[tuple[Name, Name]]:
    """Pairs that the first rows keep."""
    if not 2 <= len(names) <= MAX_ORDERED:
        return []
    columns = [found.work[name] for name in names]
    parts = [column.values[:FIRST_COMPARED].astype(np.float64) for column in columns]
    first = np.stack([np.where(c.is_missing[:FIRST_COMPARED], np.nan, p) for c, p in zip(columns, parts, strict=True)])
    pairs = []
    for place, low in enumerate(names):
        kept = ~(first[place] > first).any(axis=1)
        pairs += [(low, high) for other, high in enumerate(names) if kept[other] and other != place]
    return pairs


def _order(found: CollectedRelations, low: Name, high: Name) -> FoundOrder | None:
    """The order of two columns if all rows keep it, the gap is small at times, and chance does not explain it."""
    one, two = found.work[low], found.work[high]
    both = ~one.is_missing & ~two.is_missing
    if both.sum() < MIN_EVIDENCE:
        return None
    decimals = common_decimals([one, two])
    lower, upper = to_units(one, decimals)[both], to_units(two, decimals)[both]
    gap = upper - lower
    least = gap.min()
    if least < 0 or gap.max() == least or (lower > upper.min()).sum() < MIN_EVIDENCE:  # other rows cannot break it
        return None
    strict = bool(least > 0)
    beyond = gap - (np.gcd.reduce(gap) if strict and decimals is not None else 0)  # the smallest gap of the grid
    if (beyond <= NEAR * np.median(beyond)).mean() < MIN_NEAR_RATE or log_chance_of_order(
        lower, upper
    ) > MAX_LOG_CHANCE:
        return None
    return FoundOrder(low, high, strict, float(np.median(gap) / upper.std()))
