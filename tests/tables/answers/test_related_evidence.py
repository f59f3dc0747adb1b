"""Evidence about related columns: all answers are those of the enumerated density."""

import numpy as np
import pandas as pd
import pytest

from jointebm import JointEBM
from support.related_tables import small_related_states, small_related_table

QUICK = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.5}
MODEL = JointEBM(training=QUICK, num_draws=2000).fit(small_related_table(900, seed=8))
STATES = small_related_states()
P = np.exp(MODEL.score_samples(STATES))
EVIDENCE = [  # of roots, of what they determine, of parts, of sums, of several at once
    {"zip": {"z0", "z3", "z4"}},
    {"city": {"c0", "c2"}},
    {"city": {"c0", "c1"}, "zip": {"z0", "z3", "z5"}},
    {"a": (1, 2)},
    {"a": {0, 3}, "b": (1, None)},
    {"total": (2, 4)},
    {"total": 3},
    {"total": {1, 4}, "a": (1, None), "city": {"c0", "c1"}},
]
QUESTIONS = [{}, {"b": 1}, {"total": 3}, {"city": "c1"}, {"a": 1, "city": "c1"}]


def agreeing(known: dict, given: dict) -> np.ndarray:
    """Which states hold what is known and given."""
    found = np.ones(len(STATES), dtype=bool)
    for name, value in (*known.items(), *given.items()):
        column = STATES[name]
        if isinstance(value, tuple):
            low, high = value
            found &= ((low is None) | (column >= (low or 0))) & ((high is None) | (column <= (high or 9)))
        else:
            found &= column.isin(value if isinstance(value, set) else {value})
    return found


def asked(known: dict, num: int = 1) -> pd.DataFrame:
    return pd.DataFrame({name: [value] * num for name, value in known.items()} or {"a": [np.nan] * num})


def is_possible(known: dict, given: dict) -> bool:
    """Whether rows agree with both, and none of the known entries contradicts what is given."""
    about_known = {name: given[name] for name in given if name in known}
    return bool(agreeing(known, given).any()) and not (agreeing(known, {}) & ~agreeing({}, about_known)).any()


CASES = [(known, given) for known in QUESTIONS for given in EVIDENCE if is_possible(known, given)]


@pytest.mark.slow
@pytest.mark.parametrize(("known", "given"), CASES)
def test_scores_and_predictions_given_evidence_are_those_of_the_enumerated_density(known: dict, given: dict) -> None:
    """Estimates are within 4.5 of their standard errors, plus what surprises weigh; false alarms below 1e-3 together."""
    same = agreeing(known, given)
    score = MODEL.score_samples(asked(known), given=given, diagnostics=True)
    assert abs(score.value[0] - np.log(P[same].sum())) < 4.5 * score.diagnostics.standard_error[0] + 0.02
    for target in set(STATES) - set(known) - set(given):
        answer = MODEL.predict_proba(asked(known), target, given=given, diagnostics=True)
        levels = MODEL.classes(target).tolist()
        truth = [P[same & (STATES[target] == level)].sum() / P[same].sum() for level in levels]
        assert (np.abs(answer.value[0] - truth) < 4.5 * answer.diagnostics.standard_error[0] + 0.02).all(), target


@pytest.mark.slow
@pytest.mark.parametrize("given", EVIDENCE)
def test_draws_given_evidence_have_the_frequencies_of_the_enumerated_density(given: dict) -> None:
    """2,000 draws: 4.5 standard errors of a frequency are at most .05; false alarms below 1e-3 in all comparisons."""
    same = agreeing({}, given)
    filled = MODEL.impute(asked({}, 2000), given=given, seed=3)
    draws = [
        MODEL.sample(2000, given=given, seed=2),
        pd.concat(MODEL.draw_joint(asked({}, 500), list(STATES), 4, given=given)),
    ]
    for each in (*draws, filled):
        for name in set(each):
            levels = STATES[name].unique()
            truth = np.array([P[same & (STATES[name] == level)].sum() / P[same].sum() for level in levels])
            shares = np.array([(each[name] == level).mean() for level in levels])
            assert np.abs(shares - truth).max() < 0.06, name
    for each in draws:
        assert (each["total"] == each["a"] + each["b"]).all() and not agreeing_rows(each, given).min() < 1


def agreeing_rows(table: pd.DataFrame, given: dict) -> np.ndarray:
    """Which rows of a table hold what is given."""
    merged = table.merge(STATES[agreeing({}, given)].drop_duplicates(), how="left", indicator=True)
    return (merged["_merge"] == "both").to_numpy()


@pytest.mark.slow
def test_joint_probabilities_of_related_columns_are_those_of_the_enumerated_density() -> None:
    """Exact but for surprises, up to 4.5 standard errors of `b` given a known total, which are below .05."""
    probs = MODEL.predict_joint_proba(asked({}), ["zip", "city", "a"])[0]
    for place, (level, city, a) in enumerate(np.ndindex(probs.shape)):
        wanted = {"zip": MODEL.classes("zip")[level], "city": MODEL.classes("city")[city], "a": MODEL.classes("a")[a]}
        assert probs[level, city, a] == pytest.approx(P[agreeing(wanted, {})].sum(), abs=0.002), place
    probs = MODEL.predict_joint_proba(asked({"total": 3}), ["a", "b", "city"], given={"zip": {"z0", "z4"}})[0]
    same = agreeing({"total": 3}, {"zip": {"z0", "z4"}})
    for a, b, city in np.ndindex(probs.shape):
        wanted = agreeing({"a": a, "b": b, "city": f"c{city}"}, {})
        assert probs[a, b, city] == pytest.approx(P[same & wanted].sum() / P[same].sum(), abs=0.05 if a + b == 3 else 0)


def test_a_frame_of_conditions_keeps_relations_or_names_the_row_that_breaks_one() -> None:
    conditions = pd.DataFrame(
        {"total": [3, 5, None], "city": ["c1", None, "c2"], "a": [None, 2, None]}, index=[7, 8, 9]
    )
    rows = MODEL.sample(given=conditions)
    assert list(rows.index) == [7, 8, 9] and (rows["a"] + rows["b"] == rows["total"]).all()
    assert ((rows[list(conditions)] == conditions) | conditions.isna()).all().all()
    assert all(city == f"c{int(level[1]) // 2}" for level, city in zip(rows["zip"], rows["city"], strict=True))
    with pytest.raises(ValueError, match="given: row 1 breaks 'zip -> city'; correct it"):
        MODEL.sample(given=pd.DataFrame({"zip": ["z1", "z1"], "city": ["c0", "c1"]}))


def test_evidence_that_contradicts_an_entry_or_what_entries_determine_is_refused() -> None:
    with pytest.raises(ValueError, match="given column 'city': row 1 of X determines 'c2', which contradicts it"):
        MODEL.impute(pd.DataFrame({"zip": ["z0", "z5"]}), given={"city": {"c0", "c1"}})
    with pytest.raises(ValueError, match="given column 'zip': row 0 of X holds 'z5', which contradicts it"):
        MODEL.score_samples(pd.DataFrame({"zip": ["z5"]}), given={"zip": {"z0", "z1"}})
    with pytest.raises(ValueError, match="given column 'zip': 1 of 1 rows agree in no draw"):
        MODEL.predict_proba(pd.DataFrame({"city": ["c2"]}), "a", given={"zip": {"z0", "z1"}})
