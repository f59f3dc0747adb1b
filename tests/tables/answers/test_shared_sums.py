"""Known sums that share missing parts: total = a + b and gross = b + c + e, against the enumerated density."""

import itertools

import numpy as np
import pandas as pd
import pytest

from jointebm import JointEBM

TEXTS = ("total = a + b", "gross = b + c + e")


def with_sums(parts: pd.DataFrame) -> pd.DataFrame:
    return parts.assign(total=parts["a"] + parts["b"], gross=parts["b"] + parts["c"] + parts["e"])


def dependent(num: int) -> pd.DataFrame:
    """c runs against b, a with c and e with a, so that what one sum says changes the parts of the other."""
    generator = np.random.default_rng(0)
    b = generator.integers(0, 4, num)
    c = np.where(generator.random(num) < 0.8, 3 - b, generator.integers(0, 4, num))
    a = np.where(generator.random(num) < 0.7, c, generator.integers(0, 4, num))
    e = np.where(generator.random(num) < 0.7, a // 2, generator.integers(0, 3, num))
    return with_sums(pd.DataFrame({"a": a, "b": b, "c": c, "e": e}))


SETTINGS = {"num_visits": 0, "rows_per_component": 50, "prior_strength": 0.1}
MODEL = JointEBM(training=SETTINGS, relations=TEXTS, num_draws=2000).fit(dependent(3000))
STATES = with_sums(
    pd.DataFrame(itertools.product(range(4), range(4), range(4), range(3)), columns=["a", "b", "c", "e"])
)
P = np.exp(MODEL.score_samples(STATES))
CASES = [
    ({"total": 3, "gross": 4}, {}),
    ({"total": 2, "gross": 3, "e": 1}, {}),  # c follows from the parts of total
    ({"total": 4, "gross": 4, "e": 0}, {"c": (1, 2)}),  # and there is evidence about it
    ({"total": 4, "gross": 5}, {"c": (1, 2)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("known", "given"), CASES)
def test_answers_are_those_of_the_enumerated_density(known: dict, given: dict) -> None:
    """Estimates are within 4.5 of their standard errors, and .01 for surprises; false alarms below 5e-4 together."""
    same = np.logical_and.reduce([STATES[name] == value for name, value in known.items()])
    for name, (low, high) in given.items():
        same &= STATES[name].between(low, high)
    asked = pd.DataFrame({name: [value] for name, value in known.items()})
    score = MODEL.score_samples(asked, given=given, diagnostics=True)
    assert abs(score.value[0] - np.log(P[same].sum())) < 4.5 * score.diagnostics.standard_error[0] + 0.01
    assert score.diagnostics.standard_error[0] < 0.05 and not score.diagnostics.exact[0]
    for target in {"a", "b", "c", "e"} - set(known) - set(given):
        answer = MODEL.predict_proba(asked, target, given=given, diagnostics=True)
        truth = [P[same & (STATES[target] == level)].sum() / P[same].sum() for level in MODEL.classes(target)]
        assert (np.abs(answer.value[0] - truth) < 4.5 * answer.diagnostics.standard_error[0] + 0.01).all(), target
    filled = MODEL.impute(pd.concat([asked] * 1500).assign(b=None), given=given)
    assert filled["b"].notna().all()
    shares = np.array([(filled["b"] == level).mean() for level in range(4)])
    truth = np.array([P[same & (STATES["b"] == level)].sum() / P[same].sum() for level in range(4)])
    assert np.abs(shares - truth).max() < 4.5 * 0.5 / np.sqrt(1500) + 0.01


def test_draws_keep_both_sums() -> None:
    drawn = MODEL.sample(50, given={"total": 3, "gross": 4})
    assert (drawn["a"] + drawn["b"] == 3).all() and (drawn["b"] + drawn["c"] + drawn["e"] == 4).all()
    assert drawn["b"].nunique() > 1
