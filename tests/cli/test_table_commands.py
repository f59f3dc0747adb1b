"""The commands about tables: files in and out, whatever is in them, whole or not at all, and one line for what is wrong."""

import csv
import datetime
import decimal
import errno
import gzip
import io
import json
import re
import shlex
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.cli.tables import jobs
from jointebm.cli.tables import questions as asking
from jointebm.cli.tables.given import parse_table_given
from jointebm.estimators import JointEBM
from jointebm.tables.files import reading as sources
from jointebm.tables.files import writing as written
from support.command_line import run

QUICK = ("--set", "num_visits=0", "--set", "base=mixture", "--set", "rows_per_component=20", "--set", "num_draws=3")
RNG = np.random.default_rng(0)
CITIES = [f"city {number}" for number in range(90)]


def make_table(num: int) -> pd.DataFrame:
    """Every kind of column that a file may hold; two groups that differ in all of them, with holes."""
    group = RNG.integers(0, 2, num)
    table = pd.DataFrame(
        {
            "name": [f"pet {number}" for number in range(num)],
            "size": np.round(RNG.normal(10 + 20 * group, 2), 1),
            "count": pd.array(RNG.integers(0, 4, num) + 10 * group, dtype="Int64"),
            "income": np.where(group == 1, ">50K", "<=50K"),
            "indoors": pd.array(group == 0, dtype="boolean"),
            "born": np.datetime64("2020-01-01") + RNG.integers(0, 300, num) + 1000 * group,
            "city": np.array(CITIES)[RNG.integers(0, 90, num)],
            "code": np.where(group == 1, "007", "042"),
            "one": "same",
            "empty": pd.Series([None] * num, dtype=object),
        }
    )
    for name in ("size", "count", "income", "indoors", "born", "city"):
        table.loc[RNG.random(num) < 0.15, name] = None
    table["born"] = [None if pd.isna(each) else each.date() for each in table["born"]]
    return table


TABLE = make_table(150)
MODELLED = [name for name in TABLE if name not in ("name", "empty")]


