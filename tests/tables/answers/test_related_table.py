"""Answers about related columns: relations are kept, and distributions are those of the enumerated density."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp

from jointebm import JointEBM
from jointebm.estimators import JointEBMOutlierDetector
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.related_choices import RelatedChoices
from support.related_tables import kept, related_table, small_related_states, small_related_table

QUICK = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.5}
TABLE = related_table(1200, seed=3)
MODEL = JointEBM(training=QUICK, num_draws=200).fit(TABLE)
RNG = np.random.default_rng(8)
SMALL = small_related_table(900, seed=8)
TINY = JointEBM(training=QUICK, num_draws=2000).fit(SMALL)
STATES = small_related_states()
LOG_P = TINY.score_samples(STATES)


def hidden(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    return table.drop(columns=list(names))


@pytest.mark.slow
def test_relations_are_listed_and_stored(tmp_path: Path) -> None:
    assert {"start < end", "zip -> city", "gross = tax + net"} <= {str(each) for each in MODEL.relations_}
    MODEL.save(tmp_path / "m")
    again = JointEBM.load(tmp_path / "m")
    assert again.relations_ == MODEL.relations_ and again.get_params() == MODEL.get_params()
    assert "- start < end" in (tmp_path / "m" / "README.md").read_text()
    questions = TABLE.head(9).assign(start=None, gross=np.nan, zip=None)
    pd.testing.assert_frame_equal(again.impute(questions), MODEL.impute(questions))


@pytest.mark.slow
def test_samples_keep_all_relations_types_and_ranges() -> None:
    rows = MODEL.sample(200, seed=5)
    assert set(kept(rows, TABLE).values()) == {1.0} and (rows.dtypes == TABLE.dtypes).all()
    for name in ("start", "end", "gross", "tax", "net", "p", "q", "r", "low", "high"):
        assert TABLE[name].min() <= rows[name].min() and rows[name].max() <= TABLE[name].max(), name
    assert (rows["gross"] == rows["gross"].round(2)).all()
    pd.testing.assert_frame_equal(MODEL.sample(20, seed=5), rows.head(20))
    pd.testing.assert_frame_equal(MODEL.sample(5, seed=5, first=15), rows[15:20].reset_index(drop=True))


@pytest.mark.slow
def test_imputations_keep_all_relations_whatever_is_missing() -> None:
    questions = TABLE.head(25).copy()
    for name in questions:
        questions[name] = questions[name].mask(RNG.random(25) < 0.35)
    first, second = MODEL.draw_imputations(questions, 2)
    for filled in (first, second):
        assert filled.notna().all().all() and set(kept(filled, TABLE).values()) == {1.0}
        assert ((filled == questions) | questions.isna()).all().all()
    assert (first["start"] != second["start"]).any()
    pd.testing.assert_frame_equal(MODEL.impute(questions.tail(7), first=18), first.tail(7))  # alone as among others


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"city": "city 3"},
        {"state": {"state 0"}, "zip": {"zip 1", "zip 2", "zip 30"}},
        {"grade": "B"},
        {"level": (11, 12)},
        {"gross": (200, 260)},
        {"gross": TABLE["gross"][0]},
        {"copy": (None, 30), "tax": (100, None)},
        {"end": "2024-06-01"},
        {"dep": "dep 1"},
        {"r": (0.5, 0.6)},
        {"high": 30, "city": "city 2"},
    ],
)
def test_samples_agree_with_evidence_about_any_column(given: dict) -> None:
    rows = MODEL.sample(15, given=given)
    assert set(kept(rows, TABLE).values()) == {1.0}
    for name, known in given.items():
        if isinstance(known, tuple):
            low, high = known
            assert (low is None or (rows[name] >= low).all()) and (high is None or (rows[name] <= high).all())
        else:
            wanted = {pd.Timestamp(known)} if name == "end" else known if isinstance(known, set) else {known}
            assert set(rows[name]) <= wanted


@pytest.mark.slow
def test_evidence_that_no_row_keeps_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="given column 'state': no row of the relations agrees"):
        MODEL.sample(3, given={"city": "city 0", "state": "state 1"})
    with pytest.raises(ValueError, match=r"given column 'gross'.*computed from 'tax', 'net': give those"):
        MODEL.sample(3, given={"gross": TABLE["gross"].max(), "tax": TABLE["tax"].min(), "copy": TABLE["net"].min()})


def test_the_density_of_related_rows_sums_to_one_and_others_have_none() -> None:
    assert logsumexp(LOG_P) == pytest.approx(0, abs=0.02)  # but for surprises, and the error of log Z
    wrong = STATES.head(20).assign(total=lambda each: each["total"] + 1)
    assert np.isneginf(TINY.score_samples(wrong)).all() and np.isneginf(TINY.dependence(wrong)).all()
    assert np.isneginf(TINY.conditional_log_score(wrong, ["a"])).all()
    detector = JointEBMOutlierDetector.of(TINY, SMALL, contamination=0.01)
    assert (detector.predict(wrong) == -1).all()


def test_determined_entries_cost_nothing() -> None:
    assert np.allclose(TINY.score_samples(hidden(STATES, "total", "city")), LOG_P, atol=1e-5)
    assert np.allclose(TINY.score_samples(hidden(STATES, "a")), LOG_P, atol=1e-5)
    scores = TINY.conditional_log_score(STATES, ["total", "a", "city"])
    assert np.allclose(scores, 0, atol=1e-5)


def test_a_known_value_of_a_missing_key_sums_over_its_levels() -> None:
    """Exact, because one level is missing."""
    found = TINY.score_samples(hidden(STATES, "zip"))
    for row in range(0, len(STATES), 7):
        same = (STATES.drop(columns="zip") == STATES.drop(columns="zip").iloc[row]).all(axis=1)
        assert found[row] == pytest.approx(logsumexp(LOG_P[same]), abs=1e-4)
    probs = TINY.predict_proba(hidden(STATES, "city", "zip"), "city")
    for row in range(0, len(STATES), 11):
        same = (STATES[["a", "b"]] == STATES[["a", "b"]].iloc[row]).all(axis=1)
        of_city = [np.exp(LOG_P[same & (STATES["city"] == f"c{i}")] - logsumexp(LOG_P[same])).sum() for i in range(3)]
        assert np.allclose(probs[row], of_city, atol=1e-4)


@pytest.mark.slow
def test_a_known_sum_of_missing_parts_weighs_all_parts() -> None:
    """Of 2,000 candidates at least the share p(total | zip) agrees, which bounds the standard error of the average; 4.5 of
    these, plus what surprises weigh, are exceeded with a probability below 1e-3 in 252 comparisons."""
    questions = STATES.groupby(["total", "zip"], as_index=False).first()[["total", "zip", "city"]]
    found, probs = TINY.score_samples(questions), TINY.predict_proba(questions, "a")
    for row, (total, level) in enumerate(zip(questions["total"], questions["zip"], strict=True)):
        same = (STATES["total"] == total) & (STATES["zip"] == level)
        error = np.exp(logsumexp(LOG_P[STATES["zip"] == level]) - logsumexp(LOG_P[same])) ** 0.5 / 2000**0.5
        assert found[row] == pytest.approx(logsumexp(LOG_P[same]), abs=4.5 * error + 0.05)
        of_a = [np.exp(LOG_P[same & (STATES["a"] == a)] - logsumexp(LOG_P[same])).sum() for a in range(4)]
        assert np.abs(probs[row] - of_a).max() < 4.5 * error / 2 + 0.02


@pytest.mark.slow
def test_parts_of_a_known_sum_have_the_frequencies_of_the_density() -> None:
    """1,000 draws: 4.5 standard errors are at most .072; false alarms below 1e-4 for 4 frequencies."""
    draws = TINY.sample(1000, given={"total": 3, "zip": "z1"})
    question = pd.DataFrame({"a": [np.nan], "b": [np.nan], "total": [3], "zip": [None], "city": ["c0"]})
    filled = pd.concat(TINY.draw_imputations(question, 20))
    for each in (draws, filled):
        assert (each["a"] + each["b"] == 3).all() and set(each["city"]) == {"c0"}
    assert filled["a"].nunique() > 1
    same = (STATES["total"] == 3) & (STATES["zip"] == "z1")
    truth = np.exp(LOG_P[same] - logsumexp(LOG_P[same]))
    shares = [np.mean(draws["a"] == a) for a in STATES["a"][same]]
    assert np.abs(shares - truth).max() < 0.075


def test_diagnostics_are_the_least_of_draws_and_of_those_that_replace_refused_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every draw of the second row is refused once; both rows have parts of a known sum, chosen by weight."""
    chosen, refused = RelatedChoices.chosen, RelatedChoices.are_refused
    found: list[Diagnostics[torch.Tensor]] = []
    num_looks = 0

    def watched(self: RelatedChoices, *arguments: Any, **more: Any) -> Answer[Any]:
        answer = chosen(self, *arguments, **more)
        found.append(replace(answer.diagnostics, ess=answer.diagnostics.ess.clamp(max=20.0 - 5 * len(found))))
        return Answer(answer.value, found[-1])

    def once(self: RelatedChoices, complete: Any, work: Any) -> np.ndarray:
        nonlocal num_looks
        num_looks += 1
        return np.array([False, True]) if num_looks == 1 else refused(self, complete, work)

    monkeypatch.setattr(RelatedChoices, "chosen", watched)
    monkeypatch.setattr(RelatedChoices, "are_refused", once)
    question = pd.DataFrame({"total": [3, 3], "zip": ["z1", "z1"]})
    _, both = TINY.impute(question, diagnostics=True)
    assert len(found) == 2 and len(found[0].ess) == 2 and len(found[1].ess) == 1
    assert both.ess.tolist() == [float(found[0].ess[0]), float(found[1].ess[0])] and float(found[1].ess[0]) <= 15
    assert not both.exact.any()


