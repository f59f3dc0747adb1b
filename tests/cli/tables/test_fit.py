"""`jointebm fit`."""

from pathlib import Path

import pytest

from jointebm.estimators import JointEBM
from support.command_line import run
from support.pet_table import QUICK


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


def test_an_interrupted_fit_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JointEBM, "fit", stopped)
    result = run("fit", folder / "table.csv", "--out", tmp_path / "m", *QUICK)
    assert result.code == 130 and "nothing is written" in result.err and list(tmp_path.iterdir()) == []