def cells(path: Path) -> list[list[str]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table.csv, table.parquet, and `model` that was fitted to the first."""
    folder = tmp_path_factory.mktemp("tables")
    TABLE.to_csv(folder / "table.csv", index=False)
    pq.write_table(pa.Table.from_pandas(TABLE, preserve_index=False), folder / "table.parquet", row_group_size=40)
    result = run("fit", folder / "table.csv", "--out", folder / "model", *QUICK, "--json")
    assert result.code == 0, result.err
    assert (result.json["rows"], result.json["log_score"]) == (150, None)
    held = {column["name"]: (column["holds"], column["kind"]) for column in result.json["columns"]}
    assert held == {
        "name": ("label", "ignored"),
        "size": ("real", "number"),
        "count": ("whole", "number"),
        "income": ("label", "category"),
        "indoors": ("boolean", "category"),
        "born": ("time", "number"),
        "city": ("label", "category"),
        "code": ("label", "category"),
        "one": ("label", "category"),
        "empty": ("label", "ignored"),
    }
    return folder


# From files to files


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_imputed_csv_keeps_every_seen_cell_to_the_letter_and_fills_the_others(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out, asked = tmp_path / f"filled{ending}", cells(folder / "table.csv")
    for row in asked[1:]:
        row[1], row[4] = row[1] and f"{row[1]}0", row[4].upper()  # 10.10 and TRUE, which are not how they are written
    result = run("impute", folder / "model", write_csv(tmp_path / "asked.csv", asked), "--out", out)
    filled = cells(out)
    num_holes = int(TABLE[MODELLED].isna().sum().sum())
    assert result.code == 0 and f"wrote {out}: 150 rows, {num_holes} entries filled" in result.err
    assert len(filled) == len(asked) and filled[0] == asked[0]
    allowed = {name: set(TABLE[name].dropna().astype(str)) for name in ("count", "income", "indoors", "city", "code")}
    for before, after in zip(asked[1:], filled[1:], strict=True):
        assert all(new == old for old, new in zip(before, after, strict=True) if old)
        row = dict(zip(filled[0], after, strict=True))
        assert row.pop("empty") == "" and all(row.values())
        seen = dict(zip(filled[0], before, strict=True))
        assert all(seen[name] or row[name] in allowed[name] for name in allowed)
        assert datetime.date(2020, 1, 1) <= datetime.date.fromisoformat(row["born"]) < datetime.date(2023, 10, 1)
        assert before[1] or row["size"] == str(round(float(row["size"]), 1))


def test_imputed_parquet_has_the_types_of_the_file_and_the_values_of_csv(folder: Path, tmp_path: Path) -> None:
    assert run("impute", folder / "model", folder / "table.parquet", "--out", tmp_path / "a.parquet").code == 0
    assert run("impute", folder / "model", folder / "table.parquet", "--out", tmp_path / "a.csv").code == 0
    assert run("impute", folder / "model", folder / "table.csv", "--out", tmp_path / "b.csv").code == 0
    found, asked = pq.read_table(tmp_path / "a.parquet"), pq.read_table(folder / "table.parquet")
    assert {field.name: field.type for field in found.schema if field.name != "empty"} == {
        field.name: field.type for field in asked.schema if field.name != "empty"
    }
    assert all(found[name].null_count == 0 for name in MODELLED)
    assert cells(tmp_path / "a.csv") == cells(tmp_path / "b.csv")


def test_several_draws_go_to_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "filled.csv.gz"
    assert run("impute", folder / "model", folder / "table.csv", "--out", out, "--num", 2).code == 0
    assert run("impute", folder / "model", folder / "table.csv", "--out", out, "--seed", 0).code == 0
    assert run("impute", folder / "model", folder / "table.csv", "--out", tmp_path / "other.csv", "--seed", 1).code == 0
    first, second = cells(tmp_path / "filled-1.csv.gz"), cells(tmp_path / "filled-2.csv.gz")
    assert first == cells(out) != second and cells(tmp_path / "other.csv") not in (first, second)
    assert "name them with --out" in run("impute", folder / "model", folder / "table.csv", "--num", 2).err


def test_predictions_are_those_of_the_model_with_their_uncertainty(folder: Path, tmp_path: Path) -> None:
    features = write_csv(tmp_path / "f.csv", [row[:1] + row[2:3] + row[4:] for row in cells(folder / "table.csv")])
    assert run("predict", folder / "model", features, "--out", tmp_path / "p.parquet").code == 0
    found = pq.read_table(tmp_path / "p.parquet")
    assert found.column_names == ["size", "size:5%", "size:95%", "income", "income=<=50K", "income=>50K"]
    model, table = JointEBM.load(folder / "model"), pa.Table.from_pandas(TABLE.drop(columns=["size", "income"]))
    assert np.array_equal(
        model.predict_proba(table, "income"), np.stack([found["income=<=50K"], found["income=>50K"]], 1)
    )
    assert found["size"].to_pylist() == model.predict(table, "size").to_pylist()
    low, high = found["size:5%"].to_numpy(), found["size:95%"].to_numpy()
    seen = TABLE["size"].notna().to_numpy()
    inside = ((low <= TABLE["size"]) & (high >= TABLE["size"]))[seen].mean()
    assert (low <= high).all() and 0.75 < inside <= 1.0
    shown = run("predict", folder / "model", folder / "table.csv", "--target", "indoors", "--statistic", "median")
    assert shown.out.splitlines()[0] == "indoors,indoors=False,indoors=True" and len(shown.out.splitlines()) == 151


def test_scores_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    some = write_csv(tmp_path / "some.csv", cells(folder / "table.csv")[:41])
    assert run("score", folder / "model", some, "--conditional", "--out", tmp_path / "s.parquet").code == 0
    found, model = pq.read_table(tmp_path / "s.parquet"), JointEBM.load(folder / "model")
    table = pa.Table.from_pandas(TABLE.head(40), preserve_index=False)
    assert np.array_equal(found["log_density"], model.score_samples(table))
    assert np.array_equal(found["dependence"], model.dependence(table))
    assert found["log p(size | rest)"].null_count == TABLE["size"].head(40).isna().sum()
    shown = run("score", folder / "model", some, "--json").json
    assert shown["columns"]["log_density"] == found["log_density"].to_pylist() and shown["rows"] == 40


def test_samples_agree_with_what_is_given_and_are_the_same_for_every_number(folder: Path, tmp_path: Path) -> None:
    ask = (
        "sample",
        folder / "model",
        "--given",
        "income=>50K,size=25..31,born=2022-11-01..",
        "--given",
        "count={10,12}",
    )
    assert run(*ask, "--num", 30, "--out", tmp_path / "s.parquet").code == 0
    drawn = pq.read_table(tmp_path / "s.parquet").to_pandas()
    assert set(drawn["income"]) == {">50K"} and drawn["size"].between(25, 31).all() and set(drawn["count"]) <= {10, 12}
    assert drawn["born"].min() >= datetime.date(2022, 11, 1) and drawn["name"].isna().all() and len(drawn) == 30
    few = run(*ask, "--num", 7).out
    assert run(*ask, "--num", 30).out.startswith(few) and run(*ask, "--num", 7, "--seed", 5).out != few


@pytest.mark.parametrize("size", [1, 7])
def test_no_answer_depends_on_the_part_it_is_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    some = write_csv(tmp_path / "some.csv", cells(folder / "table.csv")[: 5 if size == 1 else 16])
    asks: dict[str, tuple[object, ...]] = {
        "i": ("impute", folder / "model", some),
        "p": ("predict", folder / "model", some, "--target", "city"),
        "s": ("score", folder / "model", some, "--conditional"),
        "d": ("sample", folder / "model", "--num", 9),
    }
    whole = {name: run(*ask).out for name, ask in asks.items()}
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", size)
    monkeypatch.setattr(asking, "ROWS_AT_ONCE", size)
    assert all(whole.values()) and {name: run(*ask).out for name, ask in asks.items()} == whole


def test_no_answer_depends_on_the_order_of_rows_and_columns(folder: Path, tmp_path: Path) -> None:
    rows = cells(folder / "table.csv")[:50]
    straight_file = write_csv(tmp_path / "straight.csv", rows)
    turned = write_csv(tmp_path / "turned.csv", [row[::-1] for row in [rows[0], *rows[:0:-1]]])
    for ask in (("impute",), ("score",), ("predict", "--target", "income", "--target", "size")):
        straight = list(csv.reader(io.StringIO(run(ask[0], folder / "model", straight_file, *ask[1:]).out)))
        found = list(csv.reader(io.StringIO(run(ask[0], folder / "model", turned, *ask[1:]).out)))
        back = [row[::-1] if ask == ("impute",) else row for row in [found[0], *found[:0:-1]]]
        assert len(back) == 50 and back == straight


@pytest.mark.parametrize(
    "ask",
    [
        ("impute", "TABLE", "--seed", 4),
        ("predict", "TABLE", "--target", "city"),
        ("score", "TABLE"),
        ("sample", "--num", 90, "--seed", 4, "--given", "city=city 0"),
    ],
    ids=lambda ask: ask[0],
)
def test_the_result_is_the_same_for_any_number_of_workers(
    ask: tuple[object, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(asking, "ROWS_AT_ONCE", 40)
    words = [folder / "table.csv" if word == "TABLE" else word for word in ask[1:]]
    for workers in (1, 2):
        result = run(ask[0], folder / "model", *words, "--out", tmp_path / f"{workers}.parquet", "--workers", workers)
        assert result.code == 0, result.err
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_the_commands_on_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, in a folder with nothing but the table, but for a quick fit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penguins.csv").write_bytes(gzip.decompress((files("jointebm.data") / "penguins.csv.gz").read_bytes()))
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[1] for line in lines] == ["fit", "impute", "impute", "predict", "sample", "score"]
    for _, *words in lines:
        result = run(*words, *(QUICK if words[0] == "fit" else ()))
        assert result.code == 0, result.err
    drawn = pd.read_parquet("heavy.parquet")
    assert len(drawn) == 1000 and drawn["body_mass_g"].min() >= 5000 and set(drawn["species"]) <= {"Gentoo", "Adelie"}
    assert pd.read_csv("filled.csv").notna().all().all() and len(list(tmp_path.glob("draws-*.parquet"))) == 5
    assert len(pd.read_csv("species.csv")) == len(pd.read_csv("scores.csv.gz")) == 344


# Tables unlike those


def test_parquet_of_all_types_comes_back_as_it_was(tmp_path: Path) -> None:
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
    assert refused.code == 2 and "column 'length' holds lengths of time, which CSV does not tell" in refused.err


def test_tables_of_one_row_and_of_none(folder: Path, tmp_path: Path) -> None:
    rows = cells(folder / "table.csv")
    one, none = write_csv(tmp_path / "one.csv", rows[:2]), write_csv(tmp_path / "none.csv", rows[:1])
    for command in ("impute", "score", "predict"):
        more = ("--target", "size") if command == "predict" else ()
        whole = run(command, folder / "model", folder / "table.csv", *more).out.splitlines()
        assert run(command, folder / "model", one, *more).out.splitlines() == whole[:2]
        assert run(command, folder / "model", none, *more).out.splitlines() == whole[:1]
    assert run("fit", one, "--out", tmp_path / "m").code == 0
    assert len(run("sample", tmp_path / "m", "--num", 3).out.splitlines()) == 4
    assert "minimum of 1 is required" in run("fit", none, "--out", tmp_path / "other").err


def test_odd_csv_is_read_as_it_is_meant(tmp_path: Path) -> None:
    """A byte order mark, line breaks in quotes, blank lines, carriage returns, spaces around numbers, own missing text."""
    body = "".join(f'"{"ab"[i % 2]}\n, ""q""", {i % 7}.5 ,{"?" if i % 3 == 0 else i % 2}\r\n\r\n' for i in range(40))
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + f"text,x,y\r\n{body}".encode())
    fitted = run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *QUICK, "--missing", " ?", "--json")
    assert [column["holds"] for column in fitted.json["columns"]] == ["label", "real", "whole"]
    filled = run("impute", tmp_path / "m", tmp_path / "t.csv", "--missing", "? ").out
    rows = list(csv.reader(io.StringIO(filled)))
    assert rows[0] == ["text", "x", "y"] and rows[1][:2] == ['a\n, "q"', " 0.5 "] and rows[1][2] in ("0", "1")


