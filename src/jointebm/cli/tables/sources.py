"""Tables in files: the whole of one to fit to, or a part at a time to be asked about.

CSV (.csv, .csv.gz) and Parquet (.parquet) become Arrow tables. Nothing is asked before the whole file has been looked
through, so that a malformed row is found before any work is done; at no time is more of it in memory than one part.

Legend: N rows of a part.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jointebm.cli.tables.cells import CellKind, Tally, is_missing, parse
from jointebm.cli.tables.csv_rows import CsvPart, read_header, read_parts
from jointebm.tables.columns import Kind
from jointebm.untrusted import quoted

__all__ = ["Part", "Source", "check_ending", "open_source", "read_whole"]

ROWS_AT_ONCE = 1024  # of a part: some seconds of work, and so many more rows of memory for each worker
ROWS_AT_A_LOOK = 16384
ENDINGS = (".csv", ".csv.gz", ".parquet")


class Part(NamedTuple):
    """Some rows.

    Args:
        table: their values.
        cells: of a CSV file, the text of each cell by column.
        places: where in the file each row is, for messages.
    """

    table: pa.Table
    cells: Mapping[str, list[str]] | None
    places: Callable[[int], str]


@dataclass(frozen=True)
class Source:
    """A table in a file that can be read again and again.

    Args:
        path: of the file.
        names: of its columns.
        schema: of its columns, in Arrow's types.
        parts: reads it from the beginning.
    """

    path: Path
    names: tuple[str, ...]
    schema: pa.Schema
    parts: Callable[[], Iterator[Part]]


def check_ending(path: Path) -> None:
    """Raises unless a file's name says what is in it."""
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{path}: ends in {path.suffix or 'nothing'!r}, expected {', '.join(ENDINGS)}")


def open_source(path: Path, types: Mapping[str, tuple[CellKind, pa.DataType]], *, missing: frozenset[str]) -> Source:
    """A table whose columns are known.

    Args:
        path: of the file.
        types: of the columns that there may be, for CSV.
        missing: texts that stand for a missing value in CSV, beside the usual ones.

    Raises:
        ValueError: it cannot be read, or has a column that is not known.
    """
    check_ending(path)
    if path.suffix == ".parquet":
        with _naming(path), pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        names = tuple(schema.names)
    else:
        names = tuple(read_header(path))
        schema = None
    unknown = [name for name in names if name not in types]
    if unknown:
        raise ValueError(
            f"{path}: column {quoted(repr(unknown[0]))} is not one of this model's, which are "
            f"{quoted(', '.join(map(repr, types)))}; leave it out"
        )
    if schema is not None:
        return Source(path, names, schema, lambda: _parquet_parts(path))
    columns = {name: types[name] for name in names}
    schema = pa.schema([(name, arrow) for name, (_, arrow) in columns.items()])
    return Source(path, names, schema, lambda: _csv_parts(path, columns, missing, ROWS_AT_ONCE))


def read_whole(path: Path, *, kinds: Mapping[str, Kind], missing: frozenset[str]) -> pa.Table:
    """All rows, to fit to; the columns of a CSV file hold what all their cells are.

    Args:
        path: of the file.
        kinds: what is known of some columns: "categorical" and "id" take text as it is.
        missing: texts that stand for a missing value in CSV, beside the usual ones.

    Raises:
        ValueError: it cannot be read, or a cell is malformed, with file, line and column.
    """
    check_ending(path)
    if path.suffix == ".parquet":
        with _naming(path):
            return pq.read_table(path)
    columns = _found_in(path, kinds, missing)
    parts = [part.table for part in _csv_parts(path, columns, missing, ROWS_AT_A_LOOK)]
    schema = pa.schema([(name, arrow) for name, (_, arrow) in columns.items()])
    return pa.concat_tables([schema.empty_table(), *parts])


_ARROW: dict[CellKind, pa.DataType] = {
    "whole": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "zoned": pa.timestamp("us", tz="UTC"),
    "text": pa.string(),
}


def _found_in(
    path: Path, kinds: Mapping[str, Kind], missing: frozenset[str]
) -> dict[str, tuple[CellKind, pa.DataType]]:
    """What the columns of a CSV file hold."""
    names = read_header(path)
    tallies = [Tally() for _ in names]
    for part in read_parts(path, size=ROWS_AT_A_LOOK):
        for name, tally, cells in zip(names, tallies, part.columns, strict=True):
            if kinds.get(name) not in ("categorical", "id"):
                for line, text in zip(part.lines, cells, strict=True):
                    if not is_missing(text, missing):
                        tally.add(text, line)
    found: dict[str, tuple[CellKind, pa.DataType]] = {}
    for name, tally in zip(names, tallies, strict=True):
        if kinds.get(name) in ("categorical", "id"):
            found[name] = ("text", pa.string())
            continue
        kind = tally.kind(f"{path}, column {name!r}")
        if kinds.get(name) == "numeric" and kind == "text":
            kind = "real"
        found[name] = ("text", pa.null()) if kind is None else (kind, _ARROW[kind])
    return found


def _csv_parts(
    path: Path, columns: Mapping[str, tuple[CellKind, pa.DataType]], missing: frozenset[str], size: int
) -> Iterator[Part]:
    for part in read_parts(path, size=size):
        arrays = {
            name: _array(path, name, part, cells, *columns[name], missing)
            for name, cells in zip(columns, part.columns, strict=True)
        }
        cells = dict(zip(columns, part.columns, strict=True))
        yield Part(pa.table(arrays), cells, lambda row, lines=part.lines: f"line {lines[row]}")  # type: ignore[misc]


def _array(
    path: Path,
    name: str,
    part: CsvPart,
    cells: list[str],
    kind: CellKind,
    arrow: pa.DataType,
    missing: frozenset[str],
) -> pa.Array:
    values: list[Any] = []
    for line, text in zip(part.lines, cells, strict=True):
        try:
            values.append(None if is_missing(text, missing) else parse(text, kind))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}, column {name!r}: {error}") from None
    if pa.types.is_integer(arrow) and any(isinstance(each, float) for each in values):
        arrow = pa.float64()  # a part may hold fractions where there were none in training
    try:
        return pa.array(values, type=arrow)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise ValueError(
            f"{path}, lines {part.lines[0]} to {part.lines[-1]}, column {name!r}: {quoted(error)}"
        ) from None


def _parquet_parts(path: Path) -> Iterator[Part]:
    first = 0
    with _naming(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            table = pa.Table.from_batches([batch])
            _check_finite(path, table, first)
            yield Part(table, None, lambda row, first=first: f"row {first + row + 1}")  # type: ignore[misc]
            first += len(table)


def _check_finite(path: Path, table: pa.Table, first: int) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            infinite = np.isinf(column.to_numpy().astype(np.float64))
            if infinite.any():
                row = first + int(infinite.argmax()) + 1
                raise ValueError(
                    f"{path}, row {row}, column {name!r}: holds infinity; expected a finite number, or null"
                )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Says which file Arrow could not read."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(f"{path}: not a Parquet file that can be read: {quoted(error)}") from None
