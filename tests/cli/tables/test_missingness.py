"""Missing entries that tell something, from the shell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support.command_line import assert_refused, run
from support.pet_table import QUICK


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """`pay` is missing in most rows of kind b, and `kind` in none."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 400)
    pay = pd.Series(generator.integers(1, 9, 400), dtype="Int64").mask(generator.random(400) < 0.8 * kind)
    pd.DataFrame({"kind": np.array(["a", "b"])[kind], "pay": pay}).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_samples_are_given_missing_entries_or_leave_them(table: Path, tmp_path: Path) -> None:
    assert run("fit", table, "--out", tmp_path / "m", *QUICK, "--set", "missingness=model").code == 0
    given = ("sample", tmp_path / "m", "--num", 200, "--given", "pay=missing", "--out", tmp_path / "g.csv")
    assert run(*given).code == 0
    rows = pd.read_csv(tmp_path / "g.csv")
    assert rows["pay"].isna().all() and (rows["kind"] == "b").mean() > 0.9
    assert run("sample", tmp_path / "m", "--num", 300, "--missingness", "model", "--out", tmp_path / "s.csv").code == 0
    missing = pd.read_csv(tmp_path / "s.csv").groupby("kind")["pay"].apply(lambda each: each.isna().mean())
    assert missing["a"] < 0.1 and 0.6 < missing["b"] < 0.95
    assert run("sample", tmp_path / "m", "--num", 300, "--out", tmp_path / "c.csv").code == 0
    assert pd.read_csv(tmp_path / "c.csv").notna().all().all()
    pd.DataFrame({"pay": ["", "3"]}).to_csv(tmp_path / "q.csv", index=False)
    assert run("predict", tmp_path / "m", tmp_path / "q.csv", "--target", "kind", "--out", tmp_path / "p.csv").code == 0
    assert pd.read_csv(tmp_path / "p.csv")["kind"].tolist() == ["b", "a"]


def test_a_model_without_missingness_refuses_both(table: Path, tmp_path: Path) -> None:
    assert run("fit", table, "--out", tmp_path / "m", *QUICK).code == 0
    assert_refused(run("sample", tmp_path / "m", "--given", "pay=missing"), "fit JointEBM(missingness='model')")
    assert_refused(run("sample", tmp_path / "m", "--missingness", "model"), "does not know which entries are missing")
