"""Warnings of values outside the training range: when they come, how often, and when they do not."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jointebm import ConvergenceWarning, ExtrapolationWarning, JointEBM, JointEBMClassifier, JointEBMImputer
from jointebm.tables.codes.codec import CodedColumn, TableCodec
from jointebm.tables.codes.column import Column, Role
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.codes.training_range import RangeTally

RNG = np.random.default_rng(11)
FAST = {"num_visits": 0, "rows_per_component": 50}
DAYS = RNG.integers(0, 300, 200)
TABLE = pd.DataFrame(
    {
        "x": RNG.normal(size=200).round(3),
        "n": RNG.integers(0, 9, 200),
        "born": pd.Timestamp("2020-01-01") + pd.to_timedelta(DAYS, unit="D"),
        "took": pd.to_timedelta(DAYS, unit="D"),
        "kind": RNG.choice(["a", "b"], 200),
    }
)
MODEL = JointEBM(training=FAST, relations=None).fit(TABLE)
FIRST, LAST = (str(each.date()) for each in (TABLE["born"].min(), TABLE["born"].max()))
FAR: dict[str, Any] = {"x": 1000.0, "born": "2200-05-01"}
QUESTIONS: list[Callable[[dict[str, Any]], Any]] = [
    lambda given: MODEL.sample(5, given=given),
    lambda given: MODEL.impute(TABLE[["kind"]].head(9), given=given),
    lambda given: MODEL.predict(TABLE[["kind"]].head(9), "n", given=given),
    lambda given: MODEL.predict_proba(TABLE[["n"]].head(9), "kind", given=given),
    lambda given: MODEL.predict_interval(TABLE[["kind"]].head(9), "n", given=given),
    lambda given: MODEL.predict_joint_proba(TABLE[["took"]].head(9), ["kind", "n"], given=given),
    lambda given: MODEL.draw_joint(TABLE[["kind"]].head(9), ["n"], 2, given=given),
]


def told(ask: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask()
    return [each for each in caught if issubclass(each.category, ExtrapolationWarning)]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_every_question_warns_once_per_given_column_at_the_line_that_asks(ask: Callable[[Any], Any]) -> None:
    found = told(lambda: ask(FAR))
    texts = [str(each.message) for each in found]
    assert len(texts) == 2 and all(each.filename == __file__ for each in found)
    assert texts[0].startswith(
        f"given column 'x': outside the training values, {TABLE['x'].min()} to {TABLE['x'].max()}: 1000.0; the training"
    )
    assert texts[0].endswith("Remedy: fit with rows that hold them, or leave them out of given")
    assert f"given column 'born': outside the training values, {FIRST} to {LAST}: 2200-05-01; " in texts[1]
    assert not told(lambda: ask({"x": (0.0, None), "born": ("2020-03-01", "2300-01-01")}))


def test_values_of_a_set_outside_are_named_and_an_interval_without_values_is_an_error() -> None:
    (found,) = told(lambda: MODEL.sample(3, given={"x": [0.5, -70.0, 80.0], "n": {1, 2}}))
    assert ": -70.0, 80.0; " in str(found.message)
    with pytest.raises(ValueError, match="given column 'x': no training value agrees with it; they run from -"):
        MODEL.sample(3, given={"x": (50, 60)})
    with pytest.raises(ValueError, match=f"'born': no training value agrees with it; .* to {LAST}.*widen the interval"):
        MODEL.sample(3, given={"born": ("2031-01-01", None)})
    with pytest.raises(
        ValueError, match=r"'took': no training value agrees with it; .* 1 day, 0:00:00 to 299 days, 0:00:00"
    ):
        MODEL.impute(TABLE[["kind"]].head(3), given={"took": (None, "-1D")})


def test_observed_entries_far_outside_are_summed_up_in_one_warning_per_column() -> None:
    asked = TABLE.head(60).assign(n=pd.array([3] * 60, dtype="Int64"))
    asked.loc[[7, 9], "x"] = [1e6, -1e6]
    asked.loc[8, "x"] = np.nan
    core = JointEBMClassifier.of(MODEL, "kind")
    for ask in (
        lambda: MODEL.impute(asked),
        lambda: MODEL.predict(asked, "kind"),
        lambda: core.predict(asked.drop(columns="kind")),
        lambda: JointEBMImputer.of(MODEL).transform(asked),
        lambda: MODEL.sample(given=asked),
    ):
        (found,) = told(ask)
        assert str(found.message).startswith("column 'x': entries outside the training values, -")
        assert ": 2 of 59, the first 1000000.0 in row 7; the training data tell nothing" in str(found.message)
        assert str(found.message).endswith("Remedy: fit with such rows, or make these entries missing")
        assert found.filename == __file__ and not isinstance(found.message, ConvergenceWarning)
    assert not told(lambda: MODEL.predict(asked, "x"))  # entries of the target are ignored
    assert not told(lambda: MODEL.score_samples(asked))  # a low score is the answer


def test_more_rows_outside_than_chance_explains_warn_and_a_few_do_not() -> None:
    later = TABLE.head(40).assign(born=TABLE["born"].max() + pd.to_timedelta(np.arange(40), unit="D"))
    (found,) = told(lambda: MODEL.predict(later, "kind"))
    assert f"column 'born': entries outside the training values, {FIRST} to {LAST}: 39 of 40, " in str(found.message)
    assert not told(lambda: MODEL.predict(TABLE.head(40).assign(n=[10, 10, *[3] * 38]), "kind"))


def findings(coded: CodedColumn, values: np.ndarray) -> list[str]:
    tally = RangeTally()
    tally.add([(coded, Column("real", values, np.zeros(len(values), dtype=bool)))])
    return tally.findings()


def coded_column(values: np.ndarray, role: Role = "real") -> CodedColumn:
    return TableCodec.fit({"u": Column(role, values, np.zeros(len(values), dtype=bool))}).columns[0]


def test_the_bound_on_chance_holds_for_rows_like_those_of_training() -> None:
    """The bound is compared with frequencies where it is large, and decides where it is 1e-4."""
    generator, numbers = np.random.default_rng(0), []
    coded = coded_column(np.linspace(0.0, 1.0, 30))
    for _ in range(4000):
        pool = generator.uniform(size=60)
        numbers.append(int(((pool[30:] < pool[:30].min()) | (pool[30:] > pool[:30].max())).sum()))
    assert 0.02 < (np.array(numbers) >= 6).mean() < 7 * math.comb(54, 24) / math.comb(60, 30)
    for num in range(12, 18):
        bound = (num + 1) * math.comb(60 - num, 30 - num) / math.comb(60, 30)
        assert bool(findings(coded, np.where(np.arange(30) < num, 1.1, 0.5))) == (bound < 1e-4), num


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "lognormal(1)", "lognormal(2)", "Cauchy"])
def test_new_rows_like_those_of_training_are_no_finding(name: str) -> None:
    """400 columns of 300 training rows, each asked five times about 300 rows like them.

    By the bounds, at most 3e-4 of the 2,000 questions are findings (1e-4 by number, 2e-4 by distance, where the tail is no
    heavier than 1 / x): were they independent, more than 5 would be with a probability of 4e-5.
    """
    draws: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
        "normal": lambda rng, num: rng.standard_normal(num),
        "lognormal(1)": lambda rng, num: rng.lognormal(0, 1, num),
        "lognormal(2)": lambda rng, num: rng.lognormal(0, 2, num),
        "Cauchy": lambda rng, num: rng.standard_cauchy(num),
    }
    generator, num_found = np.random.default_rng(5), 0
    for _ in range(400):
        coded = coded_column(draws[name](generator, 300))
        num_found += sum(len(findings(coded, draws[name](generator, 300))) for _ in range(5))
    assert num_found <= 5


def test_one_row_is_a_finding_only_where_it_is_far_outside() -> None:
    training = np.random.default_rng(0).normal(size=20_001)
    coded = coded_column(training)
    assert not findings(coded, np.array([training.max() + 0.01]))
    (found,) = findings(coded, np.array([0.5, 1000.0]))
    assert ": 1 of 2, the first 1000.0 in row 1; " in found


def test_what_the_codec_rounds_to_the_range_is_inside() -> None:
    """A copy in 32 bits, also of a column that is capped at a value without a short decimal; and .1 * 7 on a grid of .1."""
    capped = np.minimum(np.random.default_rng(0).normal(size=300), 1 / 3 + 1e-9)
    coded = coded_column(capped)
    copy = capped.astype(np.float32).astype(np.float64)
    assert copy.max() > capped.max() and not findings(coded, copy)
    assert findings(coded, np.where(capped == capped.max(), 0.334, capped))
    tenths = coded_column(np.round(np.arange(200) % 8 / 10, 1))
    assert 0.1 * 7 > 0.7 and not findings(tenths, np.full(200, 0.1 * 7)) and findings(tenths, np.full(200, 0.8))
    assert isinstance(tenths.codec, NumberCodec)
    assert tenths.codec.tail(np.array([-0.1, 0.0, 0.7, 0.8])).tolist() == [7 / 8, 1.0, 1.0, 7 / 8]
    table = pd.DataFrame({"x": capped, "kind": np.arange(300) % 2})
    model = JointEBM(training=FAST, relations=None).fit(table)
    assert not told(lambda: model.impute(table.astype({"x": "float32"})))
    assert not told(lambda: model.sample(3, given={"x": np.float32(capped.max())}))


def test_known_sums_are_outside_where_the_columns_of_the_model_are() -> None:
    """b = total - a is above 19 in forty rows that give a and total, although the total is one of training."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.integers(0, 20, 400), "b": rng.integers(0, 20, 400)})
    table["total"] = table["a"] + table["b"]
    most = int(table["total"].max())
    model = JointEBM(training=FAST, relations=["total = a + b"]).fit(table)
    (found,) = told(lambda: model.impute(pd.DataFrame({"a": [5] * 40, "total": [most] * 40})))
    assert str(found.message).startswith(
        f"column 'b': entries outside the training values, 0 to 19: 40 of 40, the first {most - 5}"
    )
    (found,) = told(lambda: model.impute(pd.DataFrame({"a": [5] * 40, "total": [1000] * 40})))
    assert ": 40 of 40, the first 995 in row 0; " in str(found.message)  # the sum itself only tells what b is
    (found,) = told(lambda: model.impute(pd.DataFrame({"a": [5], "total": [1000]})))
    assert ": 1 of 1, the first 995 in row 0; " in str(found.message)
    (found,) = told(lambda: model.impute(pd.DataFrame({"a": [5] * 40}), given={"total": most}))
    assert str(found.message).startswith("column 'b'")
    assert not told(lambda: model.impute(pd.DataFrame({"a": [5] * 40, "total": [20] * 40})))
    assert not told(lambda: model.predict(pd.DataFrame({"a": [5] * 40, "total": [most] * 40}), "b"))
