"""`jointebm impute`, `predict`, `sample` and `score` with models of tables."""

import csv
import datetime
import gzip
import io
import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.cli.tables import questions
from jointebm.estimators import JointEBM
from jointebm.tables.files import sources
from support.command_line import run
from support.pet_table import MODELLED, QUICK, TABLE, cells, write_csv


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_imputed_csv_keeps_observed_cells_to_the_letter_and_fills_missing_ones(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out, asked = tmp_path / f"filled{ending}", cells(folder / "table.csv")
    for row in asked[1:]:
        row[1], row[4] = row[1] and f"{row[1]}0", row[4].upper()  # 10.10 and TRUE, where we would write 10.1 and True
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


def test_each_draw_has_its_own_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "filled.csv.gz"
    assert run("impute", folder / "model", folder / "table.csv", "--out", out, "--num", 2).code == 0
    assert run("impute", folder / "model", folder / "table.csv", "--out", out, "--seed", 0).code == 0
    assert run("impute", folder / "model", folder / "table.csv", "--out", tmp_path / "other.csv", "--seed", 1).code == 0
    first, second = cells(tmp_path / "filled-1.csv.gz"), cells(tmp_path / "filled-2.csv.gz")
    assert first == cells(out) != second and cells(tmp_path / "other.csv") not in (first, second)
    assert "name their files with --out" in run("impute", folder / "model", folder / "table.csv", "--num", 2).err


def test_tables_from_several_fits_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    members = tmp_path / "members"
    assert run("fit", folder / "table.csv", "--out", members, *QUICK, "--set", "num_members=2").code == 0
    ask = ("impute", members, folder / "table.parquet", "--uncertainty", "model", "--num")
    result = run(*ask, 2, "--id", "name", "--out", tmp_path / "d.parquet")
    assert result.code == 0 and f"wrote {tmp_path / 'd-1.parquet'}, {tmp_path / 'd-2.parquet'}: 150 rows" in result.err
    drawn = JointEBM.load(members).draw_imputations(
        pq.read_table(folder / "table.parquet"), 2, uncertainty="model", row_ids="name"
    )
    for number, expected in enumerate(drawn, start=1):
        found = pq.read_table(tmp_path / f"d-{number}.parquet")
        assert all(found[name].to_pylist() == expected[name].to_pylist() for name in MODELLED)
    assert not drawn[0].equals(drawn[1])
    assert "3 draws need as many members" in run(*ask, 3, "--out", tmp_path / "more.parquet").err
    asked = ("impute", folder / "model", folder / "table.csv", "--uncertainty", "model", "--out", tmp_path / "n.csv")
    assert "fitted with 0; fit JointEBM(num_members=1), or 'jointebm fit ... --set num_members=1'" in run(*asked).err
    assert not (tmp_path / "n.csv").exists()


def test_ids_and_row_numbers_are_those_of_python(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of 40 rows, from CSV and Parquet."""
    monkeypatch.setattr(sources, "ROWS_PER_PART", 40)
    model = JointEBM.load(folder / "model")
    for ids, ask in ((None, ()), ("name", ("--id", "name"))):
        expected = model.impute(TABLE, row_ids=ids)
        for ending in ("csv", "parquet"):
            out = tmp_path / f"{ids}-{ending}.csv"
            assert run("impute", folder / "model", folder / f"table.{ending}", *ask, "--out", out).code == 0
            found = pd.read_csv(out, dtype={"code": str})
            for name in ("size", "count", "income", "city"):
                assert found[name].tolist() == expected[name].tolist()


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


@pytest.mark.slow
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


def test_samples_agree_with_given_values_and_do_not_depend_on_their_number(folder: Path, tmp_path: Path) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7])
def test_answers_do_not_depend_on_the_size_of_parts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    some = write_csv(tmp_path / "some.csv", cells(folder / "table.csv")[: 5 if size == 1 else 16])
    asks: dict[str, tuple[object, ...]] = {
        "i": ("impute", folder / "model", some),
        "n": ("impute", folder / "model", some, "--id", "name"),
        "p": ("predict", folder / "model", some, "--target", "city"),
        "s": ("score", folder / "model", some, "--conditional"),
        "d": ("sample", folder / "model", "--num", 9),
    }
    whole = {name: run(*ask).out for name, ask in asks.items()}
    monkeypatch.setattr(sources, "ROWS_PER_PART", size)
    monkeypatch.setattr(questions, "SAMPLES_PER_PART", size)
    assert all(whole.values()) and {name: run(*ask).out for name, ask in asks.items()} == whole


@pytest.mark.slow
def test_answers_do_not_depend_on_the_order_of_rows_and_columns(folder: Path, tmp_path: Path) -> None:
    rows = cells(folder / "table.csv")[:50]
    straight_file = write_csv(tmp_path / "straight.csv", rows)
    turned = write_csv(tmp_path / "turned.csv", [row[::-1] for row in [rows[0], *rows[:0:-1]]])
    for ask in (("impute", "--id", "name"), ("score",), ("predict", "--target", "income", "--target", "size")):
        straight = list(csv.reader(io.StringIO(run(ask[0], folder / "model", straight_file, *ask[1:]).out)))
        found = list(csv.reader(io.StringIO(run(ask[0], folder / "model", turned, *ask[1:]).out)))
        back = [row[::-1] if ask[0] == "impute" else row for row in [found[0], *found[:0:-1]]]
        assert len(back) == 50 and back == straight


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        ("impute", "TABLE", "--seed", 4),
        ("impute", "TABLE", "--id", "name"),
        ("predict", "TABLE", "--target", "city"),
        ("score", "TABLE"),
        ("sample", "--num", 90, "--seed", 4, "--given", "city=city 0"),
    ],
    ids=lambda ask: " ".join(map(str, ask[::2])),
)
def test_answers_do_not_depend_on_the_number_of_workers(
    ask: tuple[object, ...],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Scores by new interpreters, as outside of tests; other answers by forks of a warm one."""
    if ask[0] != "score":
        request.getfixturevalue("warm_workers")
    monkeypatch.setattr(sources, "ROWS_PER_PART", 40)
    monkeypatch.setattr(questions, "SAMPLES_PER_PART", 40)
    words = [folder / "table.csv" if word == "TABLE" else word for word in ask[1:]]
    for workers in (1, 2):
        result = run(ask[0], folder / "model", *words, "--out", tmp_path / f"{workers}.parquet", "--workers", workers)
        assert result.code == 0, result.err
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


@pytest.mark.slow
def test_the_commands_of_the_tables_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder with the table; only the fit is made quicker."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penguins.csv").write_bytes(gzip.decompress((files("jointebm.data") / "penguins.csv.gz").read_bytes()))
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
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


def test_json_is_a_single_object(folder: Path, tmp_path: Path) -> None:
    filled = run("impute", folder / "model", folder / "table.csv", "--json", "--out", tmp_path / "f.csv")
    assert filled.json == {
        "model": str(folder / "model" / "model"),
        "rows": 150,
        "filled": int(TABLE[MODELLED].isna().sum().sum()),
        "out": [str(tmp_path / "f.csv")],
    }
    drawn = run("sample", folder / "model", "--num", 2, "--json")
    assert set(drawn.json["columns"]) == set(TABLE) and json.dumps(drawn.json["columns"]["name"]) == "[null, null]"


def test_an_unknown_category_can_be_treated_as_missing(folder: Path, tmp_path: Path) -> None:
    rich = write_csv(tmp_path / "rich.csv", [["income", "count"], ["rich", "12"]])
    hole = write_csv(tmp_path / "hole.csv", [["income", "count"], ["", "12"]])
    scores = [
        run("predict", folder / "model", file, "--target", "size", "--unseen", "missing") for file in (rich, hole)
    ]
    assert scores[0].code == 0 and scores[0].out == scores[1].out
    kept = run("impute", folder / "model", rich, "--unseen", "missing")
    assert kept.out == "income,count\nrich,12\n"  # observed cells stay


@pytest.mark.slow
def test_tables_of_one_row_and_of_no_rows_are_answered(folder: Path, tmp_path: Path) -> None:
    rows = cells(folder / "table.csv")
    one, none = write_csv(tmp_path / "one.csv", rows[:2]), write_csv(tmp_path / "none.csv", rows[:1])
    for command in ("impute", "score", "predict"):
        more = ("--target", "size") if command == "predict" else ()
        whole = run(command, folder / "model", folder / "table.csv", *more).out.splitlines()
        assert run(command, folder / "model", one, *more).out.splitlines() == whole[:2]
        assert run(command, folder / "model", none, *more).out.splitlines() == whole[:1]
    assert run("fit", one, "--out", tmp_path / "m").code == 0
    assert len(run("sample", tmp_path / "m", "--num", 3).out.splitlines()) == 4
    assert "has no rows below the names of its columns" in run("fit", none, "--out", tmp_path / "other").err
