"""Diagnostics of every estimator's answers: exact where the answer is, else errors that hold against enumeration."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jointebm import (
    JointEBM,
    JointEBMClassifier,
    JointEBMImputer,
    JointEBMOutlierDetector,
    JointEBMRegressor,
)
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.answers import code_questions, configurations

RNG = np.random.default_rng(5)
GROUP = RNG.integers(0, 2, 400)
TABLE = pd.DataFrame(
    {
        "a": np.where(RNG.random(400) < 0.8, GROUP, 1 - GROUP),
        "b": np.array(["p", "q", "r"])[np.where(RNG.random(400) < 0.7, GROUP, RNG.integers(0, 3, 400))],
        "c": GROUP + RNG.integers(0, 3, 400),
        "d": np.where(RNG.random(400) < 0.6, "u", np.where(GROUP == 1, "v", "w")),
    }
)
CORE = JointEBM(training={"num_visits": 20, "width": 16, "rows_per_component": 50}, num_draws=400).fit(TABLE)
MISSING = TABLE[:6].astype(object).mask(RNG.random((6, 4)) < 0.5)
MISSING.iloc[0], MISSING.iloc[1] = None, TABLE.iloc[1]

QUESTIONS: dict[str, Callable[..., Any]] = {
    "classify": lambda **ask: JointEBMClassifier.of(CORE, "d").predict_proba(MISSING.drop(columns="d"), **ask),
    "label": lambda **ask: JointEBMClassifier.of(CORE, "d").predict(MISSING.drop(columns="d"), **ask),
    "regress": lambda **ask: JointEBMRegressor.of(CORE, "c").predict(MISSING.drop(columns="c"), **ask),
    "impute": lambda **ask: JointEBMImputer.of(CORE).transform(MISSING, **ask),
    "dependence": lambda **ask: CORE.dependence(MISSING, **ask),
    "surprise": lambda **ask: CORE.conditional_surprise(MISSING, **ask),
    "entries": lambda **ask: CORE.conditional_log_score(MISSING, **ask),
    "frame": lambda **ask: CORE.predict_frame(MISSING, ["c", "d"], **ask),
    "quantiles": lambda **ask: CORE.predict_quantiles(MISSING, "c", **ask),
    "interval": lambda **ask: CORE.predict_interval(MISSING, "c", **ask),
    "joint": lambda **ask: CORE.draw_joint(MISSING, ["c", "d"], 2, **ask),
}
for criterion in ("dependence", "conditional", "density"):
    detector = JointEBMOutlierDetector.of(CORE, TABLE, criterion=criterion)  # type: ignore[arg-type]
    QUESTIONS[f"outlier {criterion}"] = detector.score_samples
    QUESTIONS[f"offset {criterion}"] = detector.decision_function
    QUESTIONS[f"mark {criterion}"] = detector.predict
for name, method in list(QUESTIONS.items()):
    if name.split()[0] in ("outlier", "offset", "mark"):
        QUESTIONS[name] = lambda method=method, **ask: method(MISSING, **ask)


def as_array(answer: Any) -> np.ndarray:
    return np.concatenate(
        [np.asarray(each, dtype=object) for each in (answer if isinstance(answer, list) else [answer])]
    )


@pytest.fixture
def by_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "FEW_CONFIGURATIONS", 1)
    monkeypatch.setattr(configurations, "MAX_ENUMERATED", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_few_configurations_are_exact_and_diagnostics_leave_the_answer_alone(name: str) -> None:
    plain, answer = QUESTIONS[name](), QUESTIONS[name](diagnostics=True)
    assert isinstance(answer, Answer)
    assert (pd.DataFrame(as_array(answer.value)).fillna(-1) == pd.DataFrame(as_array(plain)).fillna(-1)).all().all()
    found = answer.diagnostics
    assert found.exact.shape == (6,) and found.exact.all() and np.isinf(found.ess).all()
    errors = found.standard_error
    for each in errors.values() if isinstance(errors, dict) else [errors]:
        assert each is None or not np.asarray(each).any()


@pytest.mark.slow
@pytest.mark.usefixtures("by_draws")
@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_by_draws_say_so(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = QUESTIONS[name](diagnostics=True).diagnostics
    assert not found.exact[0] and found.ess[0] < 1000  # of the row without a known entry


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classify", "regress", "dependence", "outlier density"])
def test_errors_cover_the_exact_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within five standard errors of enumeration; those of the row without a known entry are not all zero."""
    exact = QUESTIONS[name]()
    monkeypatch.setattr(configurations, "FEW_CONFIGURATIONS", 1)
    monkeypatch.setattr(configurations, "MAX_ENUMERATED", 1)
    value, found = QUESTIONS[name](diagnostics=True)
    assert found.standard_error.shape == value.shape
    assert (np.abs(value - exact) <= 5 * found.standard_error + 1e-6).all()
    assert 0 < found.standard_error[0].max() < 0.2 and (found.standard_error[~found.exact] >= 0).all()
    assert code_questions.MIN_CHAIN_JUMPS > 0
