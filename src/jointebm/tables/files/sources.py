"""Reads tables from files, one part at a time: to fit to, or to answer questions about.

CSV (.csv, .csv.gz) and Parquet (.parquet) become Arrow tables. A file is checked from end to end before the first
question, so that a malformed row is found before any work is done. Memory holds one part at a time.

Legend: N rows of a part.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.cells import CellKind, Tally, parse
from jointebm.tables.files.csv_rows import read_header, read_parts
from jointebm.tables.files.missing_words import is_missing_cell
from jointebm.tables.files.parquet_files import num_parquet_rows, parquet_parts, parquet_schema, parquet_tables
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.row_ranges import overlap
from jointebm.tables.files.unchanged import stamp_of, unchanged

__all__ = ["ColumnType", "Part", "Source", "Tables", "check_ending", "files_of", "open_source", "open_tables"]

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
    num_rows: Callable[[], int]
    parts: Callable[[range | None], Iterator[Part]]  # reads the rows with these numbers; None is all


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
    stamp, is_parquet = stamp_of(path), path.suffix == ".parquet"
    schema = parquet_schema(path) if is_parquet else None
    names = read_header(path, reading) if schema is None else schema.names
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{path}: unknown column {quoted(repr(unknown[0]))}; leave it out, for this model has "
            f"{quoted(', '.join(map(repr, known)))}"
        )
    columns = {name: type_of(name) for name in names} if schema is None else {}  # Parquet tells the types itself

    def num_rows() -> int:
        if is_parquet:
            return num_parquet_rows(path)
        return sum(len(part.lines) for part in read_parts(path, reading, size=ROWS_PER_LOOK))

    def parts(rows: range | None) -> Iterator[Part]:
        with unchanged(path, stamp):
            if is_parquet:
                yield from _numbered_parts(path, reading.words, rows)
            else:
                yield from _csv_parts(path, columns, reading, ROWS_PER_PART, rows)

    of_cells = pa.schema({name: arrow for name, (_, arrow) in columns.items()})
    return Source(of_cells if schema is None else schema, num_rows, parts)


class Tables(NamedTuple):
    """The rows of one or several files, in tables of Arrow of one schema."""

    schema: pa.Schema
    read: Callable[[], Iterator[pa.Table]]  # from the beginning


def files_of(places: Sequence[Path]) -> list[Path]:
    """The files of tables and folders, sorted by their names; a folder stands for all tables in it and below it.

    Raises:
        ValueError: no such file, a file that is given twice, or files of different kinds.
    """
    found: list[Path] = []
    for place in places:
        inside = [place]
        if place.is_dir():
            inside = [each for each in place.rglob("*") if each.name.endswith(ENDINGS) and each.name[0] not in "._"]
            if not inside:
                raise ValueError(f"{place}: holds no table; expected files whose names end in {', '.join(ENDINGS)}")
        found += inside
    if not found:
        raise ValueError("got no file; name at least one table")
    for each, count in Counter(found).items():
        _check_file(each)
        if count > 1:
            raise ValueError(
                f"{each}: is given twice, by its name or by its folder; give it once, or rows count double"
            )
    if len({each.suffix == ".parquet" for each in found}) > 1:
        raise ValueError(f"{found[0]}: is read with files of another kind; give either Parquet or CSV")
    return sorted(found, key=str)


def open_tables(places: Sequence[Path], *, kinds: Mapping[str, Kind], reading: ReadingOptions) -> Tables:
    """Opens files and folders as one table; the kinds of its columns in CSV are inferred from all their cells.

    In a folder of Parquet files, names of folders such as year=2024 are a column.
    """
    stamps = {file: stamp_of(file) for file in files_of(places)}
    files = list(stamps)
    if files[0].suffix == ".parquet":
        roots = {file: place for place in places for file in files if place.is_dir() and place in file.parents}
        schema, readers = parquet_tables({file: roots.get(file, file.parent) for file in files}, reading.words)
    else:
        columns = _found_in(files, kinds, reading)
        schema = pa.schema({name: arrow for name, (_, arrow) in columns.items()})
        readers = {file: partial(_csv_tables, file, columns, reading) for file in files}

    def read() -> Iterator[pa.Table]:
        for file, stamp in stamps.items():
            with unchanged(file, stamp):
                yield from readers[file]()

    return Tables(schema, read)


def _check_file(path: Path) -> None:
    """Raises unless the file can be read more than once."""
    check_ending(path)
    path.open("rb").close()
    if not path.is_file():
        raise ValueError(f"{path}: is not a regular file, and a table is read more than once; write it to a file first")


_ARROW: dict[CellKind, pa.DataType] = {
    "whole": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "zoned": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
}


def _found_in(files: Sequence[Path], kinds: Mapping[str, Kind], reading: ReadingOptions) -> dict[str, ColumnType]:
    """The types of the columns of CSV files, from their cells."""
    tallies = {name: Tally(decimal=reading.decimal) for name in read_header(files[0], reading)}
    for path in files:
        names = read_header(path, reading)
        if set(names) != tallies.keys():
            name = min(set(names) ^ tallies.keys())
            raise ValueError(f"{path}: column {name!r} is not in all files; leave it out, or add it to the others")
        for part in read_parts(path, reading, size=ROWS_PER_LOOK):
            for name, cells in zip(names, part.columns, strict=True):
                if kinds.get(name) not in ("categorical", "id"):
                    for line, text in zip(part.lines, cells, strict=True):
                        if not is_missing_cell(text, reading.words):
                            tallies[name].add(text, line, str(path))
    found: dict[str, ColumnType] = {}
    for name, tally in tallies.items():
        if kinds.get(name) in ("categorical", "id"):
            found[name] = ("text", pa.string())
            continue
        kind = tally.kind(f"column {name!r}")
        kind = "real" if kinds.get(name) == "numeric" and kind == "text" else kind
        found[name] = ("text", pa.null()) if kind is None else (kind, _ARROW[kind])
    return found


def _csv_tables(file: Path, columns: Mapping[str, ColumnType], reading: ReadingOptions) -> Iterator[pa.Table]:
    """The rows of one of several files, whose columns may stand in another order."""
    of_file = {name: columns[name] for name in read_header(file, reading)}
    for part in _csv_parts(file, of_file, reading, ROWS_PER_LOOK):
        yield part.table.select(list(columns))


def _numbered_parts(path: Path, missing: frozenset[str], rows: range | None) -> Iterator[Part]:
    for table, first in parquet_parts(path, missing, rows, size=ROWS_PER_PART):
        yield Part(table, None, lambda row, first=first: f"row {first + row + 1}", first)  # type: ignore[misc]


def _csv_parts(
    path: Path, columns: Mapping[str, ColumnType], reading: ReadingOptions, size: int, rows: range | None = None
) -> Iterator[Part]:
    """The rows of a file with these numbers; cells of others are not parsed."""
    first = 0
    for part in read_parts(path, reading, size=size):
        if rows is not None and first >= rows.stop:
            return
        held = overlap(first, len(part.lines), rows)
        lines = part.lines[held]
        if lines:
            cells = {name: column[held] for name, column in zip(columns, part.columns, strict=True)}
            arrays = {name: _array(path, name, cells[name], lines, columns[name], reading) for name in columns}
            yield Part(pa.table(arrays), cells, lambda row, lines=lines: f"line {lines[row]}", first + held.start)  # type: ignore[misc]
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
