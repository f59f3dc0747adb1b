"""A density that knows which entries are missing: all answers are those of the enumerated density of recorded rows."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jointebm import JointEBM
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.fitted import FittedTable

QUICK = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.5}
LEVELS = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}


def recorded_table(num: int, *, seed: int) -> pd.DataFrame:
    """`a` is missing mostly where b is b1; `c` where a is a2, whether a is recorded or not."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 3, num), generator.integers(0, 2, num)
    c = (generator.random(num) < np.where(b == 1, 0.8, 0.3)).astype(int)
    table = pd.DataFrame({"a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b], "c": [f"c{i}" for i in c]})
    table["a"] = table["a"].mask(generator.random(num) < np.where(b == 1, 0.5, 0.1))
    table["c"] = table["c"].mask(generator.random(num) < np.where(a == 2, 0.6, 0.1))
    return table


TABLE = recorded_table(1500, seed=1)
MODEL = JointEBM(training=QUICK, missingness="model").fit(TABLE)
STATES = pd.DataFrame(product([*LEVELS["a"], None], LEVELS["b"], [*LEVELS["c"], None]), columns=list("abc"))
P = np.exp(MODEL.score_samples(STATES))


def share(**known: str | None) -> float:
    """p(these entries are recorded so), None for missing."""
    found = np.ones(len(STATES), dtype=bool)
    for name, value in known.items():
        found &= (STATES[name].isna() if value is None else STATES[name] == value).to_numpy()
    return float(P[found].sum())


def test_the_density_of_recorded_rows_sums_to_one_and_is_that_of_the_data() -> None:
    """Shares of 1,500 rows: 4.5 standard errors are below .06; the fit is smooth, which takes up to .02."""
    assert P.sum() == pytest.approx(1, abs=0.01)
    for name, levels in LEVELS.items():
        for value in (*levels, None):
            of_data = (TABLE[name].isna() if value is None else TABLE[name] == value).mean()
            assert share(**{name: value}) == pytest.approx(of_data, abs=0.03)
    both = (TABLE["a"].isna() & (TABLE["b"] == "b1")).mean()
    assert share(a=None, b="b1") == pytest.approx(both, abs=0.03)


def test_absent_columns_are_marginalised_and_missing_entries_are_known_to_be_missing() -> None:
    found = MODEL.score_samples(pd.DataFrame({"b": ["b0", "b1"]}))
    assert np.exp(found) == pytest.approx([share(b="b0"), share(b="b1")], abs=1e-5)
    found = MODEL.score_samples(pd.DataFrame({"a": [None, "a2"], "b": ["b1", "b1"]}))
    assert np.exp(found) == pytest.approx([share(a=None, b="b1"), share(a="a2", b="b1")], abs=1e-5)


def test_given_that_an_entry_is_missing_is_a_condition() -> None:
    question = pd.DataFrame({"c": ["c0", "c1", None]})
    truth = [share(a=None, b="b1", c=c) / share(a=None, c=c) for c in ("c0", "c1", None)]
    probs = MODEL.predict_proba(question, "b", given={"a": None})
    assert probs[:, 1] == pytest.approx(truth, abs=1e-5)
    assert MODEL.predict_proba(question.assign(a=None), "b") == pytest.approx(probs)  # as the entry says it
    assert np.exp(MODEL.score_samples(question, given={"a": np.nan})) == pytest.approx(
        [share(a=None, c=c) for c in ("c0", "c1", None)], abs=1e-5
    )
    joint = MODEL.predict_joint_proba(pd.DataFrame({"a": [None]}), ["b", "c"])[0]
    for (i, b), (j, c) in product(enumerate(LEVELS["b"]), enumerate(LEVELS["c"])):
        recorded = sum(share(a=None, b=b, c=each) for each in LEVELS["c"])
        assert joint[i, j] == pytest.approx(
            share(a=None, b=b) / share(a=None) * share(a=None, b=b, c=c) / recorded, abs=1e-4
        )


def test_a_prediction_is_one_of_recorded_values() -> None:
    probs = MODEL.predict_proba(pd.DataFrame({"b": ["b1"], "c": [None]}), "a")[0]
    seen = [share(a=a, b="b1", c=None) for a in LEVELS["a"]]
    assert probs == pytest.approx(np.array(seen) / sum(seen), abs=1e-5)
    assert probs[2] > 0.55  # c is missing mostly where a is a2


@pytest.mark.slow
def test_samples_leave_entries_missing_as_in_the_data() -> None:
    """20,000 draws: 4.5 standard errors of a frequency are at most .016; false alarms below 1e-3 in 24 comparisons."""
    rows = MODEL.sample(20_000, missingness="model", seed=4)
    for place, state in STATES.iterrows():
        same = np.logical_and.reduce([rows[k].isna() if pd.isna(v) else rows[k] == v for k, v in state.items()])
        assert same.mean() == pytest.approx(P[place], abs=0.016)
    given = MODEL.sample(2000, given={"a": None, "c": {"c0", "c1"}}, seed=5)
    assert given["a"].isna().all() and given["c"].notna().all()
    truth = share(a=None, b="b1", c="c0") + share(a=None, b="b1", c="c1")
    assert (given["b"] == "b1").mean() == pytest.approx(truth / (share(a=None) - share(a=None, c=None)), abs=0.05)


@pytest.mark.slow
def test_complete_samples_fill_what_they_would_leave_missing() -> None:
    """20,000 draws, as above; missing entries are filled as recorded ones are, given the rest."""
    rows = MODEL.sample(20_000, seed=6)
    assert rows.notna().all().all()
    complete = {(a, b, c): share(a=a, b=b, c=c) for a in LEVELS["a"] for b in LEVELS["b"] for c in LEVELS["c"]}
    for a, b in product(LEVELS["a"], LEVELS["b"]):
        of_b = sum(complete[each] for each in complete if each[1] == b)
        truth = share(a=a, b=b) + share(a=None, b=b, c=None) * sum(complete[a, b, c] for c in LEVELS["c"]) / of_b
        for c in LEVELS["c"]:
            truth += share(a=None, b=b, c=c) * complete[a, b, c] / sum(complete[each, b, c] for each in LEVELS["a"])
        assert ((rows["a"] == a) & (rows["b"] == b)).mean() == pytest.approx(truth, abs=0.016)


def test_diagnostics_of_complete_samples_are_the_least_of_both_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second draw, which fills, has fewer effective draws here, and is no less exact."""
    found: list[Diagnostics[torch.Tensor]] = []
    impute = FittedTable.impute

    def watched(self: FittedTable, *arguments: Any, **more: Any) -> Answer[Any]:
        answer = impute(self, *arguments, **more)
        stage = len(found) + 1
        found.append(
            replace(answer.diagnostics, ess=torch.full((9,), 60.0 / stage), num_jumps=torch.full((9,), 2.0 * stage))
        )
        return Answer(answer.value, found[-1])

    monkeypatch.setattr(FittedTable, "impute", watched)
    _, both = MODEL.sample(9, seed=6, diagnostics=True)
    assert len(found) == 2 and (both.ess == 30).all() and (both.num_jumps == 2).all() and both.standard_error is None
    assert (both.exact == (found[0].exact & found[1].exact).numpy()).all()
    _, first = MODEL.sample(9, seed=6, missingness="model", diagnostics=True)
    assert (first.ess == 20).all()  # the third draw that is watched, and none fills it


def test_imputations_fill_as_recorded_entries_are_and_keep_what_is_given_as_missing() -> None:
    question = pd.DataFrame({"a": [None] * 50, "b": ["b1"] * 50, "c": [None] * 50})
    filled = MODEL.impute(question)
    assert filled.notna().all().all()
    kept = MODEL.impute(question, given={"a": None})
    assert kept["a"].isna().all() and kept["c"].notna().all()
    conditions = pd.DataFrame({"b": ["b1", "b0"], "c": [None, "c1"]}, index=[3, 4])
    rows = MODEL.sample(given=conditions)
    assert rows.notna().all().all() and list(rows["b"]) == ["b1", "b0"] and rows["c"][4] == "c1"
    drawn = pd.concat(MODEL.draw_joint(question.head(9), ["a", "b"], 3, given={"a": None}))
    assert drawn["a"].isna().all() and drawn["b"].notna().all()


def test_a_stored_model_answers_alike(tmp_path: Path) -> None:
    MODEL.save(tmp_path / "m")
    again = JointEBM.load(tmp_path / "m")
    assert again.missingness == "model" and again.get_params() == MODEL.get_params()
    pd.testing.assert_frame_equal(
        again.sample(20, missingness="model", given={"c": None}),
        MODEL.sample(20, missingness="model", given={"c": None}),
    )
    assert list(again.sample(3).columns) == ["a", "b", "c"] and again.codec_.names == ("a", "b", "c")


def test_what_a_model_cannot_know_is_refused() -> None:
    with pytest.raises(
        ValueError, match="given column 'b': None says that the entry is missing, and in training none was"
    ):
        MODEL.sample(3, given={"b": None})
    with pytest.raises(ValueError, match="given column 'a': row 1 of X has an entry, and None says that it is missing"):
        MODEL.impute(pd.DataFrame({"a": [None, "a0"]}), given={"a": None})
    plain = JointEBM(training=QUICK).fit(TABLE)
    with pytest.raises(
        ValueError, match=r"this model does not know which entries are; fit JointEBM\(missingness='model'\)"
    ):
        plain.sample(3, given={"a": None})
    with pytest.raises(ValueError, match=r"missingness: this model does not know which entries are missing; fit"):
        plain.sample(3, missingness="model")
    with pytest.raises(ValueError, match="missingness: got 'mar', expected 'ignored' or 'model'"):
        MODEL.sample(3, missingness="mar")
    with pytest.raises(ValueError, match="missingness: got 'mar'"):
        JointEBM(missingness="mar").fit(TABLE)