def test_a_blank_line_is_a_missing_cell_where_there_is_one_column(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("size\n10.1\n\n12.5\n")
    filled = run("impute", folder / "model", tmp_path / "one.csv").out.splitlines()
    assert (len(filled), filled[:2], filled[3]) == (4, ["size", "10.1"], "12.5") and float(filled[2])


def test_kinds_and_fields_of_a_fit_are_as_asked(folder: Path, tmp_path: Path) -> None:
    ask = (
        "fit",
        folder / "table.csv",
        "--out",
        tmp_path / "m",
        *QUICK,
        "--kind",
        "count=categorical",
        "--kind",
        "city=id",
    )
    assert run(*ask, "--set", "max_bins=5", "--set", "num_sweeps=3", "--unseen", "missing", "--seed", 3).code == 0
    model = JointEBM.load(tmp_path / "m")
    assert (
        model.get_params()
        == JointEBM(
            training={"num_visits": 0, "rows_per_component": 20},
            base="mixture",
            kinds={"count": "categorical", "city": "id"},
            max_bins=5,
            num_sweeps=3,
            num_draws=3,
            unseen="missing",
            random_state=3,
        ).get_params()
    )
    assert [each.codec.kind for each in model.codec_.columns if each.name in ("count", "city")] == [
        "category",
        "ignored",
    ]


def test_a_fit_tells_how_far_it_is_and_how_good(folder: Path, tmp_path: Path) -> None:
    training = ("--set", "num_visits=1", "--set", "width=8", "--set", "num_looks=2")
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *training)
    assert result.code == 0 and "held-out log score -" in result.err and "treated as" in result.out


