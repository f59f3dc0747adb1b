"""A file that is read twice and changes in between is refused by its name."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import open_source, open_tables
from jointebm.tables.files.unchanged import stamp_of, unchanged

ROWS = pa.table({"a": pa.array(range(5000))})
CHANGED = "rows.*: was changed while it was read"


def write(path: Path, rows: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        rows.to_pandas().to_csv(path, index=False)


def rewrite(path: Path) -> None:
    write(path, ROWS.slice(1))


def replace(path: Path) -> None:
    """By a file of the same content, as far as size and time tell."""
    found = path.stat()
    write(path.with_name("new" + path.suffix), ROWS)
    path.with_name("new" + path.suffix).rename(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
@pytest.mark.parametrize("change", [rewrite, replace])
def test_a_change_between_two_passes_is_refused(change: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, ROWS)
    tables = open_tables([path], kinds={}, reading=ReadingOptions())
    source = open_source(path, ["a"], lambda _: ("whole", pa.int64()), ReadingOptions())
    for _ in range(2):
        assert sum(map(len, tables.read())) == sum(len(part.table) for part in source.parts(None)) == len(ROWS)
    change(path)
    with pytest.raises(ValueError, match=CHANGED):
        next(tables.read())
    with pytest.raises(ValueError, match=CHANGED):
        next(source.parts(None))


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_change_during_a_pass_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path, ROWS)
    source = open_source(path, ["a"], lambda _: ("whole", pa.int64()), ReadingOptions())
    parts = source.parts(None)
    next(parts)
    rewrite(path)
    with pytest.raises(ValueError, match=CHANGED):
        list(parts)


def test_a_reader_that_stops_early_does_not_look_at_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write(path, ROWS)
    parts = open_source(path, ["a"], lambda _: ("whole", pa.int64()), ReadingOptions()).parts(None)
    assert next(parts).first == 0
    path.unlink()
    assert parts.close() is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(("changes", "message"), [(True, CHANGED), (False, "line 7: damaged")])
def test_a_file_that_changes_is_not_called_damaged(changes: bool, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write(path, ROWS)

    @unchanged(path, stamp_of(path))
    def read() -> None:
        if changes:
            rewrite(path)
        raise ValueError("line 7: damaged")

    with pytest.raises(ValueError, match=message):
        read()
