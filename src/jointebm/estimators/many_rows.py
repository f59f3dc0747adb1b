"""Tables that `JointEBM.fit` reads in chunks: files, folders and streams."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import open_tables
from jointebm.tables.frames.interchange import is_read_once
from jointebm.tables.frames.table_rows import TableRows, rows_of_arrow, rows_of_stream

__all__ = ["many_rows", "require_table"]


def many_rows(table: Any, kinds: Mapping[Name, Kind], reading: ReadingOptions | None = None) -> TableRows | None:
    """The rows of a path, of several paths, or of a stream of Arrow; None if it is none of these.

    Args:
        table: what `fit` got.
        kinds: of columns; texts of CSV that are categories or ids are not read as numbers.
        reading: how cells of files are read; None is the default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is malformed, or files do not have the same columns; names the file and the reason.
    """
    paths = _paths(table)
    if paths is not None:
        tables = open_tables(
            paths,
            kinds={str(name): kind for name, kind in kinds.items()},
            reading=ReadingOptions() if reading is None else reading,
        )
        return rows_of_arrow(tables.schema, tables.read, is_repeatable=True, what=f"{paths[0]}: ")
    return rows_of_stream(table) if is_read_once(table) else None


def require_table(table: Any, argument: str) -> None:
    """Raises ValueError for a path or paths, whose rows are not at hand for a vector with an entry for each."""
    paths = _paths(table)
    if paths is not None:
        fix = "leave it out: all columns of files are fitted" if argument == "y" else "leave it out"
        raise ValueError(
            f"{argument}: X is {quoted(repr(str(paths[0])))}, which is read in chunks; {fix}, or pass a frame"
        )


def _paths(table: Any) -> list[Path] | None:
    if isinstance(table, str | os.PathLike):
        return [Path(table)]
    if isinstance(table, list | tuple) and table and all(isinstance(each, os.PathLike) for each in table):
        return [Path(each) for each in table]
    return None
