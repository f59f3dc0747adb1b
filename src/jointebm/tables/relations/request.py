"""A relation that is asked for or has been found, before it is fitted to a table; and its text, such as 'start <= end'."""

import json
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import Name

__all__ = ["RelationRequest", "parse_relation"]

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|(?<!\S)(?:<=|>=|<->|->|<|>|=|==|&|\+|-)(?!\S)|[^\s"]+)')
_SIGNS = ("<=", ">=", "<->", "->", "<", ">", "=", "==", "&", "+", "-")
_FORMS = "'a = b', 'total = a + b', 'net = gross - tax', 'p + q + r = 1', 'start <= end', 'zip -> city' or 'a & b'"


class RelationRequest(NamedTuple):
    """A relation between columns."""

    kind: Literal["equality", "functional", "balance", "ordering", "combination"]
    names: tuple[Name, ...]  # key and value; low and high; terms
    text: str  # as it is asked for
    signs: tuple[Literal[-1, 1], ...] = ()  # of the terms
    constant: float = 0.0  # that they sum to
    strict: bool = False  # low < high


class _Name(NamedTuple):
    text: str
    is_quoted: bool


def parse_relation(text: str, names: Sequence[Name]) -> RelationRequest:
    """Reads the text of a relation; names with signs or quotes in them stand in double quotes.

    Args:
        text: such as 'start <= end'.
        names: columns of the table.

    Raises:
        ValueError: the text is not a relation, or names an unknown column.

    Example:
        >>> parse_relation("net = gross - tax", ["gross", "tax", "net"]).signs
        (1, -1, 1)
    """
    tokens = _tokens(text)
    relations = [place for place, token in enumerate(tokens) if token in _SIGNS and token not in ("+", "-", "&")]
    if tokens and not relations and "&" in tokens:
        members = [_known(part, names, text) for part in _between(tokens, ("&",), text)]
        return RelationRequest("combination", _different(members, text), text)
    if len(relations) != 1:
        raise _malformed(text)
    sign = tokens[relations[0]]
    left, right = tokens[: relations[0]], tokens[relations[0] + 1 :]
    if sign in ("=", "=="):
        return _sum(left, right, names, text)
    low, high = (_known(_one(side, text), names, text) for side in (left, right))
    if sign in ("->", "<->"):
        return RelationRequest("functional", _different((low, high), text), text)
    if sign in (">=", ">"):
        low, high = high, low
    return RelationRequest("ordering", _different((low, high), text), text, strict=sign in ("<", ">"))


def _sum(left: list[str | _Name], right: list[str | _Name], names: Sequence[Name], text: str) -> RelationRequest:
    terms: list[tuple[Name, Literal[-1, 1]]] = []
    constant = 0.0
    for side, outer in ((left, -1), (right, 1)):
        directions = [outer, *(outer if token == "+" else -outer for token in side if token in ("+", "-"))]
        for part, sign in zip(_between(side, ("+", "-"), text), directions, strict=True):
            number = None if part.is_quoted or _find(part.text, names) is not None else _number(part.text)
            if number is not None:
                constant -= sign * number
            else:
                terms.append((_known(part, names, text), 1 if sign > 0 else -1))
    found = _different([name for name, _ in terms], text)
    if len(found) < 2:
        raise _malformed(text)
    signs = [sign for _, sign in terms]
    if len(found) == 2 and signs[0] != signs[1] and not constant:
        return RelationRequest("equality", found, text)
    flip = -1 if sum(signs) < 0 or (sum(signs) == 0 and signs[0] < 0) else 1
    flipped: tuple[Literal[-1, 1], ...] = tuple(1 if sign == flip else -1 for sign in signs)
    return RelationRequest("balance", found, text, signs=flipped, constant=flip * constant + 0.0)


def _tokens(text: str) -> list["str | _Name"]:
    """Signs as text, and names; words without a sign between them are one name."""
    tokens: list[str | _Name] = []
    place, is_open = 0, False
    stripped = text.rstrip()
    while place < len(stripped):
        found = _TOKEN.match(stripped, place)
        if found is None:
            raise _malformed(text)
        word, place = found[1], found.end()
        if word in _SIGNS:
            tokens.append(word)
            is_open = False
        elif word.startswith('"'):
            tokens.append(_Name(json.loads(word), True))
            is_open = False
        elif is_open:
            before = tokens.pop()
            assert isinstance(before, _Name)
            tokens.append(_Name(f"{before.text} {word}", False))
        else:
            tokens.append(_Name(word, False))
            is_open = True
    return tokens


def _between(tokens: Sequence[str | _Name], signs: tuple[str, ...], text: str) -> list[_Name]:
    """The names between signs."""
    names, between = tokens[::2], tokens[1::2]
    if len(tokens) % 2 == 0 or any(each not in signs for each in between):
        raise _malformed(text)
    return [_one([name], text) for name in names]


def _one(side: Sequence[str | _Name], text: str) -> _Name:
    if len(side) != 1 or not isinstance(side[0], _Name):
        raise _malformed(text)
    return side[0]


def _find(word: str, names: Sequence[Name]) -> Name | None:
    return next((name for name in names if str(name) == word), None)


def _known(part: _Name, names: Sequence[Name], text: str) -> Name:
    name = _find(part.text, names)
    if name is None:
        listed = quoted(", ".join(map(repr, names)))
        raise ValueError(
            f"relations: {quoted(repr(text))}: unknown column {quoted(repr(part.text))}; columns: {listed}"
        )
    return name


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _different(names: Sequence[Name], text: str) -> tuple[Name, ...]:
    for name in names:
        if list(names).count(name) > 1:
            raise ValueError(
                f"relations: {quoted(repr(text))}: column {name!r} occurs twice; expected different columns"
            )
    return tuple(names)


def _malformed(text: str) -> ValueError:
    return ValueError(
        f"relations: got {quoted(repr(text))}, expected a text such as {_FORMS}, with spaces around signs"
    )
