"""A fitted table: its scores are those of the enumerated density."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import kendalltau
from sklearn.base import clone

from jointebm import JointEBM, JointEBMOutlierDetector
from jointebm.tables.density import moves
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import State

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
MODEL = JointEBM(training={"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.1}).fit(TABLE)
LOG_P = MODEL.score_samples(ALL) - logsumexp(MODEL.score_samples(ALL))


def marginal(**given: object) -> float:
    """log p of some entries, by enumeration."""
    agrees = np.all([ALL[name] == value for name, value in given.items()], axis=0)
    return float(logsumexp(LOG_P[agrees]))


def test_dependence_is_the_joint_less_the_marginals() -> None:
    """The reference is all there is here, so its marginals are those of the density."""
    expected = [LOG_P[i] - sum(marginal(**{name: row[name]}) for name in LEVELS) for i, row in ALL.iterrows()]
    found = MODEL.dependence(ALL)
    assert np.abs(found - expected - (found - expected).mean()).max() < 1e-4
    assert np.exp(LOG_P) @ found > 0.2  # its mean is what columns know of one another
    assert np.ptp(found - LOG_P) > 0.2  # and it is not the density


@pytest.mark.parametrize("missing", [["a"], ["b"], ["a", "b"], ["a", "c"], ["a", "b", "c"]])
def test_dependence_of_an_incomplete_row_is_that_of_its_observed_entries(missing: list[str]) -> None:
    shift = float(np.mean(MODEL.score_samples(ALL) - LOG_P))  # of the density inside the codes
    questions = ALL.astype(object)
    questions[missing] = None
    found = MODEL.dependence(questions) - shift
    for i, row in ALL.iterrows():
        known = {name: row[name] for name in LEVELS if name not in missing}
        expected = marginal(**known) - sum(marginal(**{name: value}) for name, value in known.items()) if known else 0.0
        assert found[i] == pytest.approx(expected, abs=1e-4)


def test_dependence_alone_finds_common_entries_that_do_not_fit_together() -> None:
    """Two columns that are always equal, of which 90% are "x": ("x", "x") is common, ("y", "y") is rare but in order."""
    same = np.where(RNG.random(2000) < 0.9, "x", "y")
    table = pd.DataFrame({"first": same, "second": same})
    strange = pd.DataFrame({"first": ["x", "y"], "second": ["y", "y"]})
    start = 1  # some of the 20 rows that the mixture starts from are "y"; with .9^20 = 12% of all seeds none is
    model = JointEBM(training={"num_visits": 0, "prior_strength": 0.1}, random_state=start).fit(table)
    differences = {}
    for criterion in ("dependence", "density"):
        low, high = JointEBMOutlierDetector.of(model, table, criterion=criterion).score_samples(strange)
        differences[criterion] = high - low
    rarer = np.log((same == "x").mean() / (same == "y").mean())  # log-ratio of the shares of "x" and "y"
    assert (
        differences["dependence"] == pytest.approx(differences["density"] + rarer, abs=0.05)
        and differences["dependence"] > 4
    )


def test_numbers_outside_the_training_range_lower_dependence() -> None:
    table = pd.DataFrame({"x": RNG.normal(size=300), "y": RNG.normal(size=300)})
    model = JointEBM(training={"num_visits": 0}).fit(table)
    scores = model.dependence(pd.DataFrame({"x": [0.0, 50.0, 5000.0], "y": [0.0, 0.0, 0.0]}))
    assert scores[0] > scores[1] > scores[2]


def test_parameters_of_answers_may_be_set_after_the_fit() -> None:
    strange = pd.DataFrame({"a": ["z"], "b": ["p"], "c": [True]})
    model = JointEBM(training={"num_visits": 0}).fit(TABLE)
    with pytest.raises(ValueError, match="row 0 holds 'z'"):
        model.score_samples(strange)
    model.set_params(unseen="missing", num_draws=3)
    assert np.isfinite(model.score_samples(strange)).all() and model.fitted.parameters.num_draws == 3
    model.set_params(num_draws=0)
    with pytest.raises(ValueError, match="num_draws: got 0"):
        model.score_samples(strange)


@pytest.mark.parametrize("objective", ["maximum-likelihood", "pseudo-likelihood"])
def test_both_objectives_learn_the_dependence_of_columns(objective: str) -> None:
    """How far the density is from the frequencies of 4,000 rows, nats."""
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


@pytest.mark.parametrize("ask", ["impute", "sample", "predict_proba"])
def test_answers_take_the_sweeps_that_the_model_asks_for(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sweep starts from the codes that the last one left."""
    model = clone(MODEL).fit(TABLE)
    question = ALL.assign(a=None, b=None)
    answers = {
        "impute": lambda: model.impute(question),
        "sample": lambda: model.sample(3),
        "predict_proba": lambda: model.predict_proba(question, "a"),
    }
    runs: list[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def watched(energy: TableEnergy, state: State, **more: object) -> tuple[State, torch.Tensor]:
        after, num_accepted = moves.sweep(energy, state, **more)  # type: ignore[arg-type]
        if not runs or not torch.equal(runs[-1][-1][1], state.codes):
            runs.append([])
        runs[-1].append((state.codes, after.codes))
        return after, num_accepted

    monkeypatch.setattr("jointebm.tables.answers.corrected_draws.sweep", watched)
    monkeypatch.setattr(
        "jointebm.tables.answers.corrected_draws.jump", lambda _, state, **__: (state, torch.zeros(128) > 0)
    )
    monkeypatch.setattr("jointebm.tables.answers.code_questions.enough_draws", lambda _: 1e9)  # predictions by chains
    monkeypatch.setattr("jointebm.tables.answers.code_questions.MIN_CHAIN_JUMPS", 0.0)
    monkeypatch.setattr("jointebm.tables.answers.configurations.MAX_ENUMERATED", 0.5)  # no enumeration
    for num_sweeps in (1, 7):
        runs.clear()
        model.set_params(num_sweeps=num_sweeps)
        answers[ask]()
        assert runs and {len(run) for run in runs} == {num_sweeps}
    assert any(not torch.equal(before, after) for run in runs for before, after in run[1:])


def test_numbers_of_one_row_are_drawn_inside_their_codes_independently() -> None:
    """Kendall's tau of two independent columns in 2,000 samples; its standard error is 2 / (3 sqrt(2,000)) = .015."""
    table = pd.DataFrame(RNG.random((300, 2)), columns=["u", "v"])
    drawn = JointEBM(training={"num_visits": 0}, max_bins=4).fit(table).sample(2000)
    assert abs(kendalltau(drawn["u"], drawn["v"]).statistic) < 5 * 0.015
    edges = [np.quantile(table[name], [0.25, 0.5, 0.75]) for name in table]
    inside = [
        pd.Series(drawn[name]).groupby(np.digitize(drawn[name], each)).rank(pct=True)
        for name, each in zip(table, edges, strict=True)
    ]
    assert abs(kendalltau(*inside).statistic) < 5 * 0.015
