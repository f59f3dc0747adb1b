"""What a user says about columns as evidence: {"age": 30, "job": {"nurse", "cook"}, "born": ("1980-01-01", None)}."""

import datetime
from collections.abc import Mapping
from numbers import Real

import numpy as np

from jointebm.tables.codec import CodedColumn, Name, TableCodec
from jointebm.tables.evidence import Choice, Evidence, as_evidence
from jointebm.tables.numbers import NumberCodec

__all__ = ["read_given"]


def read_given(
    given: Mapping[Name, object], codec: TableCodec, *, durations: frozenset[Name] = frozenset()
) -> dict[Name, Evidence]:
    """Evidence about values, as the codecs hold them.

    Args:
        given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
            bound. Dates may be ISO text; without a time zone they are UTC.
        codec: of the table.
        durations: times that are lengths of time.

    Raises:
        ValueError: an unknown column, or a value that the column cannot have.
    """
    evidence: dict[Name, Evidence] = {}
    for name, said in given.items():
        coded = codec.columns[codec.index(name)]
        try:
            known = as_evidence(said)
            if isinstance(known, Choice):
                evidence[name] = Choice(
                    tuple(_value(each, coded, name in durations, exact=True) for each in known.values)
                )
            else:
                ends = (None if each is None else _value(each, coded, name in durations, exact=False) for each in known)
                evidence[name] = type(known)(*ends)
        except ValueError as error:
            raise ValueError(f"given column {name!r}: {error}") from None
    return evidence


def _value(said: object, coded: CodedColumn, is_duration: bool, *, exact: bool) -> object:
    if coded.role == "time":
        return _time(said, str(coded.unit), is_duration)
    plain = said.item() if isinstance(said, np.generic) else said
    if not isinstance(coded.codec, NumberCodec):
        return plain
    if not isinstance(plain, Real) or plain != plain:
        raise ValueError(f"got {said!r}, expected a number")
    number = int(plain) if isinstance(plain, bool) else plain
    grid = coded.codec.grid
    if exact and grid is not None:
        (nearest,) = grid.value(grid.index(np.array([number])))
        if nearest != number:
            raise ValueError(
                f"got {said!r}; values lie on a grid, near by are {nearest} and intervals such as ({number}, None)"
            )
    return number


def _time(said: object, unit: str, is_duration: bool) -> int:
    if is_duration:
        try:
            return int(np.timedelta64(said).astype(f"timedelta64[{unit}]").astype(np.int64))  # type: ignore[call-overload]
        except (TypeError, ValueError):
            raise ValueError(f"got {said!r}, expected a timedelta") from None
    if isinstance(said, datetime.datetime) and said.tzinfo is not None:
        said = said.astimezone(datetime.UTC).replace(tzinfo=None)
    try:
        return int(np.datetime64(said).astype(f"datetime64[{unit}]").astype(np.int64))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"got {said!r}, expected a date or time, or ISO text such as '2024-02-29'") from None
