"""Parquet files: the rows of one in small parts, and those of many as one table.

Legend: N rows of a part.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.chunks import ROWS_PER_CHUNK
from jointebm.tables.files.row_ranges import overlap
from jointebm.tables.frames.reading import LARGEST

__all__ = ["num_parquet_rows", "parquet_parts", "parquet_schema", "parquet_tables"]

MISSING_FOLDER = "__HIVE_DEFAULT_PARTITION__"  # what engines call the folder of rows without a value


def parquet_schema(path: Path) -> pa.Schema:
    """The columns of a file.

    Raises:
        ValueError: it is no Parquet file, has no columns, or two with one name.
    """
    with _naming(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    for place, name in enumerate(schema.names):
        if schema.names.index(name) != place:
            raise ValueError(f"{path}: duplicate column {name!r}; rename one of them")
    if not schema.names:
        raise ValueError(f"{path}: has no columns")
    return schema


def num_parquet_rows(path: Path) -> int:
    """The number of rows of a file."""
    with _naming(path), pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def parquet_parts(
    path: Path, missing: frozenset[str], rows: range | None, *, size: int
) -> Iterator[tuple[pa.Table, int]]:
    """The rows of a file with these numbers, in tables of at most `size`, each with the number of its first row.

    Groups of rows that hold none of them are skipped.

    Raises:
        ValueError: the file is damaged, or a number is not finite; names the row.
    """
    with _naming(path), pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        held = [g for g in range(len(sizes)) if rows is None or (ends[g] < rows.stop and ends[g + 1] > rows.start)]
        first = int(ends[held[0]]) if held else 0
        for batch in file.iter_batches(batch_size=size, row_groups=held):
            inside = overlap(first, len(batch), rows)
            start, num = first + inside.start, inside.stop - inside.start
            first += len(batch)
            if num:
                table = _without_words(pa.Table.from_batches([batch]).slice(inside.start, num), missing)
                _check_finite(path, table, start)
                yield table, start


def parquet_tables(
    files: Mapping[Path, Path], missing: frozenset[str]
) -> tuple[pa.Schema, dict[Path, Callable[[], Iterator[pa.Table]]]]:
    """The schema of files as one table, and what reads each of them, in tables of at most a chunk.

    Names of folders such as year=2024 are columns: of whole numbers if they are in all files, else of text. A column has the
    type that holds the values of all files, and the place that it has in the first.

    Args:
        files: each with the folder that it was found in, below which names of folders count.
        missing: words for a missing value.

    Raises:
        ValueError: a file is damaged, lacks a column of another one, or has types that do not go together; names it.
    """
    folders = {file: _folder_names(file.relative_to(root).parent) for file, root in files.items()}
    names = set().union(*folders.values())
    kinds = {name: _kind([each[name] for each in folders.values() if name in each]) for name in names}
    parts = {}
    for file, root in files.items():
        parquet_schema(file)
        named = pa.schema([(name, kinds[name]) for name in folders[file]])
        with _naming(file):
            parts[file] = ds.dataset(
                file,
                format=ds.ParquetFileFormat(pre_buffer=False),  # of whole files
                partitioning=ds.partitioning(named, flavor="hive") if folders[file] else None,
                partition_base_dir=str(root),
            )
    schema = _common({file: part.schema for file, part in parts.items()})

    def read(file: Path) -> Iterator[pa.Table]:
        with _naming(file):
            for batch in parts[file].to_batches(batch_size=ROWS_PER_CHUNK, batch_readahead=1, use_threads=False):
                yield _without_words(_in_schema(pa.Table.from_batches([batch]), schema, file), missing)

    return schema, {file: partial(read, file) for file in files}


def _folder_names(folder: Path) -> dict[str, str]:
    """Names and values of folders such as year=2024."""
    return {name: value for name, found, value in (each.partition("=") for each in folder.parts) if found}


def _kind(values: Sequence[str]) -> pa.DataType:
    """The type of the values of a folder."""
    whole = all(re.fullmatch("-?[0-9]{1,18}", value) for value in values if value != MISSING_FOLDER)
    return pa.int64() if whole else pa.string()


def _common(schemas: Mapping[Path, pa.Schema]) -> pa.Schema:
    """The types that hold the values of all files."""
    (first, known), *others = schemas.items()
    types = {field.name: (field.type, first) for field in known}
    for file, schema in others:
        if set(schema.names) != set(known.names):
            name = min(set(schema.names) ^ set(known.names))
            raise ValueError(f"{file}: column {name!r} is not in all files; leave it out, or add it to the others")
        for name in known.names:
            before, found = types[name][0], schema.field(name).type
            joined = _joined(before, found)
            if joined is None:
                raise ValueError(
                    f"{file}: column {name!r} holds {found}, which does not go together with {before} in "
                    f"{types[name][1]}; write both files with one type"
                )
            if joined != before:
                types[name] = joined, file
    return pa.schema([(name, kind) for name, (kind, _) in types.items()])


def _joined(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both; None if none does."""
    if one == two:
        return one
    one, two = (each.value_type if pa.types.is_dictionary(each) else each for each in (one, two))
    try:
        return pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", two)])], promote_options="permissive").types[0]
    except pa.ArrowException:
        return None


def _in_schema(table: pa.Table, schema: pa.Schema, file: Path) -> pa.Table:
    """A part of a file in the types of all files."""
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{file}: a value does not fit the types of the other files: {quoted(error)}") from None


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
