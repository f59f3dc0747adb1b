"""One column of a table without its frame, and the codec that its content suggests.

Legend: N rows.
"""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.binning import fit_numbers
from jointebm.tables.codes.categories import CategoryCodec, Label, fit_categories, rare_share
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["Column", "ColumnCodec", "IgnoredCodec", "Kind", "Role", "Unit", "fit_column"]

Role = Literal["real", "whole", "boolean", "label", "time"]
Unit = Literal["D", "s", "ms", "us", "ns"]
Kind = Literal["numeric", "categorical", "id"]
MIN_IDS = 20  # rows; fewer that all differ may do so by chance
ID_RATE = 0.95  # distinct texts per row


class Column(NamedTuple):
    """A column without its frame.

    role      values
    real      float64, finite
    whole     int64
    boolean   bool
    label     objects: text, bool, int or float
    time      int64, counted from 1970 in `unit` (or a duration)
    """

    role: Role
    values: np.ndarray  # (N,), arbitrary where missing
    is_missing: np.ndarray  # (N,), bool
    unit: Unit | None = None  # of a time
    declared: tuple[Label, ...] | None = None  # categories, by their order in the frame
    ordered: bool = False  # whether that order has a meaning

    def take(self, rows: np.ndarray | slice) -> "Column":
        """Some of the rows."""
        return self._replace(values=self.values[rows], is_missing=self.is_missing[rows])

    def in_unit(self, unit: Unit | None) -> "Column":
        """Times in another unit, rounded down."""
        if unit == self.unit:
            return self
        times = self.values.astype(np.int64).view(f"datetime64[{self.unit}]").astype(f"datetime64[{unit}]")
        return self._replace(values=times.astype(np.int64), unit=unit)


class IgnoredCodec(Config):
    """A column outside the model: it adds nothing to densities, and its missing entries stay missing.

    Example:
        >>> IgnoredCodec(reason="id").encode(np.array(["x7", "y8"], dtype=object))
        array([0, 0])
    """

    kind: Literal["ignored"] = "ignored"
    reason: Literal["id", "all missing"] = Field(description="why")

    @property
    def num_codes(self) -> int:
        """One."""
        return 1

    @property
    def bins(self) -> None:
        """A single code has no order."""
        return

    @property
    def spread(self) -> None:
        """Every row counts for the code."""
        return

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Zeros, shape (N,)."""
        return np.zeros(len(values), dtype=np.int64)

    def log_prob(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:  # noqa: ARG002  # as the others
        """Zeros, shape (N,)."""
        return np.zeros(len(codes))

    def log_weights(self, evidence: Evidence) -> np.ndarray:  # noqa: ARG002
        """Raises ValueError: the model cannot use evidence about the column."""
        raise ValueError(f"the model ignores this column ({self.reason}); leave it out of given")


ColumnCodec = NumberCodec | CategoryCodec | IgnoredCodec


def fit_column(column: Column, *, kind: Kind | None, max_bins: int | None, max_levels: int) -> ColumnCodec:
    """Chooses the codec of a column by its role, its training values and the requested kind; None follows the content."""
    present = column.values[~column.is_missing]
    if kind == "id":
        return IgnoredCodec(reason="id")
    if not len(present):
        return IgnoredCodec(reason="all missing")
    if kind == "numeric" and column.role == "label":
        raise ValueError("kind is 'numeric', but the column holds text; convert it to numbers first")
    if column.role == "boolean" and kind != "numeric":  # both levels, even if one does not occur
        share = rare_share(np.bincount(present.astype(np.int64), minlength=2), np.arange(2))
        return CategoryCodec(levels=(False, True), code=(0, 1), weight=(1.0, 1.0), ordered=False, rare_share=share)
    if column.role == "label" or kind == "categorical":
        # Texts that nearly all differ are ids of rows.
        num, num_distinct = len(present), len(set(present.tolist()))
        if kind is None and column.declared is None and num >= MIN_IDS and num_distinct >= ID_RATE * num:
            return IgnoredCodec(reason="id")
        return fit_categories(present, max_codes=max_levels, declared=column.declared, ordered=column.ordered)
    whole = column.role != "real"
    return fit_numbers(present.astype(np.int64 if whole else np.float64), max_codes=max_bins)
