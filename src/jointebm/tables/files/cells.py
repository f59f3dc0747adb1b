"""Parses the cells of a text file, and infers the kind of value that a column of them holds."""

import datetime
import re
from collections import Counter
from functools import lru_cache
from typing import Literal, NamedTuple

from jointebm.storage.untrusted import quoted
from jointebm.tables.frames.reading import LARGEST

__all__ = ["NAMES", "CellKind", "Tally", "parse"]

CellKind = Literal["whole", "real", "boolean", "date", "time", "zoned", "text"]
NAMES: dict[CellKind, str] = {
    "whole": "a whole number",
    "real": "a number",
    "boolean": "True or False",
    "date": "a date such as 2024-02-29",
    "time": "a time such as 2024-02-29 16:30:00",
    "zoned": "a time with its zone, such as 2024-02-29 16:30:00+00:00",
    "text": "text",
}
BOOLEANS = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}
CELL_KINDS: tuple[CellKind, ...] = ("whole", "real", "boolean", "date", "time", "zoned")
MOSTLY = 0.95  # where so many of the cells are numbers or times, the others are mistakes rather than categories
MIN_CELLS = 20  # with fewer cells, nothing is called a mistake

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PADDED = re.compile(r"[+-]?0\d+", re.ASCII)  # 007 is a label; as a number it would become 7
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)
_ZONED = re.compile(_TIME.pattern + r"(Z|[+-]\d\d:?\d\d)", re.ASCII)
_MAX_WHOLE = 2**63


def parse(text: str, kind: CellKind) -> object:
    """The value of a cell.

    Raises:
        ValueError: the cell is of another kind.

    Example:
        >>> parse("12", "real"), parse("TRUE", "boolean"), parse("007", "text")
        (12, True, '007')
    """
    if kind == "text":
        return text
    plain = text.strip()
    try:
        if kind == "whole" and _WHOLE.fullmatch(plain):
            return int(plain)
        if kind == "real" and _REAL.fullmatch(plain):
            return _number(plain)
        if kind == "boolean" and plain in BOOLEANS:
            return BOOLEANS[plain]
        if kind == "date" and _DATE.fullmatch(plain):
            return datetime.date.fromisoformat(plain)
        if kind == "time" and (_TIME.fullmatch(plain) or _DATE.fullmatch(plain)):
            return datetime.datetime.fromisoformat(plain)
        if kind == "zoned" and _ZONED.fullmatch(plain):
            return datetime.datetime.fromisoformat(plain)
    except ValueError:  # such as the 30th of February
        pass
    raise ValueError(f"got {quoted(repr(text))}, expected {NAMES[kind]}")


def _number(plain: str) -> int | float:
    if _WHOLE.fullmatch(plain) and not _is_huge(plain):
        return int(plain)
    number = float(plain)
    if abs(number) > LARGEST:
        raise ValueError
    return number


def _is_huge(plain: str) -> bool:
    """Whether a whole number has more than 64 bits; Python refuses to read thousands of digits."""
    return len(plain.lstrip("+-0")) > 19 or abs(int(plain)) >= _MAX_WHOLE


@lru_cache(maxsize=1 << 16)
def _kinds(text: str) -> frozenset[str]:
    """All kinds that a cell can have, and "padded" for a whole number with leading zeros."""
    plain = text.strip()
    if _PADDED.fullmatch(plain):
        return frozenset({"padded"})
    if _WHOLE.fullmatch(plain) and _is_huge(plain):
        return frozenset({"real"})
    found: set[str] = set()
    for kind in CELL_KINDS:
        try:
            parse(plain, kind)
        except ValueError:
            continue
        found.add(kind)
    return frozenset(found)


class _Other(NamedTuple):
    """The first cell of another kind than most."""

    line: int
    text: str


class Tally:
    """Counts the kinds that the cells of a column could have, to infer the kind of the column.

    Example:
        >>> tally = Tally()
        >>> for line, text in enumerate(["1", "2.5", "3"], start=2):
        ...     tally.add(text, line)
        >>> tally.kind("age")
        'real'
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._num = 0
        self._others: dict[CellKind, _Other] = {}

    def add(self, text: str, line: int) -> None:
        """Counts a cell that is not missing."""
        found = _kinds(text)
        self._num += 1
        self._counts.update(found)
        for kind in ("real", "time"):
            if kind not in found and kind not in self._others:
                self._others[kind] = _Other(line, text)

    def kind(self, where: str) -> CellKind | None:
        """The kind of the column; None if every cell is missing.

        Args:
            where: file and column, for the message.

        Raises:
            ValueError: nearly all cells are numbers or times, and some are not.
        """
        if self._num == 0:
            return None
        for kind in CELL_KINDS:
            if self._counts[kind] == self._num:
                return kind
        for kind in ("real", "time"):
            if self._num >= MIN_CELLS and MOSTLY * self._num <= self._counts[kind]:
                other = self._others[kind]
                raise ValueError(
                    f"{where}, line {other.line}: got {quoted(repr(other.text))}, and {self._counts[kind]} of the column's "
                    f"{self._num} cells are {'numbers' if kind == 'real' else 'times'}; correct it, declare it missing "
                    f"(--missing {quoted(repr(other.text.strip()))}), or declare the column categorical "
                    "(--kind NAME=categorical)"
                )
        return "text"
