"""Reads tables from files: a whole one to fit to, or one part at a time to answer questions about.

CSV (.csv, .csv.gz) and Parquet (.parquet) become Arrow tables. A file is checked from end to end before the first
question, so that a malformed row is found before any work is done. Memory holds one part at a time.

Legend: N rows of a part.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.cells import CellKind, Tally, parse
from jointebm.tables.files.csv_rows import read_header, read_parts
from jointebm.tables.files.missing_words import is_missing_cell
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.frames.reading import LARGEST

__all__ = ["ColumnType", "Part", "Source", "check_ending", "open_source", "read_whole"]

ROWS_PER_PART = 1024  # some seconds of work; each worker holds a few parts
ROWS_PER_LOOK = 16384
ENDINGS = (".csv", ".csv.gz", ".parquet")


class Part(NamedTuple):
    """Some rows."""

    table: pa.Table
    cells: Mapping[str, list[str]] | None  # the text of each cell by column, for a CSV file
    places: Callable[[int], str]  # the place of each row in the file, for messages
    first: int  # number of the first row, from 0


class Source(NamedTuple):
    """A table in a file that can be read more than once."""

    schema: pa.Schema
    parts: Callable[[], Iterator[Part]]  # reads the file from its beginning


ColumnType = tuple[CellKind, pa.DataType]  # kind of the cells of a column in CSV, and their Arrow type


def check_ending(path: Path) -> None:
    """Raises unless the name of a file ends in .csv, .csv.gz or .parquet."""
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{path}: got {path.suffix or 'no ending'}, expected a name that ends in {', '.join(ENDINGS)}")


def open_source(
    path: Path, known: Collection[str], type_of: Callable[[str], ColumnType], reading: ReadingOptions
) -> Source:
    """Opens a table whose columns are known."""
    _check_file(path)
    is_parquet = path.suffix == ".parquet"
    names = _parquet_schema(path).names if is_parquet else read_header(path, reading)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{path}: unknown column {quoted(repr(unknown[0]))}; leave it out, for this model has "
            f"{quoted(', '.join(map(repr, known)))}"
        )
    if is_parquet:
        return Source(_parquet_schema(path), lambda: _parquet_parts(path, reading.words))
    columns = {name: type_of(name) for name in names}
    return Source(_schema(columns), lambda: _csv_parts(path, columns, reading, ROWS_PER_PART))


def read_whole(path: Path, *, kinds: Mapping[str, Kind], reading: ReadingOptions) -> pa.Table:
    """Reads a whole table; the kinds of its columns in CSV are inferred from their cells."""
    _check_file(path)
    if path.suffix == ".parquet":
        _parquet_schema(path)
        with _naming(path):
            return _without_words(pq.read_table(path, partitioning=None), reading.words)
    columns = _found_in(path, kinds, reading)
    parts = [part.table for part in _csv_parts(path, columns, reading, ROWS_PER_LOOK)]
    return pa.concat_tables([_schema(columns).empty_table(), *parts])


def _check_file(path: Path) -> None:
    """Raises unless the file can be read more than once."""
    check_ending(path)
    path.open("rb").close()
    if not path.is_file():
        raise ValueError(f"{path}: is not a regular file, and a table is read more than once; write it to a file first")


def _schema(columns: Mapping[str, ColumnType]) -> pa.Schema:
    return pa.schema([(name, arrow) for name, (_, arrow) in columns.items()])


def _parquet_schema(path: Path) -> pa.Schema:
    with _naming(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    for place, name in enumerate(schema.names):
        if schema.names.index(name) != place:
            raise ValueError(f"{path}: duplicate column {name!r}; rename one of them")
    if not schema.names:
        raise ValueError(f"{path}: has no columns")
    return schema


_ARROW: dict[CellKind, pa.DataType] = {
    "whole": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "zoned": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
}


def _found_in(path: Path, kinds: Mapping[str, Kind], reading: ReadingOptions) -> dict[str, ColumnType]:
    """The types of the columns of a CSV file, from their cells."""
    names = read_header(path, reading)
    tallies = [Tally(decimal=reading.decimal) for _ in names]
    for part in read_parts(path, reading, size=ROWS_PER_LOOK):
        for name, tally, cells in zip(names, tallies, part.columns, strict=True):
            if kinds.get(name) not in ("categorical", "id"):
                for line, text in zip(part.lines, cells, strict=True):
                    if not is_missing_cell(text, reading.words):
                        tally.add(text, line)
    found: dict[str, ColumnType] = {}
    for name, tally in zip(names, tallies, strict=True):
        if kinds.get(name) in ("categorical", "id"):
            found[name] = ("text", pa.string())
            continue
        kind = tally.kind(f"{path}, column {name!r}")
        if kinds.get(name) == "numeric" and kind == "text":
            kind = "real"
        found[name] = ("text", pa.null()) if kind is None else (kind, _ARROW[kind])
    return found


def _csv_parts(path: Path, columns: Mapping[str, ColumnType], reading: ReadingOptions, size: int) -> Iterator[Part]:
    first = 0
    for part in read_parts(path, reading, size=size):
        cells = dict(zip(columns, part.columns, strict=True))
        arrays = {name: _array(path, name, cells[name], part.lines, columns[name], reading) for name in columns}
        yield Part(pa.table(arrays), cells, lambda row, lines=part.lines: f"line {lines[row]}", first)  # type: ignore[misc]
        first += len(part.lines)


def _array(
    path: Path, name: str, cells: list[str], lines: list[int], column: ColumnType, reading: ReadingOptions
) -> pa.Array:
    """The values of a column."""
    kind, arrow = column
    values: list[Any] = []
    for line, text in zip(lines, cells, strict=True):
        try:
            values.append(None if is_missing_cell(text, reading.words) else parse(text, kind, decimal=reading.decimal))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}, column {name!r}: {error}") from None
    if pa.types.is_integer(arrow) and any(isinstance(each, float) for each in values):
        arrow = pa.float64()  # fractions in a column that had none in training
    if pa.types.is_floating(arrow):
        values = [None if each is None else float(each) for each in values]
    try:
        return pa.array(values, type=arrow)
    except (pa.ArrowInvalid, OverflowError) as error:  # a time that does not fit its unit
        raise ValueError(
            f"{path}, line {lines[0]}, column {name!r}, or in a row up to line {lines[-1]}: {quoted(error)}"
        ) from None


def _parquet_parts(path: Path, missing: frozenset[str]) -> Iterator[Part]:
    first = 0
    with _naming(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_PART):
            table = _without_words(pa.Table.from_batches([batch]), missing)
            _check_finite(path, table, first)
            yield Part(table, None, lambda row, first=first: f"row {first + row + 1}", first)  # type: ignore[misc]
            first += len(table)


def _without_words(table: pa.Table, missing: frozenset[str]) -> pa.Table:
    """A table with null in place of each text and each number that is a word for a missing value."""
    words = pa.array(sorted(missing), pa.string())
    numbers = pa.array([float(word) for word in sorted(missing) if _is_number(word)], pa.float64())
    for place, field in enumerate(table.schema if missing else ()):
        kind, column = field.type, table.column(place)
        is_dictionary = pa.types.is_dictionary(kind)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            is_word = pc.is_in(column.cast(pa.float64(), safe=False), numbers)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_dictionary:
            is_word = pc.is_in(pc.utf8_trim_whitespace(column.cast(pa.string())), words)
        else:
            continue
        if pc.any(is_word).as_py():
            plain = column.cast(kind.value_type) if is_dictionary else column
            plain = pc.if_else(is_word, pa.scalar(None, plain.type), plain)
            table = table.set_column(place, field, plain.cast(kind))
    return table


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _check_finite(path: Path, table: pa.Table, first: int) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            too_large = np.abs(column.to_numpy().astype(np.float64)) > LARGEST
            if too_large.any():
                row = int(too_large.argmax())
                raise ValueError(
                    f"{path}, row {first + row + 1}, column {name!r}: holds {column[row]}; expected a finite number, up to "
                    f"{LARGEST:.0e} in size, or null"
                )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Starts an error of Arrow with the name of the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path}: not a readable Parquet file: {quoted(error)}") from None
