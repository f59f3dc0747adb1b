"""Files of tables, read and written: odd ones, large ones, and commands that are stopped."""

import csv
import datetime
import decimal
import errno
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.estimators import JointEBM, row_jobs
from jointebm.tables.files import outputs, sources
from support.command_line import run
from support.pet_table import QUICK, write_csv


def test_parquet_round_trips_every_type(tmp_path: Path) -> None:
    num, holes = 60, np.arange(60) % 5 == 0
    start = datetime.datetime(2024, 2, 28, 12, tzinfo=datetime.UTC)
    times = [None if hole else start + datetime.timedelta(hours=i) for i, hole in enumerate(holes)]
    columns = {
        "category": pa.array([None if h else "ab"[i % 2] for i, h in enumerate(holes)]).dictionary_encode(),
        "zoned": pa.array(times, pa.timestamp("ms", tz="Europe/Vienna")),
        "nanoseconds": pa.array(times, pa.timestamp("ns", tz="UTC")).cast(pa.timestamp("ns")),
        "length": pa.array(
            [None if h else datetime.timedelta(minutes=i) for i, h in enumerate(holes)], pa.duration("s")
        ),
        "small": pa.array([None if h else i % 3 for i, h in enumerate(holes)], pa.uint8()),
        "single": pa.array([None if h else i / 4 for i, h in enumerate(holes)], pa.float32()),
        "money": pa.array([None if h else decimal.Decimal(i) / 4 for i, h in enumerate(holes)], pa.decimal128(9, 2)),
        "text": pa.array([None if h else "xyz"[i % 3] for i, h in enumerate(holes)], pa.large_string()),
        "flag": pa.array([None if h else i % 2 == 0 for i, h in enumerate(holes)]),
        "nothing": pa.nulls(num),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "t.parquet")
    assert run("fit", tmp_path / "t.parquet", "--out", tmp_path / "m", *QUICK).code == 0
    result = run("impute", tmp_path / "m", tmp_path / "t.parquet", "--out", tmp_path / "f.parquet")
    assert result.code == 0, result.err
    filled = pq.read_table(tmp_path / "f.parquet")
    for name in columns:
        if name != "nothing":
            assert filled.schema.field(name).type == table.schema.field(name).type
            assert filled[name].null_count == 0
            assert filled[name].filter(pa.array(~holes)).to_pylist() == table[name].filter(pa.array(~holes)).to_pylist()
    assert run("sample", tmp_path / "m", "--num", 5, "--out", tmp_path / "s.parquet").code == 0
    assert pq.read_table(tmp_path / "s.parquet").schema.field("zoned").type == pa.timestamp("ms", tz="Europe/Vienna")
    write_csv(tmp_path / "t.csv", [["length"], ["0:01:00"]])
    refused = run("score", tmp_path / "m", tmp_path / "t.csv")
    assert refused.code == 2 and "column 'length' holds durations, which CSV does not tell" in refused.err


def test_unusual_csv_is_read(tmp_path: Path) -> None:
    """A byte order mark, line breaks in quotes, blank lines, carriage returns, spaces around numbers, own missing text."""
    body = "".join(f'"{"ab"[i % 2]}\n, ""q""", {i % 7}.5 ,{"?" if i % 3 == 0 else i % 2}\r\n\r\n' for i in range(40))
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + f"text,x,y\r\n{body}".encode())
    fitted = run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *QUICK, "--missing", " ?", "--json")
    assert [column["holds"] for column in fitted.json["columns"]] == ["label", "real", "whole"]
    filled = run("impute", tmp_path / "m", tmp_path / "t.csv").out  # the model remembers its word for missing values
    rows = list(csv.reader(io.StringIO(filled)))
    assert rows[0] == ["text", "x", "y"] and rows[1][:2] == ['a\n, "q"', " 0.5 "] and rows[1][2] in ("0", "1")


def test_a_blank_line_is_a_missing_cell_where_there_is_one_column(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("size\n10.1\n\n12.5\n")
    filled = run("impute", folder / "model", tmp_path / "one.csv").out.splitlines()
    assert (len(filled), filled[:2], filled[3]) == (4, ["size", "10.1"], "12.5") and float(filled[2])


@pytest.mark.parametrize("name", ["out.csv.gz", "out.parquet"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_command_that_is_stopped_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: BaseException
) -> None:
    seen: list[int] = []

    def stopped(job: row_jobs.ScoreJob, model: JointEBM, part: pa.Table, first: int) -> list[pa.Table]:  # noqa: ARG001
        seen.append(len(part))
        if len(seen) == 4:  # the third part; the first call is about no rows
            assert len(list(tmp_path.iterdir())) == 1  # the scratch file
            raise stop
        return [pa.table({"log_density": pa.array(np.zeros(len(part)))})]

    monkeypatch.setattr(sources, "ROWS_PER_PART", 10)
    monkeypatch.setattr(row_jobs.ScoreJob, "__call__", stopped)
    result = run("score", folder / "model", folder / "table.csv", "--out", tmp_path / name)
    assert seen == [0, 10, 10, 10] and list(tmp_path.iterdir()) == []
    if isinstance(stop, KeyboardInterrupt):
        assert result.code == 130 and "interrupted after 20 of 150 rows; no file was written" in result.err
    else:
        assert result.code == 2 and "No space left on device" in result.err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the rows need at most a tenth more memory to read and write; the model is replaced by a quick one."""

    def at_once(job: row_jobs.ScoreJob, model: JointEBM, part: pa.Table, first: int) -> list[pa.Table]:  # noqa: ARG001
        return [pa.table({"log_density": pa.array(np.zeros(len(part)))})]

    monkeypatch.setattr(row_jobs.ScoreJob, "__call__", at_once)
    monkeypatch.setattr(sources, "ROWS_PER_PART", 500)
    monkeypatch.setattr(outputs, "ROWS_PER_GROUP", 1000)
    peaks = []
    for number, num_rows in enumerate((2_000, 2_000, 20_000)):  # the first run imports what commands import
        file = write_csv(
            tmp_path / f"{number}.csv", [["size", "name"], *[["10.5", f"{i:0500}"] for i in range(num_rows)]]
        )
        out = tmp_path / f"{number}.parquet"
        tracemalloc.start()
        assert run("score", folder / "model", file, "--out", out).code == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        with pq.ParquetFile(out) as answers:
            assert (answers.metadata.num_rows, answers.num_row_groups) == (num_rows, num_rows // 1000)
    assert peaks[2] < 1.1 * peaks[1]
