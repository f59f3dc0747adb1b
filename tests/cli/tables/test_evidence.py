"""`--given` of `impute`, `predict` and `score`: evidence about missing entries, the same for all rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.cli.tables import questions
from jointebm.estimators import JointEBM
from jointebm.tables.files import sources
from support.command_line import assert_refused, run
from support.pet_table import QUICK, TABLE
from support.related_tables import related_table

GIVEN = ("--given", "count=8..,income={>50K}", "--given", "born=2021-06-01..")
EVIDENCE = {"count": (8, None), "income": [">50K"], "born": ("2021-06-01", None)}
ASKED = TABLE[["size", "city"]].assign(income=None, count=None)[:60]


@pytest.fixture(params=["csv", "parquet"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Sizes and cities, some of them missing; `born` is absent."""
    path = tmp_path / f"asked.{request.param}"
    if request.param == "csv":
        ASKED.to_csv(path, index=False)
    else:
        pq.write_table(pa.Table.from_pandas(ASKED, preserve_index=False), path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> JointEBM:
    return JointEBM.load(folder / "model")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROWS_PER_PART", 25)


def test_imputations_agree_with_the_evidence_as_those_of_python(
    folder: Path, model: JointEBM, asked: Path, tmp_path: Path
) -> None:
    assert run("impute", folder / "model", asked, *GIVEN, "--out", tmp_path / "f.csv").code == 0
    found, expected = pd.read_csv(tmp_path / "f.csv"), model.impute(ASKED, given=EVIDENCE)
    assert (found["income"] == ">50K").all() and (found["count"] >= 8).all()
    for name in ("size", "count", "city"):
        assert found[name].tolist() == expected[name].tolist()
    assert not model.impute(ASKED)["income"].eq(">50K").all()


def test_predictions_use_the_evidence_as_those_of_python(
    folder: Path, model: JointEBM, asked: Path, tmp_path: Path
) -> None:
    assert run("predict", folder / "model", asked, *GIVEN, "--out", tmp_path / "p.parquet").code == 0
    found = pq.read_table(tmp_path / "p.parquet")
    assert {name.split("=")[0] for name in found.column_names} == {"indoors", "code", "one"}
    expected = model.predict_proba(ASKED, "code", given=EVIDENCE)
    assert np.array_equal(np.stack([found["code=007"], found["code=042"]], 1), expected)
    assert not np.array_equal(expected, model.predict_proba(ASKED, "code"))
    ask = ("predict", folder / "model", asked, "--target", "size", *GIVEN, "--out", tmp_path / "s.csv")
    assert run(*ask).code == 0
    sizes, ends = pd.read_csv(tmp_path / "s.csv"), model.predict_interval(ASKED, "size", given=EVIDENCE)
    assert sizes["size"].tolist() == model.predict(ASKED, "size", given=EVIDENCE).tolist()
    assert sizes[["size:5%", "size:95%"]].to_numpy().tolist() == ends.to_numpy().tolist()


def test_scores_are_of_entries_and_evidence_and_dependence_of_entries(
    folder: Path, model: JointEBM, asked: Path, tmp_path: Path
) -> None:
    assert run("score", folder / "model", asked, *GIVEN, "--out", tmp_path / "s.parquet").code == 0
    found = pq.read_table(tmp_path / "s.parquet")
    assert found["log_density"].to_pylist() == model.score_samples(ASKED, given=EVIDENCE).tolist()
    assert found["dependence"].to_pylist() == model.dependence(ASKED).tolist()
    assert (found["log_density"].to_numpy() < model.score_samples(ASKED)).all()


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_workers_know_the_evidence(folder: Path, asked: Path, tmp_path: Path) -> None:
    for command in ("impute", "predict", "score"):
        texts = []
        for workers in (1, 2):
            out = tmp_path / f"{command}-{workers}.csv"
            assert run(command, folder / "model", asked, *GIVEN, "--workers", workers, "--out", out).code == 0
            texts.append(out.read_text())
        assert texts[0] == texts[1]


@pytest.mark.parametrize("command", ["impute", "predict", "score"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_entry_that_contradicts_the_evidence_is_named_by_its_place(
    folder: Path, tmp_path: Path, command: str, ending: str
) -> None:
    """In the second part of the file, before anything is written."""
    wrong = ASKED.assign(count=pd.array([None] * 39 + [3] + [None] * 20, dtype="Int64"))
    path = tmp_path / f"wrong.{ending}"
    wrong.to_csv(path, index=False) if ending == "csv" else wrong.to_parquet(path, index=False)
    result = run(command, folder / "model", path, *GIVEN, "--out", tmp_path / "o.csv")
    place = f"{path}, line 41" if ending == "csv" else f"{path}, row 40"
    assert_refused(result, f"{place}: --given column 'count': the row holds 3", "which contradicts it")
    assert not (tmp_path / "o.csv").exists()
    if command == "predict":  # entries of targets are ignored
        given = ("--target", "count", "--given", "income=>50K", "--out", tmp_path / "p.csv")
        assert run(command, folder / "model", path, *given).code == 0


@pytest.mark.slow
def test_rows_that_break_a_relation_with_the_evidence_are_named(tmp_path: Path) -> None:
    table = related_table(1200, seed=2)
    table.to_csv(tmp_path / "t.csv", index=False)
    texts = ("--relations", "zip -> city", "--relations", "gross = tax + net")
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *QUICK, *texts).code == 0
    asked = table[["zip", "gross"]].head(9).assign(zip="zip 3", gross=80.0)
    asked.to_csv(tmp_path / "q.csv", index=False)
    out = ("--out", tmp_path / "o.csv")
    assert run("impute", tmp_path / "m", tmp_path / "q.csv", "--given", "city=city 0,tax=30", *out).code == 0
    assert_refused(
        run("score", tmp_path / "m", tmp_path / "q.csv", "--given", "city={city 1,city 2}"),
        f"{tmp_path / 'q.csv'}, line 2: --given column 'city': the row determines 'city 0', which contradicts it",
    )
    asked.assign(tax=[None] * 8 + [30.0]).to_csv(tmp_path / "q.csv", index=False)
    result = run("impute", tmp_path / "m", tmp_path / "q.csv", "--given", "net=10", "--out", tmp_path / "n.csv")
    assert_refused(result, f"{tmp_path / 'q.csv'}, line 10: --given column 'net': the row determines 50.0")


def test_entries_are_given_as_missing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 400)
    pay = pd.Series(generator.integers(1, 9, 400), dtype="Int64").mask(generator.random(400) < 0.8 * kind)
    table = pd.DataFrame({"kind": np.array(["a", "b"])[kind], "pay": pay, "age": generator.integers(20, 60, 400)})
    table.to_csv(tmp_path / "t.csv", index=False)
    model = tmp_path / "m"
    assert run("fit", tmp_path / "t.csv", "--out", model, *QUICK, "--set", "missingness=model").code == 0
    table[["age"]].head(5).to_csv(tmp_path / "q.csv", index=False)
    given = ("--given", "pay=missing")
    assert run("predict", model, tmp_path / "q.csv", *given, "--out", tmp_path / "p.csv").code == 0
    found = pd.read_csv(tmp_path / "p.csv")
    assert list(found) == ["kind", "kind=a", "kind=b"] and (found["kind"] == "b").all()
    table.head(5).assign(pay=None, kind=None).to_csv(tmp_path / "q.csv", index=False)
    assert run("impute", model, tmp_path / "q.csv", *given, "--out", tmp_path / "f.csv").code == 0
    filled = pd.read_csv(tmp_path / "f.csv")
    assert filled["pay"].isna().all() and filled["kind"].notna().all()
    table.head(5).assign(pay=[None, None, 4, None, None]).to_csv(tmp_path / "q.csv", index=False)
    result = run("score", model, tmp_path / "q.csv", *given)
    assert_refused(result, "line 4: --given column 'pay': the row has an entry, and None says that it is missing")


def test_what_cannot_be_asked_is_refused(folder: Path, asked: Path) -> None:
    model = folder / "model"
    both = run("predict", model, asked, "--target", "count", "--given", "count=8..")
    assert_refused(both, "--target 'count': is named by --given too; leave it out of one of them")
    assert_refused(run("score", model, asked, "--conditional", "--given", "count=8.."), "--conditional: scores entries")
    for command in ("impute", "predict", "score"):
        assert_refused(run(command, model, asked, "--given", "weight=3"), "--given 'weight=3': unknown column 'weight'")
        assert_refused(run(command, model, asked, "--given", "code=999"), "given column 'code'", "'999'")
        assert_refused(run(command, model, asked, "--given", "count=missing"), "given column 'count': None says")
    whole = run("predict", model, folder / "table.csv", "--given", "one=same")
    assert_refused(whole, "has every column of the model, or --given names it; name the columns to predict")


def test_what_lies_outside_the_training_range_is_said_once_whatever_the_parts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three parts of the file; the first far entry is in the second one, and one in the third is further outside."""
    monkeypatch.setattr(questions, "SAMPLES_PER_PART", 4)
    wide = ASKED.assign(size=[12.0] * 30 + [900.0] * 10 + [-4000.0] * 20, income=">50K")
    wide.to_csv(tmp_path / "wide.csv", index=False)
    for command in ("impute", "predict"):
        given = ("--given", "born=1890-02-03")
        ask = (command, folder / "model", tmp_path / "wide.csv", "--out", tmp_path / f"{command}.csv")
        result = run(*ask, *given)
        assert result.code == 0, result.err
        told = [line for line in result.err.splitlines() if "outside the training values" in line]
        assert len(told) == 2
        assert told[0].startswith("jointebm: --given column 'born': outside the training values, 2020-01")
        assert ": 1890-02-03; " in told[0]
        assert told[-1].startswith(f"jointebm: {tmp_path / 'wide.csv'}: column 'size': entries outside the training")
        assert ": 30 of 60, the first 900.0 in line 32;" in told[-1]
    result = run("sample", folder / "model", "--num", 9, "--given", "size=500", "--out", tmp_path / "s.csv")
    assert result.code == 0 and result.err.count("--given column 'size': outside the training") == 1
    assert (
        "outside the training"
        not in run("score", folder / "model", tmp_path / "wide.csv", "--out", tmp_path / "n.csv").err
    )