def test_one_refused_draw_of_many_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of four draws of the second row is refused once; draws have 8 effective candidates, its second one 2."""
    chosen, refused = RelatedChoices.chosen, RelatedChoices.are_refused
    num_chosen = num_looks = 0

    def watched(self: RelatedChoices, *arguments: Any, **more: Any) -> Answer[Any]:
        nonlocal num_chosen
        num_chosen += 1
        answer = chosen(self, *arguments, **more)
        ess = torch.full_like(answer.diagnostics.ess, 8.0 if num_chosen <= 4 else 2.0)
        return Answer(answer.value, replace(answer.diagnostics, ess=ess, exact=ess > 4))

    def once(self: RelatedChoices, complete: Any, work: Any) -> np.ndarray:
        nonlocal num_looks
        num_looks += 1
        return np.array([False, True]) if num_looks == 1 else refused(self, complete, work)

    monkeypatch.setattr(RelatedChoices, "chosen", watched)
    monkeypatch.setattr(RelatedChoices, "are_refused", once)
    question = pd.DataFrame({"a": [np.nan, np.nan], "b": [np.nan, np.nan], "total": [3, 3], "zip": ["z1", "z1"]})
    frames, found = TINY.draw_imputations(question, 4, diagnostics=True)
    assert num_chosen == 5 and len(frames) == 4
    assert all((frame["a"] + frame["b"] == 3).all() for frame in frames)
    assert found.ess.tolist() == [8.0, (2 + 3 * 8) / 4] and found.exact.tolist() == [True, False]


def test_a_row_that_contradicts_a_relation_is_filled_and_keeps_its_entries() -> None:
    question = SMALL.head(1).assign(total=99, zip=None)
    filled = TINY.impute(question)  # the columns of the model are as in training, so nothing is extrapolated
    assert filled["total"].item() == 99 and filled["zip"].notna().all()
    assert str(filled["city"].item()) == SMALL["city"][0]


def test_relations_can_be_switched_off_and_declared() -> None:
    assert JointEBM(training=QUICK, relations=None).fit(SMALL).relations_ == ()
    some = JointEBM(training=QUICK, relations=["total = a + b"]).fit(SMALL)
    assert [str(each) for each in some.relations_] == ["total = a + b"]
    both = JointEBM(training=QUICK, relations=["total = a + b", "auto"]).fit(SMALL)
    assert {str(each) for each in both.relations_} == {"total = a + b", "zip -> city"}
    with pytest.raises(ValueError, match="relations: got 3, expected 'auto', None or texts"):
        JointEBM(relations=3).fit(SMALL)


def test_rows_without_weight_do_not_break_relations_and_the_others_keep_their_numbers() -> None:
    broken = SMALL.copy()
    broken.loc[40, "total"] += 3
    weights = np.where(np.arange(len(broken)) < 10, 0.0, 1.0)
    with pytest.raises(ValueError, match="'total = a \\+ b': row 40 breaks it"):
        JointEBM(training=QUICK, relations=["total = a + b"]).fit(broken, sample_weight=weights)
    weights[40] = 0
    model = JointEBM(training=QUICK, relations="auto").fit(broken, sample_weight=weights)
    assert "total = a + b" in {str(each) for each in model.relations_}


def test_single_precision_comes_back_in_its_rounding() -> None:
    parts = RNG.normal(size=(600, 2)).astype(np.float32)
    table = pd.DataFrame(parts, columns=["a", "b"]).assign(total=parts.sum(axis=1))
    model = JointEBM(training=QUICK).fit(table)
    filled = model.impute(table.head(60).assign(a=np.float32(np.nan)))
    for rows in (model.sample(200), filled):
        assert (rows.dtypes == np.float32).all()
        assert np.allclose(rows["a"] + rows["b"], rows["total"], rtol=0, atol=1e-6)
    assert (filled[["b", "total"]] == table.head(60)[["b", "total"]]).all().all()


def test_ends_stay_after_starts() -> None:
    """The case of the issue: dates in order."""
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 500, 1500), unit="D")
    table = pd.DataFrame({"start": start, "end": start + pd.to_timedelta(RNG.integers(1, 8, 1500), unit="D")})
    model = JointEBM(training=QUICK).fit(table)
    rows, filled = model.sample(500), model.impute(table.head(100).assign(end=pd.NaT))
    before = model.impute(table.head(100).assign(start=pd.NaT))
    for each in (rows, filled, before):
        assert (each["end"] > each["start"]).all() and ((each["end"] - each["start"]).dt.days < 8).mean() > 0.99
