"""One column of a table without its frame.

Legend: N rows.
"""

import datetime
import re
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec, Label
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["Column", "ColumnCodec", "IgnoredCodec", "Kind", "Role", "Unit", "shown_time"]

Role = Literal["real", "whole", "boolean", "label", "time"]
Unit = Literal["D", "s", "ms", "us", "ns"]
Kind = Literal["numeric", "categorical", "id"]
_PER_DAY: dict[Unit, int] = {"D": 1, "s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_ZEROS = re.compile(r"T00:00:00(\.0+)?$|\.0+$")  # of times that are whole days or seconds


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
    is_duration: bool = False  # of a time: whether it is a length of time

    def take(self, rows: np.ndarray | slice) -> "Column":
        """Some of the rows."""
        return self._replace(values=self.values[rows], is_missing=self.is_missing[rows])

    def in_unit(self, unit: Unit | None) -> "Column":
        """Times in another unit, rounded down."""
        if unit == self.unit:
            return self
        times = self.values.astype(np.int64).view(f"datetime64[{self.unit}]").astype(f"datetime64[{unit}]")
        return self._replace(values=times.astype(np.int64), unit=unit)

    def shown(self, row: int) -> str:
        """An entry for messages, as the frame shows it."""
        (value,) = self.values[row : row + 1].tolist()
        if self.unit is None or not isinstance(value, int):
            return quoted(repr(value))
        return shown_time(value, self.unit, is_duration=self.is_duration)


def shown_time(value: int, unit: Unit, *, is_duration: bool) -> str:
    """A time for messages.

    Example:
        >>> shown_time(18262, "D", is_duration=False), shown_time(90, "s", is_duration=True)
        ('2020-01-01', '0:01:30')
    """
    if is_duration:
        per_day = _PER_DAY[unit]
        days, rest = divmod(value, per_day)  # a timedelta holds up to 999,999,999 days
        time = str(datetime.timedelta(microseconds=rest * _PER_DAY["us"] // per_day))
        return f"{days} day{'' if abs(days) == 1 else 's'}, {time}" if days else time
    return _ZEROS.sub("", str(np.datetime64(value, unit)))


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
