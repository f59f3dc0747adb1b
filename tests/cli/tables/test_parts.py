"""Parts of files for job arrays, and fits of several files and of folders."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.estimators import JointEBM
from jointebm.tables.files import sources
from support.command_line import assert_refused, run
from support.pet_table import QUICK, TABLE, cells


@pytest.mark.parametrize("of", [1, 3, 7])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_parts_of_an_imputed_file_joined_equal_the_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: int, ending: str
) -> None:
    monkeypatch.setattr(sources, "ROWS_PER_PART", 16)  # parts end inside of the blocks that files are read in
    ask = ("impute", folder / "model", folder / f"table{ending}")
    assert run(*ask, "--out", tmp_path / f"whole{ending}").code == 0
    outs = [tmp_path / f"part-{number}{ending}" for number in range(1, of + 1)]
    for number, out in enumerate(outs, start=1):
        assert run(*ask, "--out", out, "--part", f"{number}/{of}").code == 0
    if ending == ".csv":
        header, *rows = cells(tmp_path / "whole.csv")
        parts = [cells(out) for out in outs]
        assert all(part[0] == header for part in parts) and [row for part in parts for row in part[1:]] == rows
    else:
        assert pa.concat_tables([pq.read_table(out) for out in outs]).equals(pq.read_table(tmp_path / "whole.parquet"))


@pytest.mark.parametrize("command", ["score", "predict"])
def test_parts_of_other_answers_joined_equal_the_whole(folder: Path, tmp_path: Path, command: str) -> None:
    ask = [command, folder / "model", folder / "table.csv", *(["--target", "income"] if command == "predict" else [])]
    assert run(*ask, "--out", tmp_path / "whole.csv").code == 0
    for number in (1, 2):
        assert run(*ask, "--out", tmp_path / f"{number}.csv", "--part", f"{number}/2").code == 0
    first, second = cells(tmp_path / "1.csv"), cells(tmp_path / "2.csv")
    assert first + second[1:] == cells(tmp_path / "whole.csv") and len(first) == 76


def test_parts_with_ids_know_the_ids_of_the_whole_file(folder: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(TABLE, preserve_index=False)
    names = table["name"].to_pylist()
    names[140] = names[3]  # in another part
    path = tmp_path / "twice.parquet"
    pq.write_table(table.set_column(0, "name", pa.array(names)), path)
    ask = ("impute", folder / "model", path, "--id", "name", "--out", tmp_path / "o.csv", "--part", "1/5")
    assert_refused(run(*ask), "row 141 has the same id as row 4")


def test_a_malformed_row_is_named_by_its_line_in_the_part_that_holds_it(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    cells_of_row = lines[120].split(",")
    lines[120] = ",".join([cells_of_row[0], "tall", *cells_of_row[2:]])
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    ask = ("impute", folder / "model", tmp_path / "t.csv", "--out", tmp_path / "o.csv", "--part")
    assert run(*ask, "1/4").code == 0
    (tmp_path / "o.csv").unlink()
    assert_refused(run(*ask, "4/4"), "line 121, column 'size': got 'tall'")


@pytest.mark.parametrize("text", ["0/4", "5/4", "x/4", "3", "1/0", "-1/4"])
def test_a_part_is_one_of_its_number(folder: Path, tmp_path: Path, text: str) -> None:
    result = run("impute", folder / "model", folder / "table.csv", "--out", tmp_path / "o.csv", f"--part={text}")
    assert result.code == 2 and "expected I/N with I from 1 to N" in result.err and not (tmp_path / "o.csv").exists()


def test_a_folder_and_several_files_are_fitted_as_one_table(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "table.parquet")
    (tmp_path / "parts").mkdir()
    paths = [tmp_path / "parts" / f"{number}.parquet" for number in range(3)]
    for number, path in enumerate(paths):
        pq.write_table(table.slice(50 * number, 50), path)
    for name, places in (("a", [folder / "table.parquet"]), ("b", [tmp_path / "parts"]), ("c", paths[::-1])):
        result = run("fit", *places, "--out", tmp_path / name, *QUICK)
        assert result.code == 0, result.err
        assert ": 150 rows" in result.out
    weights = {(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "abc"}
    configs = {(tmp_path / name / "model" / "config.json").read_text() for name in "abc"}
    assert len(weights) == len(configs) == 1
    plan = json.loads((tmp_path / "b" / "fit.json").read_text())
    assert plan["tables"] == [str(tmp_path / "parts")]


def test_a_fit_of_a_sample_says_so(folder: Path, tmp_path: Path) -> None:
    ask = ("fit", folder / "table.csv", "--out", tmp_path / "m", *QUICK, "--set", "max_rows=60")
    result = run(*ask)
    assert result.code == 0 and "150 rows, 60 of them sampled to train on" in result.out
    assert JointEBM.load(tmp_path / "m").num_rows_ == 150
    shown = json.loads(run(*ask[:2], "--out", tmp_path / "n", *ask[4:], "--json").out)
    assert (shown["rows"], shown["trained_rows"]) == (150, 60)


def test_a_run_over_files_that_have_changed_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    table = pq.read_table(folder / "table.parquet")
    pq.write_table(table, tmp_path / "parts" / "0.parquet")
    assert run("fit", tmp_path / "parts", "--out", tmp_path / "m", *QUICK).code == 0
    (tmp_path / "m" / "model").rename(tmp_path / "model")
    pq.write_table(table, tmp_path / "parts" / "1.parquet")
    assert_refused(run("fit", "--resume", tmp_path / "m"), "has changed since the fit")
