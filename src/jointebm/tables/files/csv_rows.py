"""Rows of a CSV file in parts, each with the line it begins at; what is malformed is named by file, line and column."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jointebm.storage.untrusted import quoted

__all__ = ["CsvPart", "read_header", "read_parts"]


class CsvPart(NamedTuple):
    """Some rows, as text.

    Args:
        lines: line of the file at which each row begins, counted from 1.
        columns: cells of each column.
    """

    lines: list[int]
    columns: list[list[str]]


def read_header(path: Path) -> list[str]:
    """Names of the columns: the first line.

    Raises:
        ValueError: there is none, or a name stands there twice or is empty, or it is not separated by commas.
    """
    with _opened(path) as file:
        for _, header in _rows(file, path):
            for place, name in enumerate(header):
                if not name.strip():
                    rows = "if it numbers the rows, leave it out: pandas' to_csv(..., index=False)"
                    way_out = "the first line names the columns" if place else rows
                    raise ValueError(f"{path}, line 1: column {place + 1} has no name; {way_out}")
                if header.index(name) != place:
                    raise ValueError(f"{path}, line 1: column {name!r} stands there twice; rename one of them")
            if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
                raise ValueError(
                    f"{path}, line 1: has one column, called {quoted(repr(header[0]))}; cells are separated by commas: "
                    "convert the file, or rename its column"
                )
            return header
    raise ValueError(f"{path}: is empty; the first line names the columns")


def read_parts(path: Path, *, size: int) -> Iterator[CsvPart]:
    """The rows behind the header, `size` at a time.

    Raises:
        ValueError: a row is malformed, with file, line and column.
    """
    with _opened(path) as file:
        rows = _rows(file, path)
        _, header = next(rows)
        lines: list[int] = []
        cells: list[list[str]] = []
        for line, row in rows:
            if len(row) != len(header):
                raise ValueError(f"{path}, line {line}, {_misfit(row, header)}")
            lines.append(line)
            cells.append(row)
            if len(cells) == size:
                yield CsvPart(lines, [list(column) for column in zip(*cells, strict=True)])
                lines, cells = [], []
        if cells:
            yield CsvPart(lines, [list(column) for column in zip(*cells, strict=True)])


def _misfit(row: list[str], header: list[str]) -> str:
    if len(row) < len(header):
        return (
            f"column {header[len(row)]!r}: missing from the row, which has {len(row)} cells where the header names "
            f"{len(header)}; leave a cell empty where there is no value"
        )
    return (
        f"column {len(header) + 1}: the row has {len(row)} cells where the header names {len(header)}, and the first too "
        f"many is {quoted(repr(row[len(header)]))}; put text with commas in quotes"
    )


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    """The text of a file, unpacked if its name ends in .gz."""
    try:
        with path.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            # Bytes that are no UTF-8 come as surrogates, so that their line can be named.
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unpacked: {error}") from None


def _rows(file: io.TextIOBase, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line it begins at; blank lines are skipped but in a table of one column."""
    reader = csv.reader(file, strict=True)
    line, header = 1, list[str]()
    try:
        for row in reader:
            if not row and len(header) == 1:
                row = [""]  # how a missing cell looks in a table of one column
            if row:
                _check_text(row, path, line, header)
                header = header or row
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: the row that begins there is no CSV: {error}") from None


def _check_text(row: list[str], path: Path, line: int, header: list[str]) -> None:
    for place, text in enumerate(row):
        if text.isprintable():  # what most cells are, and what neither NUL nor a surrogate is
            continue
        column = repr(header[place]) if place < len(header) else str(place + 1)
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise ValueError(
                f"{path}, line {line}, column {column}: {quoted(ascii(text))} is not UTF-8; convert the file"
            )
        if "\0" in text:
            raise ValueError(
                f"{path}, line {line}, column {column}: {quoted(ascii(text))} holds NUL, which no text does; the file is "
                "damaged, or not UTF-8"
            )
