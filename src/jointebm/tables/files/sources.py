"""Reads tables from files, one part at a time: to fit to, or to answer questions about.

CSV (.csv, .csv.gz) and Parquet (.parquet) become Arrow tables. A file is checked from end to end before the first
question, so that a malformed row is found before any work is done. Memory holds one part at a time.

Legend: N rows of a part.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.chunks import ROWS_PER_CHUNK
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.cells import CellKind, Tally, parse
from jointebm.tables.files.csv_rows import read_header, read_parts
from jointebm.tables.files.missing_words import is_missing_cell
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.frames.reading import LARGEST

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
    is_parquet = path.suffix == ".parquet"
    names = _parquet_schema(path).names if is_parquet else read_header(path, reading)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{path}: unknown column {quoted(repr(unknown[0]))}; leave it out, for this model has "
            f"{quoted(', '.join(map(repr, known)))}"
        )
    if is_parquet:
        return Source(
            _parquet_schema(path),
            lambda: _parquet_rows(path),
            lambda rows: _parquet_parts(path, reading.words, rows),
        )
    columns = {name: type_of(name) for name in names}
    return Source(
        pa.schema({name: arrow for name, (_, arrow) in columns.items()}),
        lambda: sum(len(part.lines) for part in read_parts(path, reading, size=ROWS_PER_LOOK)),
        lambda rows: _csv_parts(path, columns, reading, ROWS_PER_PART, rows),
    )


def _overlap(first: int, num: int, rows: range | None) -> slice:
    """The places of the rows with these numbers among `num` rows from number `first` on; None is all."""
    if rows is None:
        return slice(0, num)
    return slice(min(max(rows.start - first, 0), num), min(max(rows.stop - first, 0), num))


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
    files = files_of(places)
    if files[0].suffix == ".parquet":
        return _parquet_tables(places, files, reading.words)
    columns = _found_in(files, kinds, reading)

    def read() -> Iterator[pa.Table]:
        for file in files:
            of_file = {name: columns[name] for name in read_header(file, reading)}
            for part in _csv_parts(file, of_file, reading, ROWS_PER_LOOK):
                yield part.table.select(list(columns))

    return Tables(pa.schema({name: arrow for name, (_, arrow) in columns.items()}), read)


def _parquet_tables(places: Sequence[Path], files: Sequence[Path], missing: frozenset[str]) -> Tables:
    for file in files:
        _parquet_schema(file)
    roots = {file: place for place in places for file in files if place.is_dir() and place in file.parents}
    partitioning, bounded = ds.partitioning(flavor="hive"), ds.ParquetFileFormat(pre_buffer=False)  # of whole files
    with _naming(files[0]):
        parts = [
            ds.dataset(
                file, format=bounded, partitioning=partitioning, partition_base_dir=str(roots.get(file, file.parent))
            )
            for file in files
        ]
    schema = parts[0].schema

    def read() -> Iterator[pa.Table]:
        for file, part in zip(files, parts, strict=True):
            with _naming(file):
                for batch in part.to_batches(batch_size=ROWS_PER_CHUNK, batch_readahead=1, use_threads=False):
                    yield _without_words(_in_schema(pa.Table.from_batches([batch]), schema, file), missing)

    return Tables(schema, read)


def _in_schema(table: pa.Table, schema: pa.Schema, file: Path) -> pa.Table:
    """A part of a file in the types of the first file."""
    if set(table.column_names) != set(schema.names):
        name = min(set(table.column_names) ^ set(schema.names))
        raise ValueError(f"{file}: column {name!r} is not in all files; leave it out, or add it to the others")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{file}: does not have the types of the first file: {quoted(error)}") from None


def _check_file(path: Path) -> None:
    """Raises unless the file can be read more than once."""
    check_ending(path)
    path.open("rb").close()
    if not path.is_file():
        raise ValueError(f"{path}: is not a regular file, and a table is read more than once; write it to a file first")


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


def _csv_parts(
    path: Path, columns: Mapping[str, ColumnType], reading: ReadingOptions, size: int, rows: range | None = None
) -> Iterator[Part]:
    """The rows of a file with these numbers; cells of others are not parsed."""
    first = 0
    for part in read_parts(path, reading, size=size):
        if rows is not None and first >= rows.stop:
            return
        held = _overlap(first, len(part.lines), rows)
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


def _parquet_rows(path: Path) -> int:
    with _naming(path), pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def _parquet_parts(path: Path, missing: frozenset[str], rows: range | None) -> Iterator[Part]:
    """The groups of rows of a file that hold rows with these numbers."""
    with _naming(path), pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        held = [g for g in range(len(sizes)) if rows is None or (ends[g] < rows.stop and ends[g + 1] > rows.start)]
        first = int(ends[held[0]]) if held else 0
        for batch in file.iter_batches(batch_size=ROWS_PER_PART, row_groups=held):
            inside = _overlap(first, len(batch), rows)
            start, num = first + inside.start, inside.stop - inside.start
            first += len(batch)
            if num:
                table = _without_words(pa.Table.from_batches([batch]).slice(inside.start, num), missing)
                _check_finite(path, table, start)
                yield Part(table, None, lambda row, start=start: f"row {start + row + 1}", start)  # type: ignore[misc]


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
