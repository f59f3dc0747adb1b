"""Fits the form of a relation to a table: the maps, gaps and units that it needs, and which column is rebuilt.

Legend: N rows.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name, unused_name
from jointebm.tables.codes.column import Column
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.combination import Combination
from jointebm.tables.relations.equality import Equality
from jointebm.tables.relations.functional import Functional
from jointebm.tables.relations.levels import is_function, levels_of
from jointebm.tables.relations.ordering import Ordering
from jointebm.tables.relations.request import RelationRequest
from jointebm.tables.relations.units import DOUBLE, common_decimals, is_number, precision_of, step_of, to_units
from jointebm.tables.relations.work_table import missing_in_any, taken

__all__ = ["BrokenRelationError", "Relation", "fitted_forms"]

MIN_ROUNDED = (
    0.05  # of the rows that miss a sum by units; rounding one by one does so in a quarter of them, errors in few
)

Relation = Equality | Functional | Balance | Ordering | Combination


class BrokenRelationError(ValueError):
    """A row breaks a declared relation.

    Args:
        text: of the relation.
        row: its number.
        reason: what the row does.
    """

    def __init__(self, text: str, row: int, reason: str) -> None:
        super().__init__(f"relations: {quoted(repr(text))}: row {row} {reason}")
        self.text, self.row, self.reason = text, row, reason


def fitted_forms(request: RelationRequest, table: Mapping[Name, Column], taken_names: Sequence[Name]) -> list[Relation]:
    """The forms of a relation, the preferred one first; they differ in the column that is rebuilt.

    Args:
        request: the relation.
        table: all columns that are there by now.
        taken_names: names that a new column must not have.

    Raises:
        ValueError: columns of the wrong kinds, or a row that breaks the relation, which the message names.
    """
    some = {name: table[name] for name in request.names}
    _check_kinds(request, some)
    if missing_in_any(some, request.names).all():
        raise _refused(request, "no row has an entry in each of its columns; leave it out")
    forms = list(_FORMS[request.kind](request, some, taken_names))
    broken = np.flatnonzero(forms[0].broken(some))
    if len(broken):
        shown = ", ".join(f"{name!r} is {some[name].shown(broken[0])}" for name in request.names)
        others = {1: "; correct the row", 2: ", as does another row; correct both"}.get(
            len(broken), f", as do {len(broken) - 1} other rows; correct them"
        )
        reason = f"breaks it ({shown}){others}, or leave the relation out"
        raise BrokenRelationError(request.text, int(broken[0]), reason)
    return forms


def _refused(request: RelationRequest, reason: str) -> ValueError:
    return ValueError(f"relations: {quoted(repr(request.text))}: {reason}")


def _check_kinds(request: RelationRequest, some: Mapping[Name, Column]) -> None:
    """Raises unless the relation can hold between columns of these kinds."""
    numbers = [is_number(column) for column in some.values()]
    if request.kind in ("balance", "ordering") and not all(numbers):
        name = request.names[numbers.index(False)]
        held = {"label": "text", "boolean": "booleans"}[some[name].role]
        raise _refused(request, f"column {name!r} holds {held}; a sum or an order needs numbers or dates")
    if request.kind in ("equality", "balance", "ordering"):
        kinds = {column.role if column.role in ("label", "boolean", "time") else "number" for column in some.values()}
        units = {column.unit for column in some.values()}
        if len(kinds) > 1 or len(units) > 1:
            listed = ", ".join(f"{name!r} {column.role} {column.unit or ''}".strip() for name, column in some.items())
            raise _refused(request, f"its columns hold different things ({listed}); convert them to one type and unit")


def _equality(request: RelationRequest, some: Mapping[Name, Column], _: Sequence[Name]) -> Iterator[Relation]:
    for source, copied in _orders(request.names, some):
        yield Equality(source=source, copied=copied)


def _orders(names: Sequence[Name], some: Mapping[Name, Column]) -> list[tuple[Name, Name]]:
    """The pair in both orders; first the one whose first column has fewer missing entries."""
    first, second = names
    is_turned = some[first].is_missing.sum() > some[second].is_missing.sum()
    return [(second, first), (first, second)] if is_turned else [(first, second), (second, first)]


def _functional(request: RelationRequest, some: Mapping[Name, Column], _: Sequence[Name]) -> Iterator[Relation]:
    key, value = request.names
    seen = ~missing_in_any(some, request.names)
    levels = levels_of(taken(some, seen))
    if not is_function(levels[key].numbers, levels[value].numbers, len(levels[key].values)):
        order = np.lexsort((levels[value].numbers, levels[key].numbers))
        keys, values = levels[key].numbers[order], levels[value].numbers[order]
        differ = np.flatnonzero((keys[1:] == keys[:-1]) & (values[1:] != values[:-1]))
        row = np.flatnonzero(seen)[order[differ + 1]].min()
        at = f"{key!r} is {some[key].shown(row)}, {value!r} is {some[value].shown(row)}"
        reason = f"breaks it: {at}, and another row has another {value!r}; correct the row"
        raise BrokenRelationError(request.text, int(row), reason)
    unmapped = set(levels_of({key: some[key]})[key].values) - set(levels[key].values)
    if unmapped:
        level = quoted(repr(min(unmapped, key=str)))
        raise _refused(request, f"{key!r} {level} never occurs with an entry of {value!r}; drop or complete its rows")
    image = np.zeros(len(levels[key].values), dtype=np.int64)
    image[levels[key].numbers] = levels[value].numbers
    pairs = [(level, levels[value].values[place]) for level, place in zip(levels[key].values, image, strict=True)]
    one_to_one = len(set(image.tolist())) == len(image)
    yield _map(key, value, pairs, one_to_one=one_to_one)
    if one_to_one:
        yield _map(value, key, [(image, level) for level, image in pairs], one_to_one=True)


def _map(key: Name, value: Name, pairs: list[tuple[Label, Label]], *, one_to_one: bool) -> Functional:
    """The map that consists of pairs of levels."""
    if all(isinstance(level, int | float) for level, _ in pairs):
        pairs = sorted(pairs)
    keys, values = zip(*pairs, strict=True)
    return Functional(key=key, value=value, keys=keys, values=values, one_to_one=one_to_one)


def _balance(request: RelationRequest, some: Mapping[Name, Column], _: Sequence[Name]) -> Iterator[Relation]:
    decimals = common_decimals(list(some.values()))
    scale = 1.0 if decimals is None else 10.0**decimals
    constant = request.constant * scale if decimals is None else float(np.rint(request.constant * scale))
    steps = {name: step_of(column, decimals) for name, column in some.items()}

    def preference(place: int) -> tuple[int, int, int]:
        """The finest column first, then one that is the sum of the others, then the last."""
        is_total = request.signs.count(request.signs[place]) == 1
        return steps[request.names[place]], not is_total, -place

    places = sorted(range(len(request.names)), key=preference)
    total = np.zeros(len(some[request.names[0]].values))
    for name, sign in zip(request.names, request.signs, strict=True):
        total = total + sign * to_units(some[name], decimals)
    off = np.abs(total - constant)[~missing_in_any(some, request.names)]
    is_rounded = decimals is not None and off.max() <= 0.5 * len(some) and (off > 0).mean() >= MIN_ROUNDED
    for place in places:
        yield Balance(
            terms=request.names,
            signs=request.signs,
            constant=constant,
            rebuilt=request.names[place],
            decimals=decimals,
            tolerance=float(off.max()) if is_rounded else 0.0,
            precision=precision_of(list(some.values())) if decimals is None else DOUBLE,
        )


def _ordering(request: RelationRequest, some: Mapping[Name, Column], taken_names: Sequence[Name]) -> Iterator[Relation]:
    low, high = request.names
    decimals = common_decimals(list(some.values()))
    steps = [step_of(some[name], decimals) for name in request.names]
    first = low if steps[0] < steps[1] else high
    if steps[0] == steps[1]:
        first = _orders((low, high), some)[0][1]
    gap = unused_name(f"{high} - {low}", taken_names)
    for rebuilt in (first, low if first == high else high):
        yield Ordering(low=low, high=high, strict=request.strict, gap=gap, rebuilt=rebuilt, decimals=decimals)


def _combination(
    request: RelationRequest, some: Mapping[Name, Column], taken_names: Sequence[Name]
) -> Iterator[Relation]:
    complete = ~missing_in_any(some, request.names)
    rows = dict.fromkeys(zip(*(some[name].values[complete].tolist() for name in request.names), strict=True))
    for name in request.names:
        known = {level for row in rows for level in [row[request.names.index(name)]]}
        alone = set(levels_of({name: some[name]})[name].values) - known
        if alone:
            level = quoted(repr(min(alone, key=str)))
            raise _refused(request, f"{name!r} {level} occurs in no complete combination; drop or complete its rows")
    number = unused_name(" & ".join(map(str, request.names)), taken_names)
    yield Combination(members=request.names, number=number, rows=tuple(rows))


_FORMS = {
    "equality": _equality,
    "functional": _functional,
    "balance": _balance,
    "ordering": _ordering,
    "combination": _combination,
}
