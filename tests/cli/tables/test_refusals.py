"""Wrong input to commands with models of tables: one line, and no file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.command_line import run

GOOD = "size,count,income,indoors,born\n10.1,3,<=50K,True,2020-02-03\n"


MALFORMED: dict[str, tuple[bytes, str]] = {
    "too few cells": (f"{GOOD}1.5,2\n".encode(), "line 3, column 'income': missing from the row, which has 2 cells"),
    "too many cells": (f"{GOOD}1,2,<=50K,True,2020-02-03,9\n".encode(), "line 3, column 6: the row has 6 cells"),
    "no number": (f"{GOOD}tall,,,,\n".encode(), "line 3, column 'size': got 'tall', expected a number"),
    "infinity": (f"{GOOD}inf,,,,\n".encode(), "line 3, column 'size': got 'inf', expected a number"),
    "more than is reckoned with": (f"{GOOD}1.7e308,,,,\n".encode(), "line 3, column 'size': got '1.7e308', expected a"),
    "more than a float": (f"{GOOD}1e999,,,,\n".encode(), "line 3, column 'size': got '1e999', expected a number"),
    "no boolean": (f"{GOOD},,,perhaps,\n".encode(), "line 3, column 'indoors': got 'perhaps', expected True or False"),
    "no date": (f"{GOOD},,,,2023-02-30\n".encode(), "line 3, column 'born': got '2023-02-30', expected a date such as"),
    "no category": (f"{GOOD},,rich,,\n".encode(), "line 3, column 'income': 'rich' was not there in training"),
    "after a cell of two lines": (
        b'name,size\n"two\nlines",1.5\nx,tall\n',
        "line 4, column 'size': got 'tall', expected a number",
    ),
    "an unknown column": (b"size,weight\n1,2\n", "column 'weight' is not one of this model's"),
    "a column twice": (b"size,count,size\n1,2,3\n", "line 1: column 'size' stands there twice"),
    "no name": (b"size,,count\n1,2,3\n", "line 1: column 2 has no name"),
    "numbers of rows": (b",size\n0,1\n", "line 1: column 1 has no name; if it numbers the rows, leave it out"),
    "semicolons": (b"size;count\n1;2\n", "line 1: has one column, called 'size;count'; cells are separated by commas"),
    "tabs": (b"size\tcount\n1\t2\n", "line 1: has one column, called 'size\\tcount'; cells are separated by commas"),
    "empty": (b"", "is empty; the first line names the columns"),
    "only line breaks": (b"\n\n\n", "is empty; the first line names the columns"),
    "not UTF-8": (f"{GOOD}1,1,".encode() + b"caf\xe9,,\n", "line 3, column 'income': 'caf\\udce9' is not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1, column 1: "),
    "NUL": (f"{GOOD}1\0,,,,\n".encode(), "line 3, column 'size': '1\\x00' holds NUL"),
    "an open quote": (f'{GOOD}1,2,"<=50K,True,\n'.encode(), "line 3: the row that begins there is no CSV"),
    "a torn quote": (f'{GOOD}1,2,"<=50"K,True,\n'.encode(), "line 3: the row that begins there is no CSV"),
    "a huge cell": (
        f"{GOOD}{'9' * 200_000},,,,\n".encode(),
        "line 3: the row that begins there is no CSV: field larger",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_named_by_file_line_and_column(folder: Path, tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    (tmp_path / "bad.csv").write_bytes(content)
    for out in ("answer.csv", "answer.parquet"):
        result = run("score", folder / "model", tmp_path / "bad.csv", "--out", tmp_path / out)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert message in result.err and str(tmp_path / "bad.csv") in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_parquet_values_that_do_not_fit_are_named_by_row_and_column(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables: list[tuple[dict[str, Any], str]] = [
        ({"size": [1.0, np.inf]}, "row 2, column 'size': holds inf; expected a finite number"),
        ({"size": [None, -1.7e308]}, "row 2, column 'size': holds -1.7e+308; expected a finite number, up to 4e+307"),
        ({"income": [">50K", "rich"]}, "row 2, column 'income': 'rich' was not there in training"),
        ({"size": ["tall"]}, "column 'size': holds text, and in training it held numbers"),
        ({"size": [[1.0]]}, "column 'size': holds List"),
        ({"weight": [1]}, "column 'weight' is not one of this model's"),
    ]
    for columns, message in tables:
        pq.write_table(pa.table(columns), path)
        result = run("score", folder / "model", path)
        assert result.code == 2 and f"{path}" in result.err and message in result.err


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (("score", "MODEL", "gone.csv"), "gone.csv: No such file or directory"),
        (("score", "MODEL", "TABLE", "--out", "out.txt"), "out.txt: ends in '.txt', expected .csv, .csv.gz, .parquet"),
        (("score", "MODEL", "model.xls"), "model.xls: ends in '.xls', expected .csv"),
        (("score", "pretrained:toy", "TABLE"), "is no table's model; 'jointebm fit' writes those"),
        (("evaluate", "MODEL"), "is of a table, which 'jointebm impute', 'predict', 'sample' and 'score' ask"),
        (("figures", "MODEL"), "is of a table, which 'jointebm impute', 'predict', 'sample' and 'score' ask"),
        (("predict", "MODEL", "TABLE"), "has every column of the model; name what is to be predicted with --target"),
        (("predict", "MODEL", "TABLE", "--target", "name"), "--target 'name': is no column that the model predicts"),
        (("predict", "MODEL", "TABLE", "--method", "gibbs"), "for which --method means nothing"),
        (("predict", "pretrained:toy", "x.npz", "--workers", "2"), "for which --workers means nothing"),
        (("sample", "MODEL", "--steps", "3"), "for which --steps means nothing"),
        (("sample", "MODEL", "--given", "weight=3"), "no column 'weight'"),
        (("sample", "MODEL", "--given", "income=rich"), "category 'rich' was not there in training"),
        (("sample", "MODEL", "--given", "size=100.."), "nothing in training agrees with it"),
        (("score", "MODEL", "TABLE", "--workers", "0"), "got '0', expected a whole number from 1 to 1024"),
        (("fit", "TABLE", "--out", "new", "--kind", "size=text"), "expected COLUMN=KIND"),
        (("fit", "TABLE", "--out", "new", "--kind", "weight=id"), "'weight' is no column"),
        (
            ("fit", "TABLE", "--out", "new", "--set", "epochs=3"),
            "--set 'epochs': is no parameter; there are base, batch_size,",
        ),
        (("fit", "TABLE", "--out", "new", "--set", "kinds=3"), "--set 'kinds': is an option of its own: --kind"),
        (
            ("fit", "TABLE", "--out", "new", "--set", "random_state=3"),
            "--set 'random_state': is an option of its own: --seed",
        ),
        (("fit", "TABLE", "--out", "new", "--set", "num_visits"), "expected KEY=VALUE"),
    ],
)
def test_a_wrong_word_on_the_line_is_named(
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
