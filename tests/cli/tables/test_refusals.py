"""Wrong input to commands with models of tables: one line, and no file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.tables.files import sources
from support.command_line import assert_refused, run


def test_a_malformed_row_is_one_line_and_no_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("size,income\n10.1,<=50K\n1.5,rich\n")
    for out in ("answer.csv", "answer.parquet"):
        result = run("score", folder / "model", tmp_path / "bad.csv", "--out", tmp_path / out)
        assert_refused(result, f"{tmp_path / 'bad.csv'}, line 3, column 'income': category 'rich' was not seen")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_parquet_values_that_do_not_fit_are_named_by_row_and_column(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables: list[tuple[dict[str, Any], str]] = [
        ({"size": [1.0, np.inf]}, "row 2, column 'size': holds inf; expected a finite number"),
        ({"size": [None, -1.7e308]}, "row 2, column 'size': holds -1.7e+308; expected a finite number, up to 4e+307"),
        ({"income": [">50K", "rich"]}, "row 2, column 'income': category 'rich' was not seen"),
        ({"size": ["tall"]}, "column 'size': holds text, and in training it held numbers"),
        ({"size": [[1.0]]}, "column 'size': holds List"),
        ({"weight": [1]}, "unknown column 'weight'"),
    ]
    for columns, message in tables:
        pq.write_table(pa.table(columns), path)
        result = run("score", folder / "model", path)
        assert result.code == 2 and f"{path}" in result.err and message in result.err


def test_ids_are_one_per_row(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROWS_PER_PART", 2)
    path, out = tmp_path / "t.csv", tmp_path / "out.csv"
    cases = [
        ("a,1\nb,2\n", "weight", f"--id 'weight': {path} has no such column; it has name, size"),
        ("a,1\nb,\nc,3\n", "size", f"{path}, line 3, column 'size': is missing, and --id takes an id for every row"),
        ("a,1\nb,2\nc,\nb,\n", "name", f"{path}, column 'name': row 4 has the same id as row 2, so their draws"),
    ]
    for rows, column, message in cases:
        path.write_text(f"name,size\n{rows}")
        assert_refused(run("impute", folder / "model", path, "--id", column, "--out", out), message)
        assert not out.exists()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (("score", "MODEL", "gone.csv"), "gone.csv: No such file or directory"),
        (
            ("score", "MODEL", "TABLE", "--out", "out.txt"),
            "out.txt: got .txt, expected a name that ends in .csv",
        ),
        (("score", "MODEL", "model.xls"), "model.xls: got .xls, expected a name that ends in .csv"),
        (("score", "pretrained:toy", "TABLE"), "is not a model of a table"),
        (("evaluate", "MODEL"), "holds a table model, expected a block model"),
        (("predict", "MODEL", "TABLE"), "has every column of the model; name the columns to predict"),
        (("predict", "MODEL", "TABLE", "--target", "name"), "--target 'name': the model does not predict this column"),
        (("predict", "MODEL", "TABLE", "--method", "gibbs"), "--method: "),
        (("predict", "pretrained:toy", "x.npz", "--workers", "2"), "--workers: pretrained:toy is a model of blocks"),
        (("sample", "MODEL", "--steps", "3"), "--steps: "),
        (("sample", "MODEL", "--given", "weight=3"), "unknown column 'weight'"),
        (("sample", "MODEL", "--given", "income=rich"), "category 'rich' was not seen in training"),
        (("sample", "MODEL", "--given", "size=100.."), "no training value agrees with it"),
        (("fit", "TABLE", "--out", "new", "--kind", "size=text"), "expected COLUMN=KIND"),
        (("fit", "TABLE", "--out", "new", "--kind", "weight=id"), "--kind 'weight': unknown column"),
        (
            ("fit", "TABLE", "--out", "new", "--set", "epochs=3"),
            "--set 'epochs': unknown parameter; known: batch_size,",
        ),
        (("fit", "TABLE", "--out", "new", "--set", "kinds=3"), "--set 'kinds': has an option of its own: --kind"),
        (
            ("fit", "TABLE", "--out", "new", "--set", "random_state=3"),
            "--set 'random_state': has an option of its own: --seed",
        ),
        (("fit", "TABLE", "--out", "new", "--set", "num_visits"), "expected KEY=VALUE"),
    ],
)
def test_wrong_arguments_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": folder / "model", "TABLE": folder / "table.csv"}
    result = run(*[places.get(word, word) for word in ask])
    assert (result.code, result.err.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
    assert message in result.err


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    asks: list[tuple[str, tuple[object, ...]]] = [
        ("a.csv", ("impute", folder / "model", folder / "table.csv")),
        ("a.parquet", ("predict", folder / "model", folder / "table.csv", "--target", "size")),
        ("a.csv.gz", ("score", folder / "model", folder / "table.csv")),
        ("b.csv", ("sample", folder / "model")),
        ("b", ("fit", folder / "table.csv")),
    ]
    for name, ask in asks:
        (tmp_path / name).write_text("mine")
        result = run(*ask, "--out", tmp_path / name)
        assert result.code == 2 and "exists; choose another name or remove it" in result.err
        assert (tmp_path / name).read_text() == "mine"
    (tmp_path / "c-2.csv").write_text("mine")
    result = run("impute", folder / "model", folder / "table.csv", "--out", tmp_path / "c.csv", "--num", 2)
    assert result.code == 2 and "c-2.csv: exists" in result.err and not (tmp_path / "c-1.csv").exists()
