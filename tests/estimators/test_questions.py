"""Questions with evidence, conditions per row, quantiles and several columns: against the enumerated density."""

import itertools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.special import logsumexp

from jointebm import JointEBM
from jointebm.tables.answers import code_questions, configurations
from jointebm.tables.frames.reading import read_frame

RNG = np.random.default_rng(7)
LEVELS = {"a": ["x", "y"], "b": ["p", "q", "r"], "c": [0, 1, 2, 3]}
ALL = pd.DataFrame(list(itertools.product(*LEVELS.values())), columns=list(LEVELS))
FAST = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.1}


def rows(num: int) -> pd.DataFrame:
    """Categories and small numbers that depend on one another."""
    a = RNG.integers(0, 2, num)
    b = np.where(RNG.random(num) < 0.8, a, RNG.integers(0, 3, num))
    c = np.clip(a + b + (RNG.random(num) < 0.3), 0, 3)
    return pd.DataFrame({"a": np.array(LEVELS["a"])[a], "b": np.array(LEVELS["b"])[b], "c": c})


MODEL = JointEBM(training=FAST, num_draws=400).fit(rows(500))
LOG_P = MODEL.score_samples(ALL)
LOG_CODES = MODEL.model_.log_prob(torch.from_numpy(MODEL.codec_.encode(read_frame(ALL).table)), seed=0).numpy()
GIVEN = {"b": {"p", "r"}, "c": (1, 2)}
AGREES = (ALL["b"].isin(["p", "r"]) & ALL["c"].between(1, 2)).to_numpy()


