"""One column of a table: what it holds once it has left its frame, and which codec its policy gives it.

Legend: N rows.
"""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.binning import fit_numbers
from jointebm.tables.codes.categories import CategoryCodec, Label, fit_categories
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
    values: np.ndarray  # (N,), with anything where it is missing
    is_missing: np.ndarray  # (N,), bool
    unit: Unit | None = None  # of a time
    declared: tuple[Label, ...] | None = None  # categories, by their order in the frame
    ordered: bool = False  # whether that order means something


class IgnoredCodec(Config):
    """A column the model does not see: it adds nothing to a density, and what is missing in it stays missing.

    Example:
        >>> IgnoredCodec(reason="id").encode(np.array(["x7", "y8"], dtype=object))
        array([0, 0])
    """

    kind: Literal["ignored"] = "ignored"
    reason: Literal["id", "all missing"] = Field(description="why")

    @property
    def num_codes(self) -> int:
        """One, which says nothing."""
        return 1

    @property
    def is_ordered(self) -> bool:
        """A single code has no order."""
        return False

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Zeros, shape (N,)."""
        return np.zeros(len(values), dtype=np.int64)

    def log_prob(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:  # noqa: ARG002  # as the others
        """Zeros, shape (N,)."""
        return np.zeros(len(codes))

    def log_weights(self, evidence: Evidence) -> np.ndarray:  # noqa: ARG002
        """Raises: evidence about it would change nothing."""
        raise ValueError(f"the model does not know this column ({self.reason}), so nothing can be given about it")


ColumnCodec = NumberCodec | CategoryCodec | IgnoredCodec


def fit_column(column: Column, *, kind: Kind | None, max_bins: int, max_levels: int) -> ColumnCodec:
    """Chooses the codec of a column by its role, its content and what was asked for.

    Args:
        column: with its training values.
        kind: overrules what the content suggests; None follows it.
        max_bins: budget of codes for numbers and times.
        max_levels: budget of codes for categories.

    Raises:
        ValueError: text was asked to be numeric.

    Example:
        >>> column = Column("whole", np.array([3, 1, 1]), np.array([False, False, True]))
        >>> fit_column(column, kind=None, max_bins=48, max_levels=64).num_codes
        2
    """
    present = column.values[~column.is_missing]
    if kind == "id":
        return IgnoredCodec(reason="id")
    if not len(present):
        return IgnoredCodec(reason="all missing")
    if kind == "numeric" and column.role == "label":
        raise ValueError("asked to be numeric, but it holds text; convert it to numbers first")
    if column.role == "boolean" and kind != "numeric":  # both levels, even if one did not occur
        return CategoryCodec(levels=(False, True), code=(0, 1), weight=(1.0, 1.0), ordered=False)
    if column.role == "label" or kind == "categorical":
        if kind is None and column.declared is None and _are_ids(present):
            return IgnoredCodec(reason="id")
        return fit_categories(present, max_codes=max_levels, declared=column.declared, ordered=column.ordered)
    whole = column.role != "real"
    return fit_numbers(present.astype(np.int64 if whole else np.float64), max_codes=max_bins)


def _are_ids(labels: np.ndarray) -> bool:
    """Whether texts name rows rather than say something about them: nearly all differ."""
    return len(labels) >= MIN_IDS and len(set(labels.tolist())) >= ID_RATE * len(labels)
