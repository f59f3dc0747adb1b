"""Reads what a user gives about columns: {"age": 30, "job": {"nurse", "cook"}, "born": ("1980-01-01", None)}."""

import datetime
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Literal

import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.evidence import Choice, Evidence, Interval, as_evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["read_given"]

_Place = Literal["value", "low", "high"]  # one of the values, or an end of an interval
_UNITS = {"D": "days", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DAY = 86_400 * 10**9
_NANOSECONDS = {
    "W": 7 * _DAY,
    "D": _DAY,
    "h": _DAY // 24,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_LENGTH = re.compile(r"\s*(-?\d{1,18})(W|D|h|m|s|ms|us|ns)\s*")
_ZONED = re.compile(r"(.*[T ]\d\d.*?)\s*(?:Z|([+-])(\d\d):?(\d\d)?)")  # ISO text with an offset from UTC


def read_given(given: Mapping[Name, object], codec: TableCodec) -> dict[Name, Evidence]:
    """Evidence in the values and units of the codecs."""
    if not isinstance(given, Mapping):
        raise TypeError(f"given: got {type(given).__name__}, expected a mapping such as {{'age': (30, None)}}")
    evidence: dict[Name, Evidence] = {}
    for name, said in given.items():
        coded = codec.columns[codec.index(name)]
        try:
            evidence[name] = _in_units(as_evidence(said), coded)
        except ValueError as error:
            raise ValueError(f"given column {name!r}: {error}") from None
    return evidence


def _in_units(known: Evidence, coded: CodedColumn) -> Evidence:
    if isinstance(known, Choice):
        return Choice(tuple(_value(each, coded, "value") for each in known.values))
    low = None if known.low is None else _value(known.low, coded, "low")
    high = None if known.high is None else _value(known.high, coded, "high")
    if isinstance(low, Real) and isinstance(high, Real) and low > high and coded.role != "time":
        raise ValueError(f"got {tuple(known)}, whose low end is above its high end; an interval is (low, high)")
    return Interval(low, high)


def _value(said: object, coded: CodedColumn, place: _Place) -> object:
    if coded.role == "time":
        unit = str(coded.unit)
        number: Real = _time(said, unit, coded.is_duration, place)  # type: ignore[assignment]
        kind = f"timedelta64[{unit}]" if coded.is_duration else f"datetime64[{unit}]"
    else:
        plain = said.item() if isinstance(said, np.generic) else said
        if not isinstance(coded.codec, NumberCodec):
            return plain
        plain = float(plain) if isinstance(plain, Decimal) else plain
        if not isinstance(plain, Real) or plain != plain or (place == "value" and math.isinf(plain)):
            raise ValueError(f"got {quoted(repr(said))}, expected a number")
        number, kind = int(plain) if isinstance(plain, bool) else plain, None
    grid = coded.codec.grid if isinstance(coded.codec, NumberCodec) else None
    if place == "value" and grid is not None:
        is_long = isinstance(number, int) and abs(number) >= 2**63  # beyond numpy's whole numbers
        nearest = grid.value(grid.index(np.array([float(number) if is_long else number])))
        if nearest[0] != number:
            shown = nearest[0] if kind is None else nearest.astype(kind)[0]
            raise ValueError(
                f"got {said!r}, which is off the grid of the column; the nearest value is {shown}, and an interval such as "
                f"({said!r}, None) may have any ends"
            )
    return number


def _time(said: object, unit: str, is_duration: bool, place: _Place) -> int:
    """A time in whole units of its column: rounded up for a lower end, down for an upper end."""
    since = _length(said) if is_duration else _date(said)
    if since is None:
        expected = (
            "a timedelta, or text such as '90m'" if is_duration else "a date or time, or text such as '2024-02-29'"
        )
        raise ValueError(f"got {quoted(repr(said))}, expected {expected}")
    exact = Fraction(since, _NANOSECONDS[unit])
    whole = math.ceil(exact) if place == "low" else math.floor(exact)
    if place == "value" and whole != exact:
        raise ValueError(f"got {said!r}, which lies between the values of the column; those are whole {_UNITS[unit]}")
    if place == "value" and abs(whole) >= 2**63:
        raise ValueError(f"got {said!r}, which is too far from 1970 for a column of {_UNITS[unit]}")
    return whole


def _length(said: object) -> int | None:
    """Nanoseconds of a length of time; None if it is not one."""
    if isinstance(said, str):
        written = _LENGTH.fullmatch(said)
        return int(written[1]) * _NANOSECONDS[written[2]] if written else None
    if isinstance(said, datetime.timedelta):
        return _nanoseconds(said.to_numpy() if hasattr(said, "to_numpy") else np.timedelta64(said))
    return _nanoseconds(said) if isinstance(said, np.timedelta64) else None


def _date(said: object) -> int | None:
    """Nanoseconds since 1970 in UTC; None if it is not a date or time."""
    if isinstance(said, str):
        zoned = _ZONED.fullmatch(said)
        try:
            local = _nanoseconds(np.datetime64(zoned[1] if zoned else said))
        except ValueError:
            return None
        if local is None or zoned is None or zoned[2] is None:
            return local
        ahead = int(zoned[3]) * _NANOSECONDS["h"] + int(zoned[4] or 0) * _NANOSECONDS["m"]
        return local - ahead if zoned[2] == "+" else local + ahead
    if isinstance(said, datetime.datetime) and said.tzinfo is not None:
        said = said.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(said, datetime.date):  # the nanoseconds of pandas' times are lost on the way through numpy's own
        return _nanoseconds(said.to_numpy() if hasattr(said, "to_numpy") else np.datetime64(said))
    return _nanoseconds(said) if isinstance(said, np.datetime64) else None


def _nanoseconds(exact: np.datetime64 | np.timedelta64) -> int | None:
    """None for NaT, and for units that no column has."""
    if np.isnat(exact):
        return None
    unit, count = np.datetime_data(exact.dtype)
    if unit in ("Y", "M") and isinstance(exact, np.datetime64):
        exact, unit, count = exact.astype("datetime64[D]"), "D", 1
    return int(exact.astype(np.int64)) * count * _NANOSECONDS[unit] if unit in _NANOSECONDS else None
