"""The grammar of `--given` for tables: column=value pairs, separated by commas.

age=30                        a value: a number, a category, a date such as 2024-02-29
kind={cat,dog}                one of several values
age=30..40  age=30..  age=..40    an interval, ends included
age=missing                   the entry is missing; needs a model fitted with --set missingness=model
"a, b"="x=y"                  any text, in double quotes as in JSON

A text that is the name of a category is that category, whatever characters it holds.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

from jointebm.estimators import JointEBM
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.files.cells import CellKind, parse

__all__ = ["parse_table_given"]

EXPECTED = "expected column=value, such as age=30, age=30..40, 'income=>50K' or 'kind={cat,dog}'"


def parse_table_given(texts: Sequence[str], model: JointEBM) -> dict[Name, object]:
    """Reads `--given`, as `JointEBM.sample` takes it."""
    names = {str(name): name for name in model.codec_.names}
    given: dict[Name, object] = {}
    for before, pair in ((before, pair) for text in texts for before, pair in pairwise(["", *_split(text, ",")])):
        name, *values = _split(pair, "=", most=1)
        if not values and pair.strip():
            _require_column(before, pair, names)
        if not values or not name.strip() or not values[0].strip():
            raise ValueError(f"--given {quoted(repr(pair))}: {EXPECTED}")
        column = _plain(name.strip())
        if column not in names:
            raise ValueError(
                f"--given {quoted(repr(pair))}: unknown column {quoted(repr(column))}; this model has "
                f"{quoted(', '.join(map(repr, names)))}"
            )
        if names[column] in given:
            raise ValueError(f"--given: duplicate column {column!r}; give it once")
        try:
            given[names[column]] = _value_of(values[0].strip(), model.coded(names[column]))
        except ValueError as error:
            raise ValueError(f"--given {quoted(repr(pair))}: {error}") from None
    return given


def _require_column(before: str, pair: str, names: Collection[str]) -> None:
    """Raises if what stands between two commas is no pair but goes with the pair before it."""
    column, _, said = (each.strip() for each in before.partition("="))
    if column in names and said:
        choice, text = f"{column}={{{said},{pair}}}", f'{column}="{said},{pair}"'
        raise ValueError(
            f"--given {quoted(repr(pair))}: expected column=value after the comma, which ends {quoted(repr(before))}; for "
            f"one of several values use braces, {quoted(repr(choice))}, and for a value that holds a comma double quotes, "
            f"{quoted(repr(text))}"
        )


def _value_of(text: str, coded: CodedColumn) -> object:
    """A value, a list of values or an interval (low, high), None for an open end; None for an entry that is missing."""
    read = _reader(coded)
    if isinstance(coded.codec, CategoryCodec) and text in map(str, coded.codec.levels):
        return read(text)
    if text == "missing":
        return None
    if text.startswith("{") and text.endswith("}"):
        return [read(each.strip()) for each in _split(text[1:-1], ",")]
    if ".." in text and not text.startswith('"') and not isinstance(coded.codec, CategoryCodec):
        ends = [each.strip() for each in text.split("..", 1)]
        if ends == ["", ""]:
            raise ValueError("got an interval without ends; write 30..40, 30.. or ..40, or leave it out")
        low, high = (read(each) if each else None for each in ends)
        return low, high
    return read(text)


def _reader(coded: CodedColumn) -> Callable[[str], object]:
    """A function that reads a value of a column."""
    if coded.role == "time":
        return _plain  # ISO text is read by `read_given`
    if isinstance(coded.codec, NumberCodec):
        return lambda text: parse(_plain(text), "real")
    if isinstance(coded.codec, CategoryCodec):
        levels = {str(level): level for level in coded.codec.levels}
        others: dict[type, CellKind] = {bool: "boolean", int: "real", float: "real"}
        kinds: list[CellKind] = [others.get(type(level), "text") for level in coded.codec.levels]
        kind: CellKind = kinds[0] if len(set(kinds)) == 1 else "text"

        def read(text: str) -> object:
            return levels[_plain(text)] if _plain(text) in levels else parse(_plain(text), kind)

        return read
    return _plain


def _plain(text: str) -> str:
    """The text inside double quotes, or the text itself."""
    if not text.startswith('"'):
        return text
    try:
        plain = json.loads(text)
    except ValueError:
        raise ValueError(f"{quoted(text)}: unclosed double quote, or text after it") from None
    return str(plain)


def _split(text: str, separator: str, *, most: int = -1) -> Iterator[str]:
    """Parts between separators outside braces and double quotes."""
    part, depth, in_quotes, escaped = "", 0, False, False
    for character in text:
        if in_quotes:
            in_quotes, escaped = escaped or character != '"', character == "\\" and not escaped
        elif character == '"' and part.rstrip()[-1:] in ("", "{", ",", "="):
            in_quotes = True
        elif character in "{}":
            depth = max(0, depth + (1 if character == "{" else -1))
        elif character == separator and depth == 0 and most != 0:
            yield part
            part, most = "", most - 1
            continue
        part += character
    yield part
