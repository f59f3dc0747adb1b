"""What a fit tells, and when it warns."""

import logging
import warnings

import numpy as np
import pandas as pd
import pytest

from jointebm import (
    ConvergenceWarning,
    JointEBM,
    JointEBMClassifier,
    JointEBMImputer,
    JointEBMOutlierDetector,
    JointEBMRegressor,
)
from jointebm.estimators.fit_watch import FitWatch
from jointebm.tables.training.table_config import Progress
from jointebm.tables.training.table_report import FitReport

RNG = np.random.default_rng(3)
GROUP = RNG.integers(0, 2, 120)
TABLE = pd.DataFrame({"a": GROUP, "b": np.where(RNG.random(120) < 0.95, GROUP, 1 - GROUP)})
SHORT = {"num_visits": 2, "width": 8, "rows_per_component": 20}


def test_every_estimator_tells_the_logger_and_the_caller(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    core = JointEBM(training=SHORT)
    for estimator in (core, *(kind(core) for kind in (JointEBMImputer, JointEBMOutlierDetector))):
        heard: list[Progress] = []
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="jointebm"):
            estimator.fit(TABLE, on_progress=heard.append)
        assert heard and sum("held-out log-likelihood" in each.message for each in caplog.records) >= len(heard)
    for supervised in (JointEBMClassifier(core), JointEBMRegressor(core)):
        heard = []
        supervised.fit(TABLE[["a"]], TABLE["b"], on_progress=heard.append)
        assert heard
    assert capsys.readouterr().err == ""
    JointEBM(training=SHORT, verbose=True).fit(TABLE)
    assert "jointebm: fit 100%: held-out log-likelihood -" in capsys.readouterr().err


def test_a_fit_that_equals_its_marginals_warns_if_columns_depend() -> None:
    with pytest.warns(ConvergenceWarning, match="learned nothing about how columns depend.*rows_per_component"):
        JointEBM(training={"num_visits": 0}).fit(TABLE)
    independent = TABLE.assign(b=RNG.permutation(TABLE["b"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JointEBM(training={"num_visits": 0}).fit(independent)
        JointEBM(training={"num_visits": 0, "rows_per_component": 20}).fit(TABLE)


def test_small_tables_of_independent_columns_raise_no_alarm() -> None:
    """Eight tables of 150 rows, each with a false alarm in at most one of a hundred; and one whose columns depend."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"a": rng.normal(size=150), "b": rng.gamma(1, 1, 150), "c": rng.integers(0, 9, 150)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            JointEBM(training={"num_visits": 0}).fit(table)
    dependent = table.assign(d=np.where(table["a"] > 0, "high", "low"))
    with pytest.warns(ConvergenceWarning, match="learned nothing about how columns depend"):
        JointEBM(training={"num_visits": 0}).fit(dependent)


@pytest.mark.parametrize(("last", "warns"), [(-2.0, True), (-2.95, False), (-3.1, False)])
def test_a_fit_whose_last_score_is_much_the_best_was_cut_short(last: float, warns: bool) -> None:
    model = JointEBM(training=SHORT).fit(TABLE).model_
    model.report = FitReport(
        log_normalizer=0.0, log_normalizer_error=0.0, ess=9.0, num_rungs=1, gain=0.5, gain_error=0.1,
        log_likelihood=-2.0, log_likelihood_error=0.1, reference_log_likelihood=-2.5, log_score=-1.0,
    )  # fmt: skip
    watch = FitWatch(None, verbose=False)
    for score in (-3.5, -3.0, last):
        watch.tell(Progress(1.0, score, -1.0, 1.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch.finish(model)
    assert [str(each.message).startswith("training was cut short") for each in caught] == [True] * warns


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"worst_component": 0.1, "worst_component_weight": 0.02, "worst_component_error": 0.01}, "a spurious mode"),
        ({"worst_component": 0.1, "worst_component_weight": 0.02, "worst_component_error": 0.03}, None),
        (
            {"log_normalizer": 0.0, "log_normalizer_upper": 0.7, "log_normalizer_upper_error": 0.01},
            "log Z is 0.00 from draws and 0.70",
        ),
        ({"log_normalizer_upper": 0.7, "log_normalizer_upper_error": 0.5}, None),
    ],
)
def test_a_fit_with_wrong_groups_of_rows_warns(wrong: dict[str, float], match: str | None) -> None:
    model = JointEBM(training=SHORT).fit(TABLE).model_
    assert model.report is not None and model.report.component_finding is model.report.bracket_finding is None
    model.report = model.report.model_copy(update=wrong)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FitWatch(None, verbose=False).finish(model)
    assert ([str(each.message) for each in caught] == []) == (match is None)
    assert match is None or (match in str(caught[0].message) and "num_visits" in str(caught[0].message))


def test_huge_numbers_fit_without_a_warning_of_numpy() -> None:
    rng = np.random.default_rng(0)
    huge = pd.DataFrame({"a": rng.normal(size=120) * 1e300, "b": rng.normal(size=120)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = JointEBM(training={"num_visits": 0}).fit(huge).sample(50)
    assert rows["a"].abs().max() > 1e299
