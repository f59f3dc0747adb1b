"""Entries that several sums determine together, none of them alone: of x = a + b and y = a - b with known x and y, a and b.

Legend: N rows, B sums, M columns.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.units import from_units
from jointebm.tables.relations.work_table import Work, fill

__all__ = ["deduce_together"]

MAX_DENOMINATOR = 1000  # of the weights of sums; determinants of a few signs are far smaller


def deduce_together(work: Work, balances: Sequence[Balance]) -> bool:
    """Fills entries that are the same in all solutions of the sums, in place; returns whether there were any.

    What is no multiple of the units is rounded, so that the sums are then broken.

    Args:
        work: N rows.
        balances: B sums, each of which has no single missing term.
    """
    names = list(dict.fromkeys(name for each in balances for name in each.terms))
    signs = np.array(
        [[dict(zip(each.terms, each.signs, strict=True)).get(name, 0) for name in names] for each in balances]
    )
    missing = np.stack([work[name].is_missing for name in names], axis=1)  # (N, M)
    open_sums = (missing.astype(int) @ np.abs(signs).T) > 0  # (N, B)
    rows = np.flatnonzero(open_sums.sum(axis=1) > 1)
    if not len(rows):
        return False
    patterns, pattern = np.unique(missing[rows], axis=0, return_inverse=True)
    changed = False
    for number, columns in enumerate(patterns):
        places = np.flatnonzero(columns)
        system = signs[:, places].astype(float)
        inverse = np.linalg.pinv(system)  # (M, B)
        for place, is_determined, weights in zip(
            places, np.abs(inverse @ system - np.eye(len(places))).max(axis=1) < 1e-9, inverse, strict=True
        ):
            if is_determined:
                some = np.zeros(len(missing), dtype=bool)
                some[rows[pattern.reshape(-1) == number]] = True
                changed |= fill(work, names[place], some, _combined(work, balances, weights, some, names[place]))
    return changed


def _combined(
    work: Work, balances: Sequence[Balance], weights: np.ndarray, rows: np.ndarray, name: str | int
) -> np.ndarray:
    """A column as a combination of sums, of some rows."""
    used = [
        (each, Fraction(weight).limit_denominator(MAX_DENOMINATOR))
        for each, weight in zip(balances, weights, strict=True)
    ]
    used = [(each, weight) for each, weight in used if weight]
    decimals = [each.decimals for each, _ in used]
    if any(each is None for each in decimals):
        total = sum(-float(weight) * each.residual(work)[rows] / 10.0 ** (each.decimals or 0) for each, weight in used)
        return from_units(total, work[name], None)
    most = max(each for each in decimals if each is not None)
    common = math.lcm(*(weight.denominator for _, weight in used))
    total = np.zeros(int(rows.sum()), dtype=np.int64)
    for each, weight in used:
        total -= int(weight * common) * 10 ** (most - (each.decimals or 0)) * each.residual(work)[rows]
    return from_units(np.rint(total / common).astype(np.int64), work[name], most)
