"""Relations between columns, from the shell."""

import json
from pathlib import Path

import pandas as pd
import pytest

from jointebm.estimators import JointEBM
from support.command_line import assert_refused, run
from support.pet_table import QUICK
from support.related_tables import kept, related_table

TABLE = related_table(1200, seed=2)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_a_fit_lists_relations_and_commands_keep_them(table: Path, tmp_path: Path) -> None:
    result = run("fit", table, "--out", tmp_path / "m", *QUICK)
    assert result.code == 0 and "relation kept: start < end" in result.out + result.err
    assert run("sample", tmp_path / "m", "--num", 40, "--out", tmp_path / "s.parquet").code == 0
    assert set(kept(pd.read_parquet(tmp_path / "s.parquet"), TABLE).values()) == {1.0}
    questions = TABLE.head(20).assign(end=None, city=None, gross=None)
    questions.to_csv(tmp_path / "q.csv", index=False)
    assert run("impute", tmp_path / "m", tmp_path / "q.csv", "--out", tmp_path / "f.csv").code == 0
    filled = pd.read_csv(tmp_path / "f.csv", parse_dates=["start", "end"])
    assert set(kept(filled, TABLE).values()) == {1.0}


def test_relations_are_declared_or_switched_off(table: Path, tmp_path: Path) -> None:
    texts = ("--relations", "start < end", "--relations", "zip -> city", "--json")
    result = run("fit", table, "--out", tmp_path / "m", *QUICK, *texts)
    assert json.loads(result.out)["relations"] == ["start < end", "zip -> city"]
    assert JointEBM.load(tmp_path / "m").relations == ["start < end", "zip -> city"]
    assert run("fit", table, "--out", tmp_path / "n", *QUICK, "--relations", "none").code == 0
    off = JointEBM.load(tmp_path / "n")
    assert off.relations is None and off.relations_ == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--relations", "end < start"), "t.csv: relations: 'end < start': row 0 breaks it"),
        (("--relations", "none", "--relations", "auto"), "--relations none: stands alone"),
        (("--set", "relations=none"), "has an option of its own: --relations"),
        (("--relations", "start < finish"), "unknown column 'finish'"),
    ],
)
def test_relations_that_cannot_be_kept_are_one_line(
    options: tuple[str, ...], reason: str, table: Path, tmp_path: Path
) -> None:
    assert_refused(run("fit", table, "--out", tmp_path / "m", *QUICK, *options), reason)
    assert not (tmp_path / "m").exists()
