"""An order of two columns: start <= end.

Legend: N rows.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.relation_names import written_name
from jointebm.tables.relations.units import to_units
from jointebm.tables.relations.work_table import Work, missing_in_any

__all__ = ["Ordering"]


class Ordering(Config):
    """low <= high, or low < high; the model holds one of them and the gap high - low.

    Example:
        >>> str(Ordering(low="start", high="end", strict=True, gap="end - start", rebuilt="end", decimals=0))
        'start < end'
    """

    kind: Literal["ordering"] = "ordering"
    low: Name = Field(description="the smaller column")
    high: Name = Field(description="the larger column")
    strict: bool = Field(description="whether they must differ")
    gap: Name = Field(description="name of the column of gaps in the model")
    rebuilt: Name = Field(description="the one of the two that the model leaves out")
    decimals: int | None = Field(ge=0, description="of the units; None for reals")

    def __str__(self) -> str:
        return f"{written_name(self.low)} {'<' if self.strict else '<='} {written_name(self.high)}"

    @property
    def columns(self) -> tuple[Name, ...]:
        """The columns that the relation is about."""
        return self.low, self.high

    @property
    def added(self) -> tuple[Name, ...]:
        """Columns of the model that stand for the relation."""
        return (self.gap,)

    @property
    def derived(self) -> tuple[Name, ...]:
        """Columns that are rebuilt."""
        return (self.rebuilt,)

    def deduce(self, work: Work) -> bool:
        """Fills entries that the relation determines, the gap too, in place; returns whether there were any."""
        terms = (self.low, self.gap, self.high)
        return Balance(terms=terms, signs=(1, 1, -1), rebuilt=self.rebuilt, decimals=self.decimals).deduce(work)

    def broken(self, work: Work) -> np.ndarray:
        """Rows whose entries contradict the relation, bool (N,)."""
        low, high = (to_units(work[name], self.decimals) for name in self.columns)
        return ((low >= high) if self.strict else (low > high)) & ~missing_in_any(work, self.columns)
