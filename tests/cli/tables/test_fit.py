"""`jointebm fit`."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.estimators import JointEBM
from support.command_line import assert_refused, run
from support.pet_table import QUICK, write_csv


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


@pytest.mark.filterwarnings("ignore:the fit learned nothing")  # one visit
def test_a_fit_reports_its_progress_and_its_score(folder: Path, tmp_path: Path) -> None:
    training = ("--set", "num_visits=1", "--set", "width=8", "--set", "num_looks=2")
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *training)
    assert result.code == 0 and "held-out log score -" in result.err and "treated as" in result.out


def test_the_share_of_rows_in_rare_levels_is_printed_and_in_the_card(tmp_path: Path) -> None:
    cities = ["Aa"] * 35 + ["Bb"] * 4 + ["Cc"]
    table = write_csv(
        tmp_path / "t.csv", [["city", "size"], *([city, str(place)] for place, city in enumerate(cities))]
    )
    result = run("fit", table, "--out", tmp_path / "m", *QUICK)
    assert result.code == 0 and "rare" in result.out and result.out.count("12.5%") == 1 == result.out.count("%")
    assert "| city | label | 3 | 12.5% |" in (tmp_path / "m" / "model" / "README.md").read_text()
    shown = json.loads(run("fit", table, "--out", tmp_path / "n", "--json", *QUICK).out)
    assert [column["rare_share"] for column in shown["columns"]] == [0.125, None]


@pytest.mark.filterwarnings("default:fit. no column")
def test_a_fit_that_models_no_column_says_so(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [["name", "none"], *([f"pet {number}", ""] for number in range(30))])
    result = run("fit", table, "--out", tmp_path / "m", *QUICK)
    assert result.code == 0 and result.err.count("no column is modelled: 'name' (id), 'none' (all missing)") == 1
    kept = run("fit", table, "--out", tmp_path / "n", "--kind", "name=categorical", *QUICK)
    assert kept.code == 0 and "no column" not in kept.err
    with pytest.warns(UserWarning, match=r"no column is modelled.*kinds=\{...: 'categorical'\}") as found:
        JointEBM(training={"num_visits": 0}).fit(pa.table({"name": [f"pet {number}" for number in range(30)]}))
    assert [each.filename for each in found] == [__file__]


def test_a_table_is_named_as_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, reason in (
        ("", "t.csv: is empty"),
        ("x,y\n", "t.csv: has no rows"),
        ("x,y\n1\n", "t.csv, line 2, column 'y'"),
        ("x,y\n1,2\n", "t.csv: relations: 'x > y': row 0 breaks it"),
    ):
        (tmp_path / "t.csv").write_text(text)
        assert_refused(run("fit", "t.csv", "--out", "m", *QUICK, "--relations", "x > y"), f"error: {reason}")


@pytest.mark.parametrize(
    ("text", "reason"), [("x,x\n1,2\n", "duplicate column 'x'"), ("x,y\n", "has no rows below the names")]
)
def test_a_malformed_file_is_one_line_and_no_model(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert_refused(run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *QUICK), reason)
    assert not (tmp_path / "m").exists()


def test_words_for_missing_values_stay_with_the_model(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(1, 9, 60)
    rows = [["a", "b"], *([str(number), "-999" if number == 8 else str(2 * number)] for number in numbers)]
    table = write_csv(tmp_path / "t.csv", rows)
    assert run("fit", table, "--out", tmp_path / "m", "--missing=-999", *QUICK).code == 0
    assert JointEBM.load(tmp_path / "m").reading_.missing == ("-999", "-999.0")
    JointEBM.load(tmp_path / "m").save(tmp_path / "again")
    filled = run("impute", tmp_path / "again", table).out
    assert "-999" not in filled and len(filled.splitlines()) == 61
    asked = [write_csv(tmp_path / f"{word or 'empty'}.csv", [["a", "b"], ["8", word]]) for word in ("-999", "?", "")]
    for command in (("score",), ("predict", "--target", "a")):
        name, *more = command
        answers = [run(name, tmp_path / "m", file, *more, "--missing", "?") for file in asked]
        assert answers[0].code == 0 and answers[0].out == answers[1].out == answers[2].out
    assert_refused(run("score", tmp_path / "m", asked[1]), "got '?', expected a number")
    pq.write_table(pa.table({"a": [8], "b": [-999]}), tmp_path / "p.parquet")
    assert run("score", tmp_path / "m", tmp_path / "p.parquet").out == run("score", tmp_path / "m", asked[0]).out


def test_an_interrupted_fit_names_the_command_that_resumes_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JointEBM, "fit_rows", stopped)
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *QUICK)
    assert result.code == 130 and f"resume with: jointebm fit --resume {tmp_path / 'm'}" in result.err
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["fit.json"]


def test_how_cells_are_read_stays_with_the_model(tmp_path: Path) -> None:
    """Files come out as they go in, and a command that reads otherwise than the fit says so in one line."""
    rng = np.random.default_rng(0)
    numbers = [f"{number:.1f}".replace(".", ",") for number in rng.normal(5, 2, 60)]
    lines = [f"{number if place % 5 else '-9'};caf\xe9 {place % 2}" for place, number in enumerate(numbers)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["x;y", *lines, ""]), "cp1252")
    dialect = ("--separator", ";", "--decimal", ",", "--encoding", "cp1252")
    assert run("fit", table, "--out", tmp_path / "m", "--missing=-9", *dialect, *QUICK).code == 0
    assert JointEBM.load(tmp_path / "m").reading_.separator == ";"
    result = run("impute", tmp_path / "m", table, "--out", tmp_path / "filled.csv")
    assert result.code == 0 and result.err.count("\n") == 1
    filled = (tmp_path / "filled.csv").read_text("cp1252").splitlines()
    assert len(filled) == 61 and not [line for line in filled if "-9;" in line or "." in line]
    for place, (before, after) in enumerate(zip(lines, filled[1:], strict=True)):
        assert place % 5 == 0 or before == after
    assert run("sample", tmp_path / "m", "--num", 3).out.startswith("x;y\n")
    plain = write_csv(tmp_path / "plain.csv", [["x", "y"], ["4.5", "caf\xe9 1"]])
    assert_refused(run("score", tmp_path / "m", plain), "got one column, 'x,y'; name what separates its cells")
    contradicted = run("score", tmp_path / "m", plain, "--separator", ",", "--decimal", ".", "--encoding", "utf-8")
    assert contradicted.code == 0 and contradicted.err.count("\n") == 1
    assert "--separator ',' (of the fit: ';'); --decimal '.' (of the fit: ','); --encoding" in contradicted.err
    assert contradicted.out.startswith("log_density,dependence\n")
    assert "--missing '?' (not missing in the fit)" in run("score", tmp_path / "m", table, "--missing", "?").err
    assert "--missing" not in run("score", tmp_path / "m", table, "--missing=-9").err
    for option, text in (("--separator", "ab"), ("--decimal", ";"), ("--encoding", "klingon")):
        refused = run("score", tmp_path / "m", table, option, text)
        assert_refused(refused, option.lstrip("-"), text)
        assert "Value error" not in refused.err


def test_text_that_its_encoding_lacks_is_refused_before_a_file_appears(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [["x", "y"], *([["1", "\u6f22"], ["2", "b"]] * 30)])
    assert run("fit", table, "--out", tmp_path / "m", *QUICK).code == 0
    pq.write_table(pa.table({"x": [1]}), tmp_path / "t.parquet")
    ask = ("predict", tmp_path / "m", tmp_path / "t.parquet", "--target", "y", "--encoding", "latin-1")
    written = run(*ask, "--out", tmp_path / "out.csv")
    assert written.code == 2 and not (tmp_path / "out.csv").exists()
    assert f"{tmp_path / 'out.csv'}: '\\u6f22' cannot be written as iso8859-1" in written.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "num_visits=-1"), "error: --set num_visits: got -1: "),
        (("--set", "max_bins=abc"), "error: --set max_bins: got 'abc': "),
        (("--kind", "zz=numeric"), "error: --kind 'zz': unknown column; columns: "),
    ],
)
def test_a_wrong_option_is_named_and_the_table_is_not_blamed(
    arguments: tuple[str, str], message: str, folder: Path, tmp_path: Path
) -> None:
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *arguments)
    assert result.code == 2 and message in result.err and "table.csv" not in result.err
    assert not (tmp_path / "m").exists()
