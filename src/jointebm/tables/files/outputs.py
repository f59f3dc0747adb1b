"""Writes tables as CSV or Parquet, one part at a time; a file appears whole or not at all."""

import codecs
import csv
import decimal
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
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import check_ending

__all__ = ["Write", "cell_text", "check_out", "collected", "csv_text", "written"]

Write = Callable[[pa.Table, Mapping[str, list[str]]], object]

ROWS_PER_GROUP = 1 << 16


def check_out(out: Path | None) -> None:
    """Raises unless a table can be written to this file; None is standard output."""
    if out is not None:
        check_ending(out)
        check_new(out)


@contextmanager
def written(out: Path | None, schema: pa.Schema, reading: ReadingOptions) -> Iterator[Write]:
    """Yields a function that writes a part of a table; CSV has the separator, decimal and encoding it is read with.

    The function takes the part, and the text of its cells in CSV for those columns where it differs from their values.
    A file appears when the block ends without an error.
    """
    if out is None:
        typer.echo(_line(schema.names, reading), nl=False)
        yield lambda part, texts: typer.echo(csv_text(part, texts, schema, reading), nl=False)
        return
    with ExitStack() as stack:
        file = stack.enter_context(new_file(out))
        if out.suffix == ".parquet":
            yield stack.enter_context(_parquet(file, out, schema))
            return
        if out.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0))  # type: ignore[assignment]
        encode = codecs.getincrementalencoder(reading.encoding)().encode  # a mark of byte order comes once
        file.write(_encoded(encode, _line(schema.names, reading), out, reading))
        yield lambda part, texts: file.write(_encoded(encode, csv_text(part, texts, schema, reading), out, reading))


@contextmanager
def collected(into: dict[str, list[Any]], schema: pa.Schema) -> Iterator[Write]:
    """Yields a function that collects parts as plain data for JSON."""
    into.update({name: [] for name in schema.names})

    def write(part: pa.Table, texts: Mapping[str, list[str]]) -> None:  # noqa: ARG001  # JSON takes the values
        for name in schema.names:
            into[name] += [
                each if each is None or isinstance(each, bool | int | float | str) else str(each)
                for each in part[name].to_pylist()
            ]

    yield write


def csv_text(part: pa.Table, texts: Mapping[str, list[str]], schema: pa.Schema, reading: ReadingOptions) -> str:
    """Rows as lines of CSV."""
    columns = [
        texts[field.name]
        if field.name in texts
        else [cell_text(each, field.type, reading) for each in part[field.name].to_pylist()]
        for field in schema
    ]
    return "".join(_line(row, reading) for row in zip(*columns, strict=True))


def _encoded(encode: Callable[[str], bytes], text: str, out: Path, reading: ReadingOptions) -> bytes:
    try:
        return encode(text)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{out}: {quoted(ascii(error.object[error.start : error.end]))} cannot be written as {reading.encoding}; write "
            "UTF-8 (--encoding utf-8) or Parquet"
        ) from None


def _line(cells: Any, reading: ReadingOptions) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n", delimiter=reading.separator).writerow(cells)
    return line.getvalue()


def cell_text(value: object, arrow: pa.DataType, reading: ReadingOptions) -> str:
    """A value as a cell; a missing one is empty, and a number of a column of whole numbers has no fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        plain = str(int(value)) if pa.types.is_integer(arrow) and value.is_integer() else repr(value)
        return plain.replace(".", reading.decimal)
    return str(value).replace(".", reading.decimal) if isinstance(value, decimal.Decimal) else str(value)


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
