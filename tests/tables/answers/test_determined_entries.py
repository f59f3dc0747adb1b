"""Entries that relations determine are predicted as they are, not at the resolution of codes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jointebm import JointEBM
from jointebm.estimators import JointEBMRegressor
from support.command_line import run

GENERATOR = np.random.default_rng(5)
TAX, NET = GENERATOR.gamma(2, 10, 300).round(2), GENERATOR.gamma(2, 50, 300).round(2)
PLACE = GENERATOR.integers(0, 40, 300)
TABLE = pd.DataFrame(
    {
        "gross": (TAX + NET).round(2),
        "tax": TAX,
        "net": NET,
        "day": np.datetime64("2024-01-01") + GENERATOR.integers(0, 300, 300),
        "zip": [f"z{each}" for each in PLACE],
        "city": [f"city of {each // 3}" for each in PLACE],
    }
).assign(same=lambda table: table["day"])
QUICK = {"num_visits": 0, "rows_per_component": 100}
RELATIONS = ["gross = tax + net", "zip -> city", "day = same"]
MODEL = JointEBM(training=QUICK, relations=RELATIONS, max_levels=4).fit(TABLE)
COLUMNS = ["gross", "city", "same", "net"]  # the last is solved for


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_determined_entry_is_predicted_exactly(name: str, statistic: str) -> None:
    found = MODEL.predict(TABLE.drop(columns=name), name, statistic=statistic)
    pd.testing.assert_series_equal(found, TABLE[name])


def test_rows_that_determine_nothing_keep_their_predictions() -> None:
    asked = TABLE.head(4).drop(columns="gross").assign(tax=[np.nan, 1.0, np.nan, 2.0])
    found = MODEL.predict(asked, "gross")
    assert found[[1, 3]].tolist() == (asked["tax"] + asked["net"])[[1, 3]].round(2).tolist()
    open_rows = asked.drop(columns="tax")
    assert found[[0, 2]].tolist() == MODEL.predict(open_rows, "gross")[[0, 2]].tolist()
    assert (found[[0, 2]] > asked["net"][[0, 2]]).all()


def test_all_quantiles_of_a_determined_entry_are_the_entry() -> None:
    found = MODEL.predict_quantiles(TABLE.drop(columns="gross"), "gross", quantiles=[0.1, 0.9])
    for name in ("gross:10%", "gross:90%"):
        assert (found[name] == TABLE["gross"]).all()
    assert (MODEL.predict_interval(TABLE.drop(columns="same"), "same")["same:5%"] == TABLE["day"]).all()


def test_a_regressor_predicts_a_determined_entry_exactly() -> None:
    means, diagnostics = JointEBMRegressor.of(MODEL, "gross").predict(TABLE.drop(columns="gross"), diagnostics=True)
    assert np.array_equal(means, TABLE["gross"])
    assert (diagnostics.standard_error == 0).all()


def test_a_model_of_missing_entries_predicts_a_determined_entry_exactly() -> None:
    table = TABLE.assign(gross=TABLE["gross"].mask(GENERATOR.random(300) < 0.2))
    model = JointEBM(training=QUICK, relations=RELATIONS, missingness="model").fit(table)
    assert model.predict(TABLE.drop(columns="gross"), "gross").tolist() == TABLE["gross"].tolist()


def test_the_shell_predicts_a_determined_entry_exactly(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "model")
    TABLE.drop(columns="gross").to_csv(tmp_path / "t.csv", index=False)
    asked = run("predict", tmp_path / "model", tmp_path / "t.csv", "--target", "gross", "--out", tmp_path / "p.csv")
    assert asked.code == 0, asked.err
    found = pd.read_csv(tmp_path / "p.csv")
    for name in ("gross", "gross:5%", "gross:95%"):
        assert (found[name] == TABLE["gross"]).all(), name