@pytest.fixture(params=["exact", "draws"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JointEBM:
    """The model, which enumerates, or averages over draws as it does for rows with many configurations."""
    if request.param == "draws":
        monkeypatch.setattr(configurations, "FEW_CONFIGURATIONS", 1)
        monkeypatch.setattr(configurations, "MAX_ENUMERATED", 1)
    return MODEL


# Evidence. Estimates over 400 draws of a reference that is the density itself have an error of at most .03 in a
# probability: four standard errors of .5 / sqrt(400) are .1, and the seed is fixed.


def test_scores_with_evidence_sum_over_all_that_agrees(model: JointEBM) -> None:
    asked = pd.DataFrame({"a": ["x", "y", None]})
    expected = [logsumexp(LOG_P[AGREES & mask]) for mask in (ALL["a"] == "x", ALL["a"] == "y", ALL["a"] != "z")]
    assert model.score_samples(asked, given=GIVEN) == pytest.approx(np.array(expected), abs=0.1)
    if configurations.MAX_ENUMERATED > 1:
        assert model.score_samples(asked, given=GIVEN) == pytest.approx(np.array(expected), abs=1e-5)


def test_predictions_with_evidence_are_conditionals_of_the_part_that_agrees(model: JointEBM) -> None:
    joint = np.exp([logsumexp(LOG_P[AGREES & (ALL["a"] == level)]) for level in LEVELS["a"]])
    found = model.predict_proba(pd.DataFrame({"c": [None]}, dtype=object), "a", given=GIVEN)[0]
    is_exact = configurations.MAX_ENUMERATED > 1
    assert found == pytest.approx(joint / joint.sum(), abs=1e-5 if is_exact else 0.1)
    mean = np.exp(LOG_P[AGREES]) @ ALL["c"][AGREES] / np.exp(LOG_P[AGREES]).sum()
    free = {"b": GIVEN["b"], "a": {"x", "y"}}
    kept = ALL["b"].isin(["p", "r"]).to_numpy()
    mean = np.exp(LOG_P[kept]) @ ALL["c"][kept] / np.exp(LOG_P[kept]).sum()
    guess = model.predict(pd.DataFrame({"a": [None]}), "c", given=free)
    assert guess.tolist() == [round(mean)] and abs(mean - round(mean)) < 0.4
    assert (
        model.predict(pd.DataFrame({"a": ["x"]}), "b", given={"c": 3}).tolist()
        == model.predict(pd.DataFrame({"a": ["x"], "c": [3]}), "b").tolist()
    )


def test_imputations_agree_with_the_evidence_and_have_its_frequencies(model: JointEBM) -> None:
    """Four standard errors of a share over 1,500 rows; chains of the second case have the density as their target."""
    asked = pd.DataFrame({name: pd.Series([None] * 1500, dtype=object) for name in LEVELS})
    filled = model.impute(asked, given=GIVEN)
    assert filled["b"].isin(["p", "r"]).all() and filled["c"].isin([1, 2]).all()
    expected = np.exp(logsumexp(LOG_P[AGREES & (ALL["a"] == "x")]) - logsumexp(LOG_P[AGREES]))
    assert (filled["a"] == "x").mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(1500))


def test_evidence_about_an_observed_entry_must_agree_with_it() -> None:
    asked = pd.DataFrame({"a": ["x", "x"], "c": [1, 3], "b": [None, None]})
    for ask in (MODEL.impute, MODEL.score_samples, lambda asked, **more: MODEL.predict(asked, "b", **more)):
        with pytest.raises(ValueError, match="given column 'c': row 1 of X holds 3, which contradicts it"):
            ask(asked, given={"c": (0, 2)})
        with pytest.raises(ValueError, match="given column 'c': row 0 of X holds 1, which contradicts it"):
            ask(asked, given={"c": {3, 2}})
    filled = MODEL.impute(asked, given={"c": (1, 3), "b": "q"})
    assert filled["c"].tolist() == [1, 3] and filled["b"].tolist() == ["q", "q"]
    with pytest.raises(ValueError, match="given column 'b': is a target"):
        MODEL.predict(asked, "b", given={"b": "q"})


def test_an_interval_of_reals_is_a_mass_and_a_real_has_none() -> None:
    model = JointEBM(training=FAST).fit(pd.DataFrame({"u": RNG.normal(size=300), "a": RNG.integers(0, 2, 300)}))
    below, above = (model.score_samples(pd.DataFrame({"a": [1]}), given={"u": each}) for each in ((None, 0), (0, None)))
    assert np.logaddexp(below, above) == pytest.approx(model.score_samples(pd.DataFrame({"a": [1]})), abs=1e-4)
    with pytest.raises(ValueError, match="given column 'u': single reals have no probability"):
        model.score_samples(pd.DataFrame({"a": [1]}), given={"u": 0.5})
    drawn = model.impute(pd.DataFrame({"u": [np.nan] * 200, "a": [1] * 200}), given={"u": (-0.3, 0.4)})["u"]
    assert drawn.between(-0.3, 0.4).all() and drawn.nunique() > 50


# Conditions per row


def test_a_frame_gives_one_row_per_condition_in_order() -> None:
    conditions = pd.DataFrame({"c": [3, 0, None], "a": ["y", None, "x"]}, index=[10, 5, 7])
    drawn = MODEL.sample(given=conditions)
    assert drawn.index.tolist() == [10, 5, 7] and list(drawn) == ["a", "b", "c"]
    assert drawn["c"].tolist()[:2] == [3, 0] and drawn["a"].tolist()[::2] == ["y", "x"] and drawn.notna().all().all()
    assert drawn["c"].dtype == np.int64
    part = MODEL.sample(given=conditions.iloc[1:], first=1)
    assert part.equals(drawn.iloc[1:])


def test_equal_conditions_get_independent_draws_of_their_conditional() -> None:
    """Four standard errors of a share over 2,000 rows."""
    drawn = MODEL.sample(given=pd.DataFrame({"c": [1] * 2000}))
    mask = (ALL["c"] == 1).to_numpy()
    for level in LEVELS["b"]:
        expected = np.exp(logsumexp(LOG_P[mask & (ALL["b"] == level)]) - logsumexp(LOG_P[mask]))
        assert (drawn["b"] == level).mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(2000))
    assert not MODEL.sample(given=pd.DataFrame({"c": [1] * 50}), seed=1).equals(drawn.head(50))


