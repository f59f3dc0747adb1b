"""Reads the rows of a CSV file in parts, with their line numbers; errors name file, line and column."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from jointebm.storage.untrusted import quoted
from jointebm.tables.files.reading_options import ReadingOptions

__all__ = ["CsvPart", "read_header", "read_parts"]


class CsvPart(NamedTuple):
    """Some rows, as text."""

    lines: list[int]  # where each row begins, counted from 1
    columns: list[list[str]]  # cells of each column


def read_header(path: Path, reading: ReadingOptions) -> list[str]:
    """Names of the columns: the first line."""
    with _opened(path, reading) as file:
        for _, header in _rows(file, path, reading):
            for place, name in enumerate(header):
                if not name.strip():
                    numbers = "if it numbers the rows, leave it out: pandas' to_csv(..., index=False)"
                    fix = "the first line names the columns" if place else numbers
                    raise ValueError(f"{path}, line 1: column {place + 1} has no name; {fix}")
                if header.index(name) != place:
                    raise ValueError(f"{path}, line 1: duplicate column {name!r}; rename one of them")
            if len(header) == 1 and (found := [each for each in (";", "\t", "|", ",") if each in header[0]]):
                name = "tab" if found[0] == "\t" else f"'{found[0]}'"
                raise ValueError(
                    f"{path}, line 1: got one column, {quoted(repr(header[0]))}; name what separates its cells "
                    f"(--separator {name}), or rename the column"
                )
            return header
    raise ValueError(f"{path}: is empty; expected a first line with the names of the columns")


def read_parts(path: Path, reading: ReadingOptions, *, size: int) -> Iterator[CsvPart]:
    """The rows after the header, `size` at a time."""
    with _opened(path, reading) as file:
        rows = _rows(file, path, reading)
        next(rows)  # the header
        while part := list(islice(rows, size)):
            lines, cells = zip(*part, strict=True)
            yield CsvPart(list(lines), [list(column) for column in zip(*cells, strict=True)])


def _misfit(row: list[str], header: list[str]) -> str:
    if len(row) < len(header):
        return (
            f"column {header[len(row)]!r}: the row has {len(row)} cells, but the header names {len(header)} columns; leave "
            "a cell empty where a value is missing"
        )
    return (
        f"column {len(header) + 1}: the row has {len(row)} cells, but the header names {len(header)} columns; the first "
        f"extra cell is {quoted(repr(row[len(header)]))}; put text with separators in quotes"
    )


@contextmanager
def _opened(path: Path, reading: ReadingOptions) -> Iterator[io.TextIOBase]:
    """The text of a file, unpacked if its name ends in .gz."""
    try:
        with path.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            # Bytes that are not in the encoding become surrogates, so that an error can name their line.
            encoding = "utf-8-sig" if reading.encoding == "utf-8" else reading.encoding
            with io.TextIOWrapper(unpacked, encoding=encoding, errors="surrogateescape", newline="") as file:
                yield file
    except UnicodeError as error:  # of encodings whose characters are no bytes
        raise ValueError(f"{path}: is not {reading.encoding}: {error}; name its encoding with --encoding") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unpacked: {error}") from None


def _rows(file: io.TextIOBase, path: Path, reading: ReadingOptions) -> Iterator[tuple[int, list[str]]]:
    """Each row with its line; blank lines are skipped, except in a table of one column."""
    reader = csv.reader(file, strict=True, delimiter=reading.separator)
    line, header = 1, list[str]()
    try:
        for row in reader:
            if not row and len(header) == 1:
                row = [""]  # a missing cell in a table of one column
            if row:
                _check_text(row, f"{path}, line {line}", header, reading)
                header = header or row
                if len(row) != len(header):
                    raise ValueError(f"{path}, line {line}, {_misfit(row, header)}")
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: the row that begins here is not valid CSV: {error}") from None


def _check_text(row: list[str], where: str, header: list[str], reading: ReadingOptions) -> None:
    for place, text in enumerate(row):
        if text.isprintable():  # true of most cells, and of neither NUL nor a surrogate
            continue
        column = repr(header[place]) if place < len(header) else str(place + 1)
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise ValueError(
                f"{where}, column {column}: {quoted(ascii(text))} is not {reading.encoding.upper()}; name the file's "
                "encoding (--encoding), or convert it"
            )
        if "\0" in text:
            raise ValueError(
                f"{where}, column {column}: {quoted(ascii(text))} holds a NUL character; the file is damaged, or not "
                f"{reading.encoding.upper()}"
            )
