"""A fitted table: its scores are those of the enumerated density."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.base import clone

from jointebm import JointEBM, JointEBMOutlierDetector

RNG = np.random.default_rng(5)
LEVELS = {"a": ["x", "y"], "b": ["p", "q", "r"], "c": [False, True]}
ALL = pd.DataFrame(list(itertools.product(*LEVELS.values())), columns=list(LEVELS))


def rows(num: int) -> pd.DataFrame:
    """Categories that depend on one another."""
    a = RNG.integers(0, 2, num)
    b = np.where(RNG.random(num) < 0.8, a, RNG.integers(0, 3, num))
    c = (RNG.random(num) < 0.2) ^ (b == 1)
    return pd.DataFrame({"a": np.array(LEVELS["a"])[a], "b": np.array(LEVELS["b"])[b], "c": c})


TABLE = rows(400)
MODEL = JointEBM(base="mixture", training={"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.1}).fit(TABLE)
LOG_P = MODEL.score_samples(ALL) - logsumexp(MODEL.score_samples(ALL))


def marginal(**given: object) -> float:
    """log p of some entries, by enumeration."""
    agrees = np.all([ALL[name] == value for name, value in given.items()], axis=0)
    return float(logsumexp(LOG_P[agrees]))


def test_dependence_is_the_joint_less_the_marginals() -> None:
    """The base is all there is here, so its marginals are those of the density."""
    expected = [LOG_P[i] - sum(marginal(**{name: row[name]}) for name in LEVELS) for i, row in ALL.iterrows()]
    found = MODEL.dependence(ALL)
    assert np.abs(found - expected - (found - expected).mean()).max() < 1e-4
    assert np.exp(LOG_P) @ found > 0.2  # its mean is what columns know of one another
    assert np.ptp(found - LOG_P) > 0.2  # and it is not the density


@pytest.mark.parametrize("hidden", [["a"], ["b"], ["a", "b"], ["a", "c"], ["a", "b", "c"]])
def test_dependence_of_an_incomplete_row_is_that_of_what_is_observed(hidden: list[str]) -> None:
    """Exact if one entry is missing. If more are, over the draws of 400 completions of a few classes."""
    shift = float(np.mean(MODEL.score_samples(ALL) - LOG_P))  # log Z
    questions = ALL.astype(object)
    questions[hidden] = None
    model = clone(MODEL).set_params(num_draws=400).fit(TABLE)
    found = model.dependence(questions) - shift
    for i, row in ALL.iterrows():
        known = {name: row[name] for name in LEVELS if name not in hidden}
        expected = marginal(**known) - sum(marginal(**{name: value}) for name, value in known.items()) if known else 0.0
        assert found[i] == pytest.approx(expected, abs=1e-4 if len(hidden) == 1 else 0.1)


def test_a_row_of_common_entries_that_do_not_belong_together_is_found_by_dependence_alone() -> None:
    """Two columns that are always equal, of which 90% are "x": ("x", "x") is common, ("y", "y") is rare but in order."""
    same = np.where(RNG.random(2000) < 0.9, "x", "y")
    table = pd.DataFrame({"first": same, "second": same})
    strange = pd.DataFrame({"first": ["x", "y"], "second": ["y", "y"]})
    start = 1  # some of the 20 rows that the mixture starts from are "y"; with .9^20 = 12% of all seeds none is
    model = JointEBM(base="mixture", training={"num_visits": 0, "prior_strength": 0.1}, random_state=start).fit(table)
    gaps = {}
    for criterion in ("dependence", "density"):
        low, high = JointEBMOutlierDetector.of(model, table, criterion=criterion).score_samples(strange)
        gaps[criterion] = high - low
    rarer = np.log((same == "x").mean() / (same == "y").mean())  # by how much "y" is rarer than "x" by itself
    assert gaps["dependence"] == pytest.approx(gaps["density"] + rarer, abs=0.05) and gaps["dependence"] > 4


def test_numbers_beyond_those_of_training_lower_dependence() -> None:
    table = pd.DataFrame({"x": RNG.normal(size=300), "y": RNG.normal(size=300)})
    model = JointEBM(training={"num_visits": 0}).fit(table)
    scores = model.dependence(pd.DataFrame({"x": [0.0, 50.0, 5000.0], "y": [0.0, 0.0, 0.0]}))
    assert scores[0] > scores[1] > scores[2]


def test_parameters_of_answers_may_be_set_after_the_fit() -> None:
    strange = pd.DataFrame({"a": ["z"], "b": ["p"], "c": [True]})
    model = JointEBM(base="mixture", training={"num_visits": 0}).fit(TABLE)
    with pytest.raises(ValueError, match="row 0 holds 'z'"):
        model.score_samples(strange)
    model.set_params(unseen="missing", num_draws=3)
    assert np.isfinite(model.score_samples(strange)).all() and model.fitted.parameters.num_draws == 3
    model.set_params(num_draws=0)
    with pytest.raises(ValueError, match="num_draws: got 0"):
        model.score_samples(strange)


@pytest.mark.parametrize("objective", ["maximum-likelihood", "pseudo-likelihood"])
def test_both_objectives_learn_what_the_columns_say_of_one_another(objective: str) -> None:
    """Trained from independent marginals: how far the density is from the frequencies of 4,000 rows, nats."""
    table = rows(4000)
    training = {"width": 32, "num_visits": 30, "precision": "float32"}
    model = JointEBM(objective=objective, training=training).fit(table)  # type: ignore[arg-type]
    counts = np.array([(table == row).all(axis=1).sum() for _, row in ALL.iterrows()])
    shares = {name: table[name].value_counts(normalize=True) for name in LEVELS}
    independent = sum(np.log(ALL[name].map(shares[name]).to_numpy(dtype=float)) for name in LEVELS)
    log_p = model.score_samples(ALL) - logsumexp(model.score_samples(ALL))
    truth = counts / 4000
    log_truth = np.log(truth.clip(1e-9))
    assert truth @ (log_truth - independent) > 0.2
    assert truth @ (log_truth - log_p) < 0.02