# What is wrong is one line that names it


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


def test_an_unseen_category_may_be_missing(folder: Path, tmp_path: Path) -> None:
    rich = write_csv(tmp_path / "rich.csv", [["income", "count"], ["rich", "12"]])
    hole = write_csv(tmp_path / "hole.csv", [["income", "count"], ["", "12"]])
    scores = [
        run("predict", folder / "model", file, "--target", "size", "--unseen", "missing") for file in (rich, hole)
    ]
    assert scores[0].code == 0 and scores[0].out == scores[1].out
    kept = run("impute", folder / "model", rich, "--unseen", "missing")
    assert kept.out == "income,count\nrich,12\n"  # what was seen stands


def test_a_malformed_file_to_fit_to_is_named(tmp_path: Path) -> None:
    numbers = "".join(f"{number}\n" for number in range(60))
    cases = {
        f"x\n{numbers}tall\n": "column 'x', line 62: got 'tall', and 60 of the column's 61 cells are numbers",
        f"x\n1\n{'9' * 5000}\n": f"{tmp_path / 't.csv'}, line 3, column 'x': got '999",
        "x,x\n1,2\n": "column 'x' stands there twice",
        "x,y\n1\n": "line 2, column 'y': missing from the row",
    }
    for content, message in cases.items():
        (tmp_path / "t.csv").write_text(content)
        result = run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *QUICK)
        assert result.code == 2 and message in result.err and not (tmp_path / "m").exists()
    (tmp_path / "t.csv").write_text(f"x\n{numbers}tall\n")
    for way_out in (("--missing", "tall"), ("--kind", "x=categorical")):
        assert run("fit", tmp_path / "t.csv", "--out", tmp_path / way_out[0], *QUICK, *way_out).code == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-40], "not a Parquet file that can be read"),
        (lambda content: content[:4] + b"x" * 600 + content[604:], "not a Parquet file that can be read"),
        (lambda content: b"", "not a Parquet file that can be read"),  # noqa: ARG005
        (lambda content: b"size\n1\n", "not a Parquet file that can be read"),  # noqa: ARG005
    ],
)
def test_a_damaged_parquet_file_is_named(
    folder: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    (tmp_path / "bad.parquet").write_bytes(damage((folder / "table.parquet").read_bytes()))
    for ask in (("fit", tmp_path / "bad.parquet"), ("score", folder / "model", tmp_path / "bad.parquet")):
        result = run(*ask, "--out", tmp_path / "out.csv")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1
        assert str(tmp_path / "bad.parquet") in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.parquet"]


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
            "--set 'epochs': unknown parameter; known: base, batch_size,",
        ),
        (("fit", "TABLE", "--out", "new", "--set", "kinds=3"), "--set 'kinds': has an option of its own: --kind"),
        (
            ("fit", "TABLE", "--out", "new", "--set", "random_state=3"),
            "--set 'random_state': has an option of its own: --seed",
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


# Whole or not at all


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


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_command_that_is_stopped_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: BaseException
) -> None:
    seen: list[int] = []

    def stopped(job: jobs.Scoring, model: JointEBM, part: pa.Table) -> list[pa.Table]:  # noqa: ARG001
        seen.append(len(part))
        if len(seen) == 4:  # the third part; the first call is about no rows
            assert len(list(tmp_path.iterdir())) == 1  # the scratch file
            raise stop
        return [pa.table({"log_density": pa.array(np.zeros(len(part)))})]

    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(jobs.Scoring, "__call__", stopped)
    result = run("score", folder / "model", folder / "table.csv", "--out", tmp_path / name)
    assert seen == [0, 10, 10, 10] and list(tmp_path.iterdir()) == []
    if isinstance(stop, KeyboardInterrupt):
        assert result.code == 130 and "interrupted after 20 of 150 rows; no file is written" in result.err
    else:
        assert result.code == 2 and "No space left on device" in result.err


