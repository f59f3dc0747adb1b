"""Fits of files, folders and streams: the model of the frame, for any chunks and threads; relations hold in all rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from jointebm.estimators import JointEBM
from jointebm.tables.codes.chunks import Chunk
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.table_summary import TableSummary
from jointebm.tables.files import parquet_files
from jointebm.tables.frames import table_rows

QUICK = {"num_visits": 0, "rows_per_component": 50, "max_components": 2}
N, MAX_ROWS = 1500, 600


def make_rows(num: int = N, *, exception: int | None = None) -> pa.Table:
    generator = np.random.default_rng(0)
    start, shop = generator.integers(18_000, 19_000, num), generator.integers(0, 30, num)
    shop[-3:] = [97, 98, 98]  # late levels, of few rows
    end = start + generator.integers(1, 9, num)
    if exception is not None:
        end[exception] = start[exception] - 400
    return pa.table(
        {
            "start": pa.array(start.astype("datetime64[D]")),
            "end": pa.array(end.astype("datetime64[D]")),
            "shop": pa.array([f"s{i}" for i in shop]),
            "region": pa.array([f"r{i % 7}" for i in shop]),
            "size": pa.array(generator.normal(size=num).round(2), mask=generator.random(num) < 0.1),
            "name": pa.array([f"row {i}" for i in range(num)]),
        }
    )


ROWS = make_rows()


def fitted(rows: object, **more: object) -> JointEBM:
    return JointEBM(**{"training": QUICK, "max_rows": MAX_ROWS, "missingness": "model"} | more).fit(rows)  # type: ignore[arg-type]


def state(model: JointEBM, folder: Path) -> tuple[str, bytes]:
    model.save(folder)
    return (folder / "config.json").read_text(), (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def of_frame() -> JointEBM:
    return fitted(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 500, 4096])
def test_a_folder_gives_the_model_of_the_frame_for_any_chunks_and_threads(
    of_frame: JointEBM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "parts").mkdir()
    for number, first in enumerate(range(0, N, 400)):
        pq.write_table(ROWS.slice(first, 400), tmp_path / "parts" / f"{number}.parquet", row_group_size=90)
    monkeypatch.setattr(parquet_files, "ROWS_PER_CHUNK", size)
    monkeypatch.setattr(table_rows, "ROWS_PER_CHUNK", size)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 if size == 64 else 1)
    try:
        model = fitted(tmp_path / "parts")
    finally:
        torch.set_num_threads(threads)
    assert state(model, tmp_path / "a") == state(of_frame, tmp_path / "b")
    assert model.num_rows_ == N and f"{N} rows, of which {MAX_ROWS} were trained on" in (
        (tmp_path / "a" / "README.md").read_text()
    )


@pytest.mark.slow
def test_files_in_any_order_give_the_model_of_the_folder(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.csv" for number in range(3)]
    for number, path in enumerate(paths):
        ROWS.slice(500 * number, 500).to_pandas().to_csv(path, index=False)
    models = [fitted(paths[::-1]), fitted(tmp_path), fitted([paths[1], paths[0], paths[2]])]
    states = {state(model, tmp_path / f"m{place}") for place, model in enumerate(models)}
    assert len(states) == 1


@pytest.mark.slow
def test_a_reader_gives_the_codec_of_the_frame_and_says_what_was_not_checked(
    of_frame: JointEBM, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fitted(ROWS.to_reader(max_chunksize=70), verbose=True)
    assert model.codec_ == of_frame.codec_ and model.num_rows_ == N
    assert [str(each) for each in model.relations_] == [str(each) for each in of_frame.relations_]
    assert "relations hold in the 600 rows of the sample, and were not checked in the others" in capsys.readouterr().err
    whole = fitted(ROWS.to_reader(max_chunksize=70), max_rows=N)
    assert whole.relations_ == fitted(ROWS, max_rows=N).relations_


def test_codecs_are_those_of_all_rows(of_frame: JointEBM) -> None:
    whole = fitted(ROWS, max_rows=N)
    assert of_frame.codec_ == whole.codec_  # no column of these rows has too many values to count
    assert [each.coded for each in of_frame.indicators] == [each.coded for each in whole.indicators]


@pytest.mark.slow
def test_relations_and_their_maps_hold_in_all_rows(of_frame: JointEBM) -> None:
    """Shops 97 and 98 have three rows in all: with this seed the sample holds not all of them."""
    assert [str(each) for each in of_frame.relations_] == ["shop -> region", "start < end"]
    sampled = fitted(ROWS.to_reader())
    assert "s97" not in sampled.relations_[0].keys  # type: ignore[union-attr]  # so that the check has something to find
    assert {"s97", "s98"} <= set(of_frame.relations_[0].keys)  # type: ignore[union-attr]
    assert np.isfinite(of_frame.score_samples(ROWS)).all()
    drawn = of_frame.sample(300).to_pandas()
    assert (drawn["end"] > drawn["start"]).all()
    whole = fitted(ROWS, max_rows=N)
    systems = [model._folder.relations for model in (of_frame, whole)]
    assert systems[0] is not None and systems[1] is not None
    assert systems[0].bounds == systems[1].bounds and systems[0].codec == systems[1].codec


@pytest.mark.slow
def test_a_relation_that_a_row_outside_the_sample_breaks_is_not_kept() -> None:
    sample = TableSummary(max_rows=MAX_ROWS, seed=0)
    sample.add(Chunk({"number": Column("whole", np.arange(N), np.zeros(N, dtype=bool))}, 0))
    outside = int(np.setdiff1d(np.arange(N), sample.sample()[1])[300])
    rows = make_rows(exception=outside)
    sampled = fitted(rows.to_reader(), unseen="missing")
    assert "start < end" in [str(each) for each in sampled.relations_]  # so that the check has something to find
    assert "start < end" not in [str(each) for each in fitted(rows).relations_]
    assert np.isneginf(sampled.score_samples(rows)).sum() >= 1 and np.isfinite(fitted(rows).score_samples(rows)).all()
    with pytest.raises(ValueError, match=rf"'start < end': row {outside} breaks it \('start' is \d+-\d+-\d+, "):
        fitted(rows, relations=["start < end"])


def test_a_folder_of_partitions_has_their_column(tmp_path: Path) -> None:
    ds.write_dataset(
        ROWS.append_column("year", pa.array(np.arange(N) % 3 + 2020, pa.int32())),
        tmp_path / "t",
        format="parquet",
        partitioning=ds.partitioning(pa.schema([("year", pa.int32())]), flavor="hive"),
    )
    model = fitted(tmp_path / "t")
    assert set(model.codec_.names) == {*ROWS.column_names, "year"} and model.num_rows_ == N
    assert set(model.sample(50)["year"].to_pylist()) <= {2020, 2021, 2022}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: folder.mkdir(exist_ok=True), "holds no table; expected files whose names end in .csv"),
        (
            lambda folder: pq.write_table(ROWS, folder / "a.parquet") or (folder / "b.csv").write_text("a\n1\n"),
            "another kind",
        ),
        (
            lambda folder: [
                pq.write_table(ROWS.select(names), folder / f"{names[0]}.parquet") for names in (["start"], ["end"])
            ],
            "start.parquet: column 'end' is not in all files",
        ),
        (
            lambda folder: [(folder / f"{name}.csv").write_text(f"{name}\n1\n") for name in "ab"],
            "b.csv: column 'a' is not in all files",
        ),
        (
            lambda folder: [
                pq.write_table(pa.table({"a": each}), folder / f"{each[0]}.parquet") for each in ([1], ["x"])
            ],
            "x.parquet: column 'a' holds string, which does not go together with int64 in .*1.parquet",
        ),
    ],
)  # type: ignore[misc]
def test_files_that_are_no_table_are_refused_by_name(tmp_path: Path, write: object, message: str) -> None:
    write(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        fitted(tmp_path)


def test_a_file_that_is_given_twice_is_refused_by_name(tmp_path: Path) -> None:
    """By its name twice, or by its name and its folder: its rows would count double."""
    path = tmp_path / "rows.parquet"
    pq.write_table(ROWS, path)
    for places in ([path, path], [tmp_path, path]):
        with pytest.raises(ValueError, match=r"rows.parquet: is given twice"):
            fitted(places)


@pytest.mark.parametrize("of_rows", [{"y": [0] * N}, {"sample_weight": [1.0] * N}])
@pytest.mark.parametrize("path", ["rows.parquet", [Path("rows.parquet")]])
def test_a_vector_next_to_a_path_is_refused_by_name(of_rows: dict[str, list[float]], path: object) -> None:
    (name,) = of_rows
    with pytest.raises(ValueError, match=f"{name}: X is 'rows.parquet', which is read in chunks; leave it out"):
        JointEBM(training=QUICK).fit(path, **of_rows)


def test_a_number_that_is_infinite_is_named_by_its_part() -> None:
    rows = pa.table({"a": [1.0, np.inf]}).to_reader()
    with pytest.raises(ValueError, match="in the part that begins at row 0: column 'a': row 1 holds infinity"):
        fitted(rows)


def test_weights_of_sampled_rows_stay_with_them() -> None:
    frame = pd.DataFrame({"a": [0, 1] * 400})
    model = fitted(frame, max_rows=200, missingness="ignored").fit(
        frame, sample_weight=np.where(frame["a"] == 1, 3.0, 1.0)
    )
    assert abs(model.predict_proba(pd.DataFrame(index=range(1)), "a")[0, 1] - 0.75) < 0.03  # 3 standard errors are 0.09


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Peak memory of a fit of 6,000,000 rows next to one of 1,500,000, which fill all buffers, each in its own process.

    The peak is that of the process since it began; `ru_maxrss` starts at the memory of the process that forks it.
    """
    script = """
import sys
from pathlib import Path
import torch
from jointebm.estimators import JointEBM
torch.set_num_threads(2)
training = {"num_visits": 0, "max_components": 1}
JointEBM(training=training, max_rows=5000).fit(Path(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peaks = []
    for num in (1_500_000, 6_000_000):
        path = tmp_path / f"{num}.parquet"
        values = np.random.default_rng(0).normal(size=(num, 4))
        table = pa.table({f"x{place}": values[:, place] for place in range(4)})
        pq.write_table(table, path, row_group_size=100_000)
        run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout))
    assert peaks[1] <= 1.1 * peaks[0]
