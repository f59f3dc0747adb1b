"""Two columns with the same value in every row.

Legend: N rows.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.codec import Name
from jointebm.tables.relations.relation_names import written_name
from jointebm.tables.relations.work_table import Work, fill, missing_in_any

__all__ = ["Equality"]


class Equality(Config):
    """a = b, of numbers, times, booleans or categories.

    Example:
        >>> str(Equality(source="a", copied="b"))
        'a = b'
    """

    kind: Literal["equality"] = "equality"
    source: Name = Field(description="the column that the model holds")
    copied: Name = Field(description="the column that is rebuilt")

    def __str__(self) -> str:
        return f"{written_name(self.source)} = {written_name(self.copied)}"

    @property
    def columns(self) -> tuple[Name, ...]:
        """The columns that the relation is about."""
        return self.source, self.copied

    @property
    def added(self) -> tuple[Name, ...]:
        """Columns of the model that stand for the relation: none."""
        return ()

    @property
    def derived(self) -> tuple[Name, ...]:
        """Columns that are rebuilt."""
        return (self.copied,)

    def deduce(self, work: Work) -> bool:
        """Fills entries that the relation determines, in place; returns whether there were any."""
        changed = False
        for known, missing in ((self.source, self.copied), (self.copied, self.source)):
            rows = ~work[known].is_missing & work[missing].is_missing
            changed |= fill(work, missing, rows, work[known].values[rows])
        return changed

    def broken(self, work: Work) -> np.ndarray:
        """Rows whose entries contradict the relation, bool (N,)."""
        differ = work[self.source].values != work[self.copied].values
        return differ & ~missing_in_any(work, self.columns)