def test_an_interrupted_fit_names_the_command_that_resumes_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JointEBM, "fit", stopped)
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *QUICK)
    assert result.code == 130 and f"resume with: jointebm fit --resume {tmp_path / 'm'}" in result.err
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["fit.json"]


def test_memory_does_not_grow_with_the_rows(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of reading and writing; the model is not asked, which would take long. Ten times the rows, a tenth more at most."""

    def at_once(job: jobs.Scoring, model: JointEBM, part: pa.Table) -> list[pa.Table]:  # noqa: ARG001
        return [pa.table({"log_density": pa.array(np.zeros(len(part)))})]

    monkeypatch.setattr(jobs.Scoring, "__call__", at_once)
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 500)
    monkeypatch.setattr(written, "ROWS_PER_GROUP", 1000)
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


# The grammar of --given


@pytest.fixture(scope="module")
def model(folder: Path) -> JointEBM:
    return JointEBM.load(folder / "model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size=30", {"size": 30}),
        (" size = -1.5e1 ", {"size": -15.0}),
        ("income=>50K", {"income": ">50K"}),
        ("income=<=50K,size=3..4.5", {"income": "<=50K", "size": (3, 4.5)}),
        ("size=3..,count=..4", {"size": (3, None), "count": (None, 4)}),
        ("income={<=50K, >50K},code=007", {"income": ["<=50K", ">50K"], "code": "007"}),
        ("indoors=True", {"indoors": True}),
        ("born=2020-02-03..2021-01-01", {"born": ("2020-02-03", "2021-01-01")}),
        ('"income"=">50K"', {"income": ">50K"}),
        ('city="city 3"', {"city": "city 3"}),
    ],
)
def test_what_is_given_is_read(model: JointEBM, text: str, expected: dict[str, object]) -> None:
    assert parse_table_given([text], model) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size", "expected column=value"),
        ("size=", "expected column=value"),
        ("=3", "expected column=value"),
        ("size=tall", "got 'tall', expected a number"),
        ("size=..", "an interval without any end"),
        ("size=3,size=4", "column 'size' is given twice"),
        ('city="city 3', "a double quote that is not closed"),
        ("weight=3", "no column 'weight'; this model has 'name', 'size'"),
    ],
)
def test_what_cannot_be_given_is_named(model: JointEBM, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="--given") as caught:
        parse_table_given([text], model)
    assert message in str(caught.value)


def test_json_is_one_object_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    filled = run("impute", folder / "model", folder / "table.csv", "--json", "--out", tmp_path / "f.csv")
    assert filled.json == {
        "model": str(folder / "model" / "model"),
        "rows": 150,
        "filled": int(TABLE[MODELLED].isna().sum().sum()),
        "out": [str(tmp_path / "f.csv")],
    }
    drawn = run("sample", folder / "model", "--num", 2, "--json")
    assert set(drawn.json["columns"]) == set(TABLE) and json.dumps(drawn.json["columns"]["name"]) == "[null, null]"
