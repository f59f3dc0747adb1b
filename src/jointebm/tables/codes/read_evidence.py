"""What a user says about columns as evidence: {"age": 30, "job": {"nurse", "cook"}, "born": ("1980-01-01", None)}."""

import datetime
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Literal

import numpy as np

from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.evidence import Choice, Evidence, Interval, as_evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["read_given"]

_Place = Literal["value", "low", "high"]  # one of the values, or an end of an interval
_UNITS = {"D": "days", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NANOSECONDS = {
    "W": 7 * 86_400 * 10**9,
    "D": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}


def read_given(
    given: Mapping[Name, object], codec: TableCodec, *, durations: frozenset[Name] = frozenset()
) -> dict[Name, Evidence]:
    """Evidence about values, as the codecs hold them.

    Args:
        given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
            bound. Dates may be ISO text; without a time zone they are UTC. Lengths of time may be text such as 90m.
        codec: of the table.
        durations: times that are lengths of time.

    Raises:
        TypeError: it is no mapping.
        ValueError: an unknown column, or a value that the column cannot have.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"given: got {given!r}, expected columns with what is known of them, such as {{'age': (30, None)}}"
        )
    evidence: dict[Name, Evidence] = {}
    for name, said in given.items():
        coded = codec.columns[codec.index(name)]
        try:
            known = as_evidence(said)
            is_duration = name in durations
            if isinstance(known, Choice):
                evidence[name] = Choice(tuple(_value(each, coded, is_duration, "value") for each in known.values))
            else:
                low = None if known.low is None else _value(known.low, coded, is_duration, "low")
                high = None if known.high is None else _value(known.high, coded, is_duration, "high")
                if isinstance(low, Real) and isinstance(high, Real) and low > high and coded.role != "time":
                    raise ValueError(f"got {said!r}, whose low end lies above its high end; an interval is (low, high)")
                evidence[name] = Interval(low, high)
        except ValueError as error:
            raise ValueError(f"given column {name!r}: {error}") from None
    return evidence


def _value(said: object, coded: CodedColumn, is_duration: bool, place: _Place) -> object:
    if coded.role == "time":
        unit = str(coded.unit)
        number: Real = _time(said, unit, is_duration, place)  # type: ignore[assignment]
        kind = f"timedelta64[{unit}]" if is_duration else f"datetime64[{unit}]"
    else:
        plain = said.item() if isinstance(said, np.generic) else said
        if not isinstance(coded.codec, NumberCodec):
            return plain
        plain = float(plain) if isinstance(plain, Decimal) else plain
        if not isinstance(plain, Real) or plain != plain or (place == "value" and math.isinf(plain)):
            raise ValueError(f"got {said!r}, expected a number")
        number, kind = int(plain) if isinstance(plain, bool) else plain, None
    grid = coded.codec.grid if isinstance(coded.codec, NumberCodec) else None
    if place == "value" and grid is not None:
        is_long = isinstance(number, int) and abs(number) >= 2**63  # numpy has no such whole numbers
        nearest = grid.value(grid.index(np.array([float(number) if is_long else number])))
        if nearest[0] != number:
            shown = nearest[0] if kind is None else nearest.astype(kind)[0]
            raise ValueError(
                f"got {said!r}; values lie on a grid, near by are {shown} and intervals such as ({said!r}, None)"
            )
    return number


def _time(said: object, unit: str, is_duration: bool, place: _Place) -> int:
    """A time in whole units of its column: the next one for a lower end, the one before for an upper end."""
    exact = Fraction(_nanoseconds(said, is_duration), _NANOSECONDS[unit])
    whole = math.ceil(exact) if place == "low" else math.floor(exact)
    if place == "value" and whole != exact:
        raise ValueError(f"got {said!r}, which lies between the values of the column; those are whole {_UNITS[unit]}")
    if place == "value" and abs(whole) >= 2**63:
        raise ValueError(f"got {said!r}, which is too far from 1970 for a column of {_UNITS[unit]}")
    return whole


def _nanoseconds(said: object, is_duration: bool) -> int:
    """Of a length of time, or since 1970."""
    plain = said
    written = (
        re.fullmatch(r"\s*(-?\d{1,18})(W|D|h|m|s|ms|us|ns)\s*", said) if isinstance(said, str) and is_duration else None
    )
    if written:
        return int(written[1]) * _NANOSECONDS[written[2]]
    if isinstance(plain, datetime.datetime) and plain.tzinfo is not None:
        plain = plain.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(plain, datetime.datetime | datetime.timedelta) and hasattr(plain, "to_numpy"):
        plain = plain.to_numpy()  # pandas' own, whose nanoseconds numpy would drop
    try:
        read = np.timedelta64(plain) if is_duration else np.datetime64(plain)  # type: ignore[call-overload]
        unit, count = np.datetime_data(read.dtype)
        if unit in ("Y", "M"):
            read, unit, count = read.astype("datetime64[D]"), "D", 1
        if np.isnat(read) or unit not in _NANOSECONDS:
            raise ValueError
    except (TypeError, ValueError):
        expected = (
            "a timedelta, or text such as '90m' or '3600s'"
            if is_duration
            else "a date or time, or ISO text such as '2024-02-29'"
        )
        raise ValueError(f"got {said!r}, expected {expected}") from None
    return int(read.astype(np.int64)) * count * _NANOSECONDS[unit]
