"""What a fit tells, and when it warns."""

import logging
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jointebm import (
    ConvergenceWarning,
    JointEBM,
    JointEBMClassifier,
    JointEBMImputer,
    JointEBMOutlierDetector,
    JointEBMRegressor,
)
from jointebm.estimators.coded_rows import CodedRows
from jointebm.estimators.fit_watch import FitWatch
from jointebm.tables.answers import table_model
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.normalizer import AnnealedRows
from jointebm.tables.training.table_config import Progress
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_report import FitReport
from jointebm.tables.training.validation import HeldOut, Validation

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
    assert "jointebm: fit 100%: held-out log-likelihood of codes -" in capsys.readouterr().err


def test_warnings_of_a_fit_hold_their_remedy_as_parameters_and_point_at_the_line_of_the_fit() -> None:
    with pytest.warns(
        ConvergenceWarning, match="Remedy: training={'rows_per_component': 20, 'num_visits': 250}$"
    ) as found:
        JointEBM(training={"num_visits": 0}).fit(TABLE)
    assert found[0].filename == __file__
    assert found[0].message.remedy == {"training": {"rows_per_component": 20, "num_visits": 250}}  # type: ignore[union-attr]


def test_the_report_states_the_log_likelihood_of_held_out_rows_in_data_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of `score_samples`, on the rows that the fit held out; another table scales its numbers by 8."""
    fits: list[TableFit] = []
    run_fit = table_model.run_fit
    monkeypatch.setattr(table_model, "run_fit", lambda fit, **more: (fits.append(fit), run_fit(fit, **more))[1])
    table = pd.DataFrame({"x": RNG.normal(size=200) + 3 * (GROUP[0] - 1), "kind": RNG.choice(["a", "b"], 200)})
    reports = []
    for scale in (1.0, 8.0):
        scaled = table.assign(x=scale * table["x"])
        model = JointEBM(training=SHORT).fit(scaled)
        held_out = scaled.iloc[fits[-1].held_out.tolist()]
        report = model.report_
        assert report.inside_codes is not None and report.log_likelihood is not None
        in_data_units, scores = report.log_likelihood + report.inside_codes, model.score_samples(held_out)
        assert in_data_units == pytest.approx(scores.mean(), abs=1e-4)
        error = np.hypot(scores.std(ddof=1) / np.sqrt(len(scores)), report.log_normalizer_error)
        assert report.data_units_error == pytest.approx(error, abs=1e-6)
        stated = f"held-out log-likelihood {in_data_units:.3f} +- {error:.3f} nats per row, in data units"
        assert stated in report.lines()[0]
        assert report.lines()[1].startswith(f"held-out log-likelihood of codes {report.log_likelihood:.3f}")
        reports.append(report)
    assert reports[1].log_likelihood == pytest.approx(reports[0].log_likelihood, abs=1e-6)
    assert reports[1].inside_codes == pytest.approx(reports[0].inside_codes - np.log(8.0), abs=1e-6)


CASES: dict[str, dict[str, Any]] = {
    "missing": {},
    "weights": {"weights": np.where(np.arange(400) < 40, 0.0, 1.0 + 2.0 * (np.arange(400) % 2))},
    "sample": {"max_rows": 300},
    "modelled missingness": {"missingness": "model"},
    "relations": {"relations": ["total = x + y"]},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_held_out_log_likelihood_in_data_units_is_that_of_score_samples(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row without an entry is estimated by other draws in both: some hundredths of a nat in a tenth of the rows."""
    options = dict(CASES[case])
    weights, seen = options.pop("weights", None), []

    def watched(self: CodedRows, places: torch.Tensor) -> torch.Tensor:
        seen.append((self.numbers, places.numpy()))
        return inside(self, places)

    inside = CodedRows.inside
    monkeypatch.setattr(CodedRows, "inside", watched)
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"x": rng.normal(size=400), "kind": rng.choice(["a", "b"], 400), "y": rng.gamma(2, 9, 400)})
    if case == "relations":
        table[["x", "y"]] = rng.integers(0, 90, (400, 2))
        table["total"] = table["x"] + table["y"]
    else:
        table.loc[::10, "y"] = np.nan
    model = JointEBM(training=SHORT, **{"relations": None, **options}).fit(table, sample_weight=weights)
    ((numbers, places),) = seen  # called once
    used = table if weights is None else table[weights > 0]
    held_out = used.iloc[numbers[places]]
    report = model.report_
    assert len(places) == report.num_held_out <= 0.1 * len(table)
    scores = model.score_samples(held_out)
    assert np.isfinite(scores).all() and scores.std() > 0.1
    assert report.log_likelihood + report.inside_codes == pytest.approx(scores.mean(), abs=0.02)
    error = np.hypot(scores.std(ddof=1) / np.sqrt(len(scores)), report.log_normalizer_error)
    assert report.data_units_error == pytest.approx(error, rel=0.03)


def test_a_fit_says_why_it_is_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks without a known log Z keep no network; one that held-out rows like less is given up."""
    look = Validation.log_likelihood

    def unknown(self: Validation, energy: TableEnergy, rows: AnnealedRows | None = None) -> HeldOut:
        found = look(self, energy, rows)
        return found._replace(normalizer_error=math.inf) if rows is None else found

    def worse(self: Validation, energy: TableEnergy, rows: AnnealedRows | None = None) -> HeldOut:
        found = look(self, energy, rows)
        return found if found.gain == 0 else found._replace(of_model=found.of_reference - 9, gain_error=0.1)

    for judge, reason in (
        (unknown, "log Z of the network was known at no look, so that held-out rows could not judge it"),
        (worse, "held-out rows prefer it to the network"),
    ):
        monkeypatch.setattr(Validation, "log_likelihood", judge)
        report = JointEBM(training=SHORT).fit(TABLE).report_
        assert f"F is the reference: {reason}" in report.lines()


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


@pytest.mark.parametrize(
    ("last", "kept", "warns"),
    [(-2.0, -2.0, True), (-2.95, -2.95, False), (-3.1, -3.0, False), (-2.0, -3.0, False), (math.inf, -3.0, False)],
)
def test_a_fit_whose_last_score_is_much_the_best_was_cut_short(last: float, kept: float, warns: bool) -> None:
    """Not where log Z of the last look was wrong: the network that was kept has the score of an earlier one."""
    model = JointEBM(training=SHORT).fit(TABLE).model_
    model.report = FitReport(
        log_normalizer=0.0, log_normalizer_error=0.0, ess=9.0, num_rungs=1, gain=0.5, gain_error=0.1,
        log_likelihood=kept, log_likelihood_error=0.1, reference_log_likelihood=-2.5, log_score=-1.0,
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
