"""Parses the cells of a text file, and infers the kind of value that a column of them holds."""

import datetime
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Literal, NamedTuple

from jointebm.storage.untrusted import quoted
from jointebm.tables.frames.reading import LARGEST

__all__ = ["CellKind", "Tally", "parse"]

CellKind = Literal["whole", "real", "boolean", "date", "time", "zoned", "text"]
MOSTLY = 0.95  # where so many of the cells are numbers or times, the others are mistakes rather than categories
MIN_CELLS = 20  # with fewer cells, nothing is called a mistake

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d+", re.ASCII)  # 007 is a label; as a number it would become 7
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile("[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_DATE = r"\d{4}-\d\d-\d\d"
_SWAPPED = str.maketrans({",": ".", ".": ","})
_TIME = rf"{_DATE}[T ]\d\d:\d\d(:\d\d(\.\d{{1,6}})?)?"


def _is_huge(plain: str) -> bool:
    """Whether a whole number has more than 64 bits; Python refuses to read thousands of digits."""
    return len(plain.lstrip("+-0")) > 19 or abs(int(plain)) >= 2**63


def _is_infinite(plain: str) -> bool:
    """Whether it is a number that is infinite or larger than `LARGEST`."""
    return bool(_INFINITE.fullmatch(plain) or _REAL.fullmatch(plain)) and abs(float(plain)) > LARGEST


def _number(plain: str) -> int | float:
    if _WHOLE.fullmatch(plain) and not _is_huge(plain):
        return int(plain)
    number = float(plain)
    if abs(number) > LARGEST:
        raise ValueError
    return number


class _Form(NamedTuple):
    """The cells of a kind: their form, its name, and their value."""

    pattern: re.Pattern[str]
    name: str
    value: Callable[[str], object]


_time = datetime.datetime.fromisoformat
_FORMS: dict[CellKind, _Form] = {
    "whole": _Form(_WHOLE, "a whole number", int),
    "real": _Form(_REAL, "a number", _number),
    "boolean": _Form(re.compile("[Tt]rue|TRUE|[Ff]alse|FALSE"), "True or False", lambda plain: plain[0] in "Tt"),
    "date": _Form(re.compile(_DATE, re.ASCII), "a date such as 2024-02-29", datetime.date.fromisoformat),
    "time": _Form(re.compile(f"{_TIME}|{_DATE}", re.ASCII), "a time such as 2024-02-29 16:30:00", _time),
    "zoned": _Form(
        re.compile(rf"{_TIME}(Z|[+-]\d\d:?\d\d)", re.ASCII),
        "a time with its zone, such as 2024-02-29 16:30:00+00:00",
        _time,
    ),
}


def _with_point(plain: str, decimal: str) -> str:
    """A number with a decimal comma as one with a point; one with a point is then no number."""
    if decimal == ".":
        return plain
    swapped = plain.translate(_SWAPPED)
    is_number = _FORMS["real"].pattern.fullmatch
    return swapped if is_number(swapped) or is_number(plain) else plain


def parse(text: str, kind: CellKind, *, decimal: str = ".") -> object:
    """The value of a cell; `decimal` comes before the fraction of a number.

    Example:
        >>> parse("12", "real"), parse("TRUE", "boolean"), parse("007", "text")
        (12, True, '007')
        >>> parse("1,5", "real", decimal=",")
        1.5
    """
    if kind == "text":
        return text
    plain, form = _with_point(text.strip(), decimal), _FORMS[kind]
    with suppress(ValueError):  # such as the 30th of February
        if form.pattern.fullmatch(plain):
            return form.value(plain)
    raise ValueError(f"got {quoted(repr(text))}, expected {form.name}")


@lru_cache(maxsize=1 << 16)
def _kinds(text: str, decimal: str) -> frozenset[str]:
    """All kinds that a cell can have; further marks are

    "padded", a whole number with leading zeros; "infinite", one too large; "swapped", a number with the other decimal mark.
    """
    plain = _with_point(text.strip(), decimal)
    if _PADDED.fullmatch(plain):
        return frozenset({"padded"})
    if _is_infinite(plain):
        return frozenset({"infinite", "text"})
    if _WHOLE.fullmatch(plain) and _is_huge(plain):
        return frozenset({"real"})
    found: set[str] = set()
    for kind in _FORMS:
        with suppress(ValueError):
            parse(plain, kind)
            found.add(kind)
    if not found and _REAL.fullmatch(plain.translate(_SWAPPED)):
        found.add("swapped")
    return frozenset(found)


class Tally:
    """Counts the kinds that the cells of a column could have, to infer the kind of the column.

    Example:
        >>> tally = Tally()
        >>> for line, text in enumerate(["1", "2.5", "3"], start=2):
        ...     tally.add(text, line)
        >>> tally.kind("age")
        'real'
    """

    def __init__(self, *, decimal: str = ".") -> None:
        self._decimal = decimal
        self._counts: Counter[str] = Counter()
        self._num = 0
        # File, line and text of the first cell of another kind, and of the first infinite number.
        self._others: dict[CellKind, tuple[str, int, str]] = {}
        self._infinite: tuple[str, int, str] | None = None
        self._swapped: tuple[str, int, str] | None = None  # the first number with the other decimal mark

    def add(self, text: str, line: int, file: str = "") -> None:
        """Counts a cell that is not missing."""
        found = _kinds(text, self._decimal)
        self._num += 1
        self._counts.update(found)
        for kind in ("real", "time"):
            if kind not in found and kind not in self._others:
                self._others[kind] = file, line, text
        if "infinite" in found and self._infinite is None:
            self._infinite = file, line, text
        if "swapped" in found and self._swapped is None:
            self._swapped = file, line, text

    def kind(self, where: str) -> CellKind | None:
        """The kind of the column; None if every cell is missing.

        Raises:
            ValueError: all cells are numbers but some of them infinite or with the other decimal mark, or nearly all cells
                are numbers or times; names the first of the others by `where` and its line.
        """
        if self._num == 0:
            return None
        for kind in _FORMS:
            if self._counts[kind] == self._num:
                return kind
        if self._infinite is not None and 0 < self._counts["real"] == self._num - self._counts["infinite"]:
            file, line, text = self._infinite
            raise ValueError(
                f"{_place(file, where)}, line {line}: got {quoted(repr(text))} among numbers, expected a finite number, "
                f"up to {LARGEST:.0e} in size; {_fixes(text)}"
            )
        num_numbers = self._counts["real"] + self._counts["swapped"]
        is_mostly = self._num >= MIN_CELLS and MOSTLY * self._num <= num_numbers
        if self._swapped is not None and (num_numbers == self._num or is_mostly):
            file, line, text = self._swapped
            name, mark, other = ("comma", ",", ".") if self._decimal == "," else ("point", ".", ",")
            raise ValueError(
                f"{_place(file, where)}, line {line}: got {quoted(repr(text))}, but numbers are read with a decimal {name} "
                f"(--decimal {mark!r}); if {other!r} is the decimal mark of this file, pass --decimal {other!r}, write "
                "thousands without a mark, or declare the column categorical (--kind NAME=categorical)"
            )
        for kind in ("real", "time"):
            if self._num >= MIN_CELLS and MOSTLY * self._num <= self._counts[kind]:
                file, line, text = self._others[kind]
                raise ValueError(
                    f"{_place(file, where)}, line {line}: got {quoted(repr(text))}, and {self._counts[kind]} of the "
                    f"column's {self._num} cells are {'numbers' if kind == 'real' else 'times'}; {_fixes(text)}"
                )
        return "text"


def _place(file: str, where: str) -> str:
    """A column, and its file where there are several."""
    return f"{file}, {where}" if file else where


def _fixes(text: str) -> str:
    """What to do about a cell that does not fit its column."""
    return (
        f"correct it, declare it missing (--missing {quoted(repr(text.strip()))}), or declare the column categorical "
        "(--kind NAME=categorical)"
    )