def test_conditions_come_from_any_frame_and_answers_are_like_the_training_frame() -> None:
    asked = pl.DataFrame({"c": [3, 0]})
    assert MODEL.sample(given=asked).equals(MODEL.sample(given=asked.to_pandas()))


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"c": [1, 9], "a": ["x", "z"]}, "given column 'a': row 1 holds 'z', which was not seen in training"),
        ({"c": [1, 1.5]}, "given column 'c': row 1 holds 1.5, which is off the grid of the column"),
        ({"d": [1, 2]}, "unknown column 'd'"),
    ],
)
def test_impossible_conditions_are_named_by_row(conditions: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODEL.sample(given=pd.DataFrame(conditions))
    with pytest.raises(ValueError, match=r"n: got 2 with a frame of conditions.*repeat its rows"):
        MODEL.sample(2, given=pd.DataFrame({"c": [1]}))


def test_given_times_with_a_zone_warn_of_nothing() -> None:
    hours = pd.date_range("2024-03-01", periods=200, freq="h", tz="Europe/Berlin")
    model = JointEBM(training=FAST).fit(pd.DataFrame({"t": hours, "a": range(200)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for low in ("2024-03-05T00:00+01:00", pd.Timestamp("2024-03-05", tz="Europe/Berlin")):
            assert model.sample(20, given={"t": (low, None)})["t"].min() >= hours[96]
        assert model.sample(given=pd.DataFrame({"t": hours[:2]}))["t"].tolist() == hours[:2].tolist()


# Quantiles, and several columns


def test_quantiles_invert_the_conditional_distribution() -> None:
    for level in LEVELS["b"]:
        mask = (ALL["b"] == level).to_numpy()
        mass = [np.exp(logsumexp(LOG_P[mask & (ALL["c"] == value)]) - logsumexp(LOG_P[mask])) for value in LEVELS["c"]]
        levels = [0.05, 0.3, 0.5, 0.71, 0.95]
        expected = [int((np.cumsum(mass) <= each).sum()) for each in levels]
        found = MODEL.predict_quantiles(pd.DataFrame({"b": [level]}, index=["k"]), "c", quantiles=levels)
        assert found.loc["k"].tolist() == expected
        assert list(found) == ["c:5%", "c:30%", "c:50%", "c:71%", "c:95%"] and (found.dtypes == np.int64).all()


def test_an_interval_is_the_two_quantiles_around_its_coverage() -> None:
    asked = pl.DataFrame({"b": ["p", "q"]})
    found = MODEL.predict_interval(asked, "c", coverage=0.95)
    assert isinstance(found, pl.DataFrame) and found.columns == ["c:2.5%", "c:97.5%"]
    assert found.equals(MODEL.predict_quantiles(asked, "c", quantiles=[0.025, 0.975]))
    narrow = MODEL.predict_interval(asked, "c", coverage=0.5, given={"a": "x"})
    assert (narrow["c:75%"] <= found["c:97.5%"]).all()
    for wrong, got in (([0.5, 1.5], "1.5"), (0.5, "0.5"), ([], r"\[\]"), ("5%", "'5%'")):
        with pytest.raises(ValueError, match=rf"quantiles: got {got}, expected a list of levels in \(0, 1\)"):
            MODEL.predict_quantiles(asked, "c", quantiles=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a level occurs twice"):
        MODEL.predict_quantiles(asked, "c", quantiles=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"coverage: got 1, expected a share in \(0, 1\)"):
        MODEL.predict_interval(asked, "c", coverage=1)
    with pytest.raises(ValueError, match=r"column 'b': has no quantiles; call predict_proba\(X, 'b'\)"):
        MODEL.predict_quantiles(asked, "b")


def test_joint_probabilities_are_those_of_the_enumerated_density() -> None:
    found = MODEL.predict_joint_proba(pd.DataFrame({"a": ["y", None]}), ["c", "b"])
    assert found.shape == (2, 4, 3)
    for row, mask in enumerate(((ALL["a"] == "y").to_numpy(), np.ones(len(ALL), dtype=bool))):
        total = logsumexp(LOG_CODES[mask])
        for (i, c), (j, b) in itertools.product(enumerate(LEVELS["c"]), enumerate(LEVELS["b"])):
            both = logsumexp(LOG_CODES[mask & (ALL["c"] == c) & (ALL["b"] == b)])
            assert found[row, i, j] == pytest.approx(np.exp(both - total), abs=1e-5)
    assert MODEL.predict_joint_proba(pd.DataFrame({"a": ["y"]}), ["b"], given={"c": (2, 3)})[0] == pytest.approx(
        MODEL.predict_proba(pd.DataFrame({"a": ["y"]}), "b", given={"c": (2, 3)})[0], abs=1e-12
    )


def test_levels_that_share_a_code_have_their_shares_in_joint_probabilities() -> None:
    table = pd.DataFrame({"k": list("aaaabbbbccd") * 20, "g": list("uuvvuuvvuuv") * 20})
    model = JointEBM(training=FAST, max_levels=2).fit(table)
    found = model.predict_joint_proba(pd.DataFrame(index=[0], columns=[]).assign(g=None), ["k", "g"])[0]
    assert found.sum() == pytest.approx(1) and found.sum(axis=0) == pytest.approx(
        model.predict_proba(pd.DataFrame({"k": [None]}), "g")[0], abs=1e-5
    )
    shared = [level for level in "abcd" if level != model.classes("k")[0]]
    rare = [found[model.classes("k").tolist().index(level)].sum() for level in shared]
    counts = table["k"].value_counts()[shared].to_numpy()
    assert rare / np.sum(rare) == pytest.approx(counts / counts.sum(), abs=1e-6)


def test_joint_draws_have_the_joint_frequencies() -> None:
    """Four standard errors of a share over 2,000 draws."""
    draws = MODEL.draw_joint(pd.DataFrame({"a": ["y"] * 2000}), ["c", "b"], 2, given={"c": (2, 3)})
    assert len(draws) == 2 and list(draws[0]) == ["c", "b"] and not draws[0].equals(draws[1])
    mask = ((ALL["a"] == "y") & ALL["c"].between(2, 3)).to_numpy()
    for c, b in itertools.product((2, 3), LEVELS["b"]):
        expected = np.exp(logsumexp(LOG_P[mask & (ALL["c"] == c) & (ALL["b"] == b)]) - logsumexp(LOG_P[mask]))
        share = ((draws[0]["c"] == c) & (draws[0]["b"] == b)).mean()
        assert share == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(2000))
    with pytest.raises(TypeError, match="draw_joint: got 'c', expected a list of names"):
        MODEL.draw_joint(pd.DataFrame({"a": ["y"]}), "c", 1)
    with pytest.raises(ValueError, match="duplicate column 'c'; name it once"):
        MODEL.draw_joint(pd.DataFrame({"a": ["y"]}), ["c", "c"], 1)


def test_too_many_combinations_are_refused() -> None:
    letters = pd.DataFrame({name: list("abcdefghij") * 30 for name in "klmn"})
    model = JointEBM(training=FAST).fit(letters)
    with pytest.raises(ValueError, match="got 10000 combinations of classes, expected at most 4096; call draw_joint"):
        model.predict_joint_proba(letters.head(1), list("klmn"))


def test_rows_with_evidence_answer_alone_as_in_a_batch() -> None:
    assert code_questions.EVALUATIONS > 40
    asked = pd.DataFrame({"a": ["x", "y", None] * 10})
    whole = MODEL.score_samples(asked, given=GIVEN)
    assert [MODEL.score_samples(asked.iloc[[row]], given=GIVEN)[0] for row in range(6)] == whole[:6].tolist()
