"""Writes tables as CSV or Parquet, one part at a time; a file appears whole or not at all."""

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from jointebm.storage.atomic import check_new, new_file
from jointebm.storage.untrusted import quoted
from jointebm.tables.files.sources import check_ending

__all__ = ["Write", "cell_text", "check_out", "collected", "csv_text", "written"]

Write = Callable[[pa.Table, Mapping[str, list[str]]], None]

ROWS_PER_GROUP = 1 << 16


def check_out(out: Path | None) -> None:
    """Raises unless a table can be written to this file; None is standard output."""
    if out is not None:
        check_ending(out)
        check_new(out)


@contextmanager
def written(out: Path | None, schema: pa.Schema) -> Iterator[Write]:
    """Yields a function that writes a part of a table.

    The function takes the part, and the text of its cells in CSV for those columns where it differs from their values.
    A file appears when the block ends without an error.

    Args:
        out: the file; None is CSV on standard output.
        schema: schema of all parts.
    """
    if out is None:
        typer.echo(_line(schema.names), nl=False)
        yield lambda part, texts: typer.echo(csv_text(part, texts, schema), nl=False)
        return
    with ExitStack() as stack:
        file = stack.enter_context(new_file(out))
        if out.suffix == ".parquet":
            yield stack.enter_context(_parquet(file, out, schema))
            return
        if out.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0))  # type: ignore[assignment]
        file.write(_line(schema.names).encode())
        packed = file

        def write(part: pa.Table, texts: Mapping[str, list[str]]) -> None:
            packed.write(csv_text(part, texts, schema).encode())

        yield write


@contextmanager
def collected(into: dict[str, list[Any]], schema: pa.Schema) -> Iterator[Write]:
    """Yields a function that collects parts as plain data for JSON."""
    into.update({name: [] for name in schema.names})

    def write(part: pa.Table, texts: Mapping[str, list[str]]) -> None:  # noqa: ARG001  # JSON takes the values
        for name in schema.names:
            into[name] += [_plain(each) for each in part[name].to_pylist()]

    yield write


def csv_text(part: pa.Table, texts: Mapping[str, list[str]], schema: pa.Schema) -> str:
    """Rows as lines of CSV.

    Args:
        part: the rows.
        texts: text of the cells of some columns.
        schema: schema of the whole table; its columns of whole numbers are written without fractions.

    Example:
        >>> table = pa.table({"a": [1.0, None], "b": ["x, y", "z"]})
        >>> print(csv_text(table, {}, table.schema), end="")
        1.0,"x, y"
        ,z
    """
    columns = [
        texts[field.name]
        if field.name in texts
        else [cell_text(each, field.type) for each in part[field.name].to_pylist()]
        for field in schema
    ]
    return "".join(_line(row) for row in zip(*columns, strict=True))


def _line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def cell_text(value: object, arrow: pa.DataType) -> str:
    """A value as a cell; a missing one is empty, and a number of a column of whole numbers has no fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if pa.types.is_integer(arrow) and value.is_integer() else repr(value)
    return str(value)


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


@contextmanager
def _parquet(file: BinaryIO, out: Path, schema: pa.Schema) -> Iterator[Write]:
    """Writes row groups of many parts each; a file of small groups is slow to read."""
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(file, schema) as writer:

        def write(part: pa.Table, texts: Mapping[str, list[str]]) -> None:  # noqa: ARG001  # Parquet takes the values
            waiting.append(_typed(part, schema, out))
            if sum(map(len, waiting)) >= ROWS_PER_GROUP:
                flush()

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()

        yield write
        flush()


def _typed(part: pa.Table, schema: pa.Schema, out: Path) -> pa.Table:
    """Rows in the types of the whole table."""
    columns = []
    for field in schema:
        column, arrow = part[field.name], field.type
        try:
            if pa.types.is_dictionary(arrow) and column.type != arrow:
                plain = column.cast(arrow.value_type)
                column = pa.chunked_array([chunk.dictionary_encode() for chunk in plain.chunks], arrow)
            columns.append(column.cast(arrow))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
            raise ValueError(
                f"{out}: column {field.name!r}: a value does not fit its type, {arrow}: {quoted(error)}; write CSV instead"
            ) from None
    return pa.table(columns, schema=schema)
