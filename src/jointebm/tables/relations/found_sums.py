"""Finds sums and differences among columns of numbers, by the null space of the table.

Legend: n rows, V columns, r relations.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.request import RelationRequest
from jointebm.tables.relations.support import MAX_LOG_CHANCE, MIN_EVIDENCE, log_chance_of_columns
from jointebm.tables.relations.units import common_decimals, precision_of, to_units
from jointebm.tables.relations.work_table import missing_in_any

__all__ = ["find_sums"]

MAX_SUMMED_COLUMNS = 200  # columns that are searched
MAX_LOOKED_AT = 2000  # rows that the null space is taken from
ROUNDED = 0.03  # residual of a relation that holds to rounding, in standard deviations of its columns
EXACT = 1e-7
CLEAR = 1e-5  # of a pivot, and of a coefficient that is no whole number


def find_sums(found: CollectedRelations, names: Sequence[Name]) -> None:
    """Adds sums with signs, such as total = a + b or p + q + r = 1, that all complete rows keep.

    A column is a sum of others if the table has a direction without spread. Directions are reduced so that each leaves out
    one column; columns with the largest spread, such as totals, are left out first.
    """
    for residual in (EXACT, ROUNDED):
        for group in _groups(found, names):
            for request in _candidates(found, group, residual):
                if _is_supported(found, request, len(group)):
                    found.add(request, declared=False)


def _groups(found: CollectedRelations, names: Sequence[Name]) -> Iterator[list[Name]]:
    """Columns that can be summed: numbers, and times in one unit."""
    groups: dict[object, list[Name]] = {}
    for name in names:
        column = found.work[name]
        present = column.values[~column.is_missing]
        if name not in found.of_model or column.role not in ("real", "whole", "time") or not len(present):
            continue
        if present.max() > present.min():
            groups.setdefault((column.role == "time", column.unit), []).append(name)
    yield from (group for group in groups.values() if 2 <= len(group) <= MAX_SUMMED_COLUMNS)


def _candidates(found: CollectedRelations, names: list[Name], residual: float) -> list[RelationRequest]:
    names, rows = _complete(found, names)
    if len(names) < 2:
        return []
    values = np.stack([found.work[name].values[rows].astype(np.float64) for name in names], axis=1)
    exponents = np.frexp(np.abs(values).max(axis=0))[1]
    values = np.ldexp(values, -exponents)  # exact, and squares of huge numbers are finite
    spread = values.std(axis=0)
    if not (spread > 0).all():
        return []
    _, sizes, directions = np.linalg.svd((values - values.mean(axis=0)) / spread, full_matrices=False)
    spread = np.ldexp(spread, exponents)
    null = directions[sizes <= residual * np.sqrt(len(values))] / spread  # (r, V)
    requests = []
    for row in _reduced(null, np.argsort(-spread, kind="stable")):
        signs = np.rint(row)
        is_close = np.abs(row - signs).max() <= (CLEAR if residual == EXACT else 0.1)
        terms = np.flatnonzero(signs)
        if is_close and np.abs(signs).max() == 1 and len(terms) >= 2:
            requests.append(_request(found, [names[j] for j in terms], signs[terms]))
    return requests


def _complete(found: CollectedRelations, names: list[Name]) -> tuple[list[Name], np.ndarray]:
    """Columns with enough complete rows, without those that miss the most, and some of these rows."""
    names = list(names)
    while len(names) > 1:
        rows = np.flatnonzero(~missing_in_any(found.work, names))
        if len(rows) >= MIN_EVIDENCE + len(names):
            return names, rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_LOOKED_AT)).astype(np.int64)]
        names.remove(max(names, key=lambda name: found.work[name].is_missing.sum()))
    return [], np.zeros(0, dtype=np.int64)


def _reduced(null: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The reduced echelon form of rows (r, V), with pivots in the given order of columns."""
    null, done = null.copy(), 0
    for column in order:
        if done == len(null):
            break
        pivot = done + int(np.abs(null[done:, column]).argmax())
        if abs(null[pivot, column]) <= CLEAR * np.abs(null[pivot]).max():
            continue
        null[[done, pivot]] = null[[pivot, done]]
        null[done] /= null[done, column]
        for other in range(len(null)):
            if other != done:
                null[other] -= null[other, column] * null[done]
        done += 1
    return null[:done]


def _request(found: CollectedRelations, names: list[Name], signs: np.ndarray) -> RelationRequest:
    columns = [found.work[name] for name in names]
    decimals = common_decimals(columns)
    complete = ~missing_in_any(found.work, names)
    total = sum(sign * to_units(column, decimals)[complete] for sign, column in zip(signs, columns, strict=True))
    constant = float(np.median(total))
    if decimals is None:
        largest = max(float(np.abs(column.values[complete]).max()) for column in columns)
        precision = precision_of(columns)
        digits = int(-np.log10(precision))
        constant = 0.0 if abs(constant) <= precision * largest else float(np.round(constant, digits))
    else:
        constant = float(np.rint(constant)) / 10.0**decimals
    chosen: tuple[Literal[-1, 1], ...] = tuple(-1 if sign < 0 else 1 for sign in signs)
    return RelationRequest("balance", tuple(names), " + ".join(map(str, names)), signs=chosen, constant=constant)


def _is_supported(found: CollectedRelations, request: RelationRequest, num_columns: int) -> bool:
    """Whether it is no chance that one of 3^V sums holds, whichever of its columns is permuted."""
    complete = ~missing_in_any(found.work, request.names)
    if complete.sum() < MIN_EVIDENCE:
        return False
    columns = [found.work[name] for name in request.names]
    decimals = common_decimals(columns)
    units = [to_units(column, decimals)[complete] for column in columns]
    total = sum(sign * each for sign, each in zip(request.signs, units, strict=True))
    off = 0 if decimals is None else int(np.ceil(np.ptp(np.asarray(total)) / 2))
    chances = [log_chance_of_columns(each // (2 * off + 1) if off else each) for each in units]
    return max(chances) + num_columns * np.log(3) <= MAX_LOG_CHANCE
