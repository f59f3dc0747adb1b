"""Sums and differences: total = a + b, net = gross - tax, shares that sum to one.

Legend: N rows.
"""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.relation_names import written_name
from jointebm.tables.relations.units import DOUBLE, from_units, to_units
from jointebm.tables.relations.work_table import Work, fill, missing_in_any

__all__ = ["Balance"]


class Balance(Config):
    """sum_j sign_j x_j = constant, exact in units of the last decimal, or to `tolerance`.

    Example:
        >>> str(Balance(terms=("a", "b", "total"), signs=(1, 1, -1), rebuilt="total", decimals=2))
        'total = a + b'
        >>> str(Balance(terms=("p", "q"), signs=(1, 1), constant=100.0, rebuilt="q", decimals=2))
        'p + q = 1'
    """

    kind: Literal["balance"] = "balance"
    terms: tuple[Name, ...] = Field(min_length=2, description="the columns")
    signs: tuple[Literal[-1, 1], ...] = Field(min_length=2, description="of each column")
    constant: float = Field(0.0, description="what the signed columns sum to, in units")
    rebuilt: Name = Field(description="the column that the model leaves out")
    decimals: int | None = Field(ge=0, description="of the units; None for reals")
    tolerance: float = Field(0.0, ge=0, description="in units; the data hold the relation to their rounding only")
    precision: float = Field(DOUBLE, gt=0, description="of sums of reals, relative to the largest term")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.terms) != len(self.signs) or self.rebuilt not in self.terms:
            raise ValueError("terms and signs differ in length, or the rebuilt column is none of them")
        return self

    def __str__(self) -> str:
        added = [written_name(name) for name, sign in zip(self.terms, self.signs, strict=True) if sign > 0]
        taken_off = [written_name(name) for name, sign in zip(self.terms, self.signs, strict=True) if sign < 0]
        if added and taken_off and not self.constant:
            total, parts = (added, taken_off) if len(added) == 1 else (taken_off, added)
            return f"{' + '.join(total)} = {' + '.join(parts)}"
        constant = self.constant / 10.0 ** (self.decimals or 0)
        if not added:
            added, taken_off, constant = taken_off, [], -constant
        return " - ".join([" + ".join(added), *taken_off]) + f" = {constant + 0.0:.15g}"

    @property
    def columns(self) -> tuple[Name, ...]:
        """The columns that the relation is about."""
        return self.terms

    @property
    def added(self) -> tuple[Name, ...]:
        """Columns of the model that stand for the relation: none."""
        return ()

    @property
    def derived(self) -> tuple[Name, ...]:
        """Columns that are rebuilt."""
        return (self.rebuilt,)

    def deduce(self, work: Work) -> bool:
        """Fills entries that the relation determines, in place; returns whether there were any."""
        missing = np.stack([work[name].is_missing for name in self.terms])
        one = missing.sum(axis=0) == 1
        changed = False
        for place, name in enumerate(self.terms):
            rows = one & missing[place]
            if rows.any():
                others = self.residual(work, skipped=place)[rows]
                units = 0 - self.signs[place] * others  # not a product, which is -0.0 where nothing is left
                changed |= fill(work, name, rows, from_units(units, work[name], self.decimals))
        return changed

    def broken(self, work: Work) -> np.ndarray:
        """Rows whose entries contradict the relation, bool (N,)."""
        slack = self.tolerance
        if self.decimals is None:
            slack += self.precision * np.max([np.abs(to_units(work[name], None)) for name in self.terms], axis=0)
        return (np.abs(self.residual(work)) > slack) & ~missing_in_any(work, self.terms)

    def residual(self, work: Work, *, skipped: int = -1) -> np.ndarray:
        """The sum of the known terms less the constant, without one of the columns, in units, shape (N,)."""
        start = round(self.constant) if self.decimals is not None else self.constant
        total = np.full(len(work[self.terms[0]].values), -start)
        for place, (name, sign) in enumerate(zip(self.terms, self.signs, strict=True)):
            if place != skipped:
                total = total + sign * np.where(work[name].is_missing, 0, to_units(work[name], self.decimals))
        return total
