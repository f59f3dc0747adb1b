"""Entries that several sums determine together."""

import numpy as np
import pandas as pd
import pytest

from jointebm import JointEBM

QUICK = {"num_visits": 0, "rows_per_component": 50}
RNG = np.random.default_rng(0)
PARTS = pd.DataFrame({name: RNG.integers(0, 5, 400) for name in "abcd"})


def fitted(table: pd.DataFrame, *relations: str) -> JointEBM:
    return JointEBM(training=QUICK, relations=list(relations), num_draws=50).fit(table)


def test_a_sum_and_a_difference_determine_both_terms() -> None:
    table = PARTS[["a", "b"]].assign(x=PARTS["a"] + PARTS["b"], y=PARTS["a"] - PARTS["b"])
    model = fitted(table, "x = a + b", "y = a - b")
    filled = model.impute(table.assign(a=np.nan, b=np.nan).head(50))
    assert (filled[["a", "b"]].astype(int) == table[["a", "b"]].head(50)).all().all()
    scores = model.score_samples(table.drop(columns=["a", "b"]).head(50), diagnostics=True)
    assert scores.value == pytest.approx(model.score_samples(table.head(50))) and scores.diagnostics.exact.all()


def test_a_cycle_of_three_sums_determines_all_parts_and_no_more() -> None:
    """The fourth part is free, and a known entry elsewhere changes nothing."""
    table = PARTS.assign(x=PARTS["a"] + PARTS["b"], y=PARTS["b"] + PARTS["c"], z=PARTS["a"] + PARTS["c"])
    model = fitted(table, "x = a + b", "y = b + c", "z = a + c")
    asked = table.drop(columns=list("abcd")).head(30)
    probs, found = model.predict_proba(asked, "b", diagnostics=True)
    assert (model.classes("b")[probs.argmax(axis=1)] == table["b"].head(30)).all() and found.exact.all()
    assert not (probs.max(axis=1) < 1).any()
    assert (model.predict_proba(asked, "d").max(axis=1) < 0.9).all()
    assert (model.predict_proba(asked.drop(columns="z"), "b").max(axis=1) < 1).any()


def test_decimals_of_several_sums_are_kept_exactly() -> None:
    parts = pd.DataFrame({"a": RNG.gamma(2, 10, 300).round(1), "b": RNG.gamma(2, 5, 300).round(2)})
    table = parts.assign(x=(parts["a"] + parts["b"]).round(2), y=(parts["a"] - parts["b"]).round(2))
    model = fitted(table, "x = a + b", "y = a - b")
    filled = model.impute(table.assign(a=np.nan, b=np.nan))
    assert filled["a"].tolist() == parts["a"].tolist() and filled["b"].tolist() == parts["b"].tolist()


def test_reals_of_several_sums_are_solved_for() -> None:
    parts = pd.DataFrame(RNG.normal(size=(300, 3)), columns=list("abc"))
    table = parts.assign(x=parts["a"] + parts["b"], y=parts["b"] + parts["c"], z=parts["a"] + parts["c"])
    model = fitted(table, "x = a + b", "y = b + c", "z = a + c")
    filled = model.impute(table.assign(a=np.nan, b=np.nan, c=np.nan).head(40))
    assert np.abs(filled[list("abc")] - parts.head(40)).max().max() < 1e-9


def test_sums_without_a_solution_break_a_relation() -> None:
    table = PARTS[["a", "b"]].assign(x=PARTS["a"] + PARTS["b"], y=PARTS["a"] - PARTS["b"])
    model = fitted(table, "x = a + b", "y = a - b")
    assert model.score_samples(pd.DataFrame({"x": [4, 3], "y": [2, 2]})).tolist()[1] == -np.inf
