"""Imputations: independent draws of equal rows, ids, parts, and the uncertainty of the fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from jointebm import JointEBM, JointEBMImputer

QUICK: dict[str, Any] = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
RNG = np.random.default_rng(3)


def groups(num: int) -> pd.DataFrame:
    """Two columns: yes for .7 of A and .2 of B, missing in 40% of the rows; and a number of the row as its id."""
    group = RNG.choice(["A", "B"], num)
    answer = np.where(RNG.random(num) < np.where(group == "A", 0.7, 0.2), "yes", "no").astype(object)
    answer[RNG.random(num) < 0.4] = None
    return pd.DataFrame({"group": group, "answer": answer, "number": [f"row {i}" for i in range(num)]})


TABLE = groups(1000)
MODEL = JointEBM(training=QUICK, num_members=4).fit(TABLE)
ALIKE = pd.DataFrame({"group": ["A"] * 500, "answer": [None] * 500, "number": [f"new {i}" for i in range(500)]})


def chance() -> float:
    """p(yes | A) of the model."""
    probs = MODEL.predict_proba(ALIKE.head(1), "answer")[0]
    return float(probs[MODEL.classes("answer").tolist().index("yes")])


def yes(frame: pd.DataFrame) -> np.ndarray:
    return (frame["answer"] == "yes").to_numpy()


def test_equal_rows_get_independent_draws_with_the_right_frequency() -> None:
    """Exact tests of 200 draws of 500 equal rows; false alarms 3e-6 in all."""
    drawn = np.stack([yes(each) for each in MODEL.draw_imputations(ALIKE, 200)])  # (D, N)
    p, (num_draws, num_rows) = chance(), drawn.shape
    assert stats.binomtest(int(drawn.sum()), drawn.size, p).pvalue > 1e-6
    for axis, count in ((1, num_rows), (0, num_draws)):  # sums of independent draws vary as the binomial
        sums = drawn.sum(axis=axis)
        statistic = ((sums - count * p) ** 2).sum() / (count * p * (1 - p))
        low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], len(sums))
        assert low < statistic < high


def test_the_filled_fraction_varies_over_seeds_as_that_of_independent_draws() -> None:
    """A chi-squared test of 100 seeds; false alarms 1e-6."""
    p, num = chance(), len(ALIKE)
    sums = np.array([yes(MODEL.impute(ALIKE, seed=seed)).sum() for seed in range(100)])
    statistic = ((sums - num * p) ** 2).sum() / (num * p * (1 - p))
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], 100)
    assert low < statistic < high


def test_the_number_of_a_row_decides_its_draw_and_not_the_part_or_other_rows() -> None:
    whole = MODEL.draw_imputations(TABLE, 2)
    for size in (1, 7, 333):
        for first in range(0, 40 * size, size) if size == 1 else range(0, 1000, size):
            part = TABLE.iloc[first : first + size]
            for found, expected in zip(MODEL.draw_imputations(part, 2, first=first), whole, strict=True):
                assert found.equals(expected.iloc[first : first + size])
    assert MODEL.impute(TABLE).equals(whole[0])
    other = TABLE.assign(answer=np.where(TABLE.index % 2, TABLE.answer, "no"))
    odd = TABLE.index % 2 == 1
    assert MODEL.impute(other)[odd].equals(whole[0][odd])
    assert not MODEL.impute(TABLE.iloc[::-1]).iloc[::-1].equals(whole[0])


@pytest.mark.parametrize("uncertainty", ["draws", "model"])
def test_with_ids_nothing_but_the_id_and_the_row_decides(uncertainty: Any) -> None:
    whole = MODEL.draw_imputations(TABLE, 3, row_ids="number", uncertainty=uncertainty)
    order = RNG.permutation(1000)[:400]
    some = MODEL.draw_imputations(TABLE.iloc[order], 3, row_ids="number", uncertainty=uncertainty, first=17)
    assert all(found.equals(expected.iloc[order]) for found, expected in zip(some, whole, strict=True))
    for ids in (TABLE["number"], TABLE["number"].tolist(), pl.Series("n", TABLE["number"].tolist())):
        given = MODEL.impute(TABLE, row_ids=ids, uncertainty=uncertainty)
        assert given.equals(whole[0])
    assert not MODEL.impute(TABLE, uncertainty=uncertainty).equals(whole[0])
    numbers = np.arange(1000)
    assert MODEL.impute(TABLE, row_ids=numbers).equals(MODEL.impute(TABLE, row_ids=numbers.astype(float)))


def test_ids_work_for_polars_and_arrays() -> None:
    table = pl.from_pandas(TABLE)
    assert_frame_equal(MODEL.impute(table[::-1], row_ids="number")[::-1], MODEL.impute(table, row_ids="number"))
    array = RNG.integers(0, 3, (90, 2)).astype(float)
    array[::3, 1] = np.nan
    ids = np.arange(90)[::-1]
    model = JointEBM(training=QUICK).fit(array)
    found = model.impute(array[::-1], row_ids=ids[::-1])
    assert np.array_equal(found[::-1], model.impute(array, row_ids=ids))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row_ids": "answer"}, "row_ids: column 'answer': row . has no id"),
        ({"row_ids": "group"}, "row_ids: column 'group': row . has the same id as row ."),
        ({"row_ids": "weight"}, "unknown column 'weight'"),
        ({"row_ids": [1, 2]}, r"row_ids: got shape \(2,\), expected a vector of 10 entries, one per row"),
        ({"row_ids": [1] * 10}, "row_ids: row 1 has the same id as row 0, so their draws would not be independent"),
        ({"row_ids": np.ones((10, 2))}, r"row_ids: got shape \(10, 2\)"),
        ({"first": -1}, "first: got -1, expected the number of a row, 0 or more"),
        ({"seed": 1.5}, "seed: got 1.5, expected a whole number from 0"),
        ({"uncertainty": "fit"}, "uncertainty: got 'fit', expected 'draws' or 'model'"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODEL.impute(TABLE.head(10), **options)
    with pytest.raises(ValueError, match="row_ids: X has no column 'number'; name one that it has"):
        MODEL.impute(TABLE[["group"]], row_ids="number")


def test_an_imputer_draws_by_row_number() -> None:
    imputer = JointEBMImputer.of(MODEL)
    assert imputer.transform(TABLE).equals(MODEL.impute(TABLE))
    drawn = yes(imputer.transform(ALIKE))
    assert 0.5 < drawn.mean() < 0.9


# Several fits


def test_the_uncertainty_of_the_fit_takes_members() -> None:
    without = JointEBM(training=QUICK).fit(TABLE)
    with pytest.raises(ValueError, match=r"3 draws need as many members, .* with 0; fit JointEBM\(num_members=3\)"):
        without.draw_imputations(TABLE, 3, uncertainty="model")
    with pytest.raises(ValueError, match=r"5 draws need as many members, .* with 4; .*, or ask for 4 draws at most"):
        MODEL.draw_imputations(TABLE, 5, uncertainty="model")
    with pytest.raises(ValueError, match="num_members: got -1: input should be greater than or equal to 0"):
        JointEBM(num_members=-1).fit(TABLE)


def test_each_draw_comes_from_its_own_member() -> None:
    """Frequencies of each draw are those of its member, and draws are independent: false alarms 5e-6 in all."""
    many = pd.concat([ALIKE] * 10, ignore_index=True)
    place = MODEL.codec_.index("answer")
    level = MODEL.classes("answer").tolist().index("yes")
    codes = MODEL.fitted.rows({}, 1).codes.clone()
    codes[0, MODEL.codec_.index("group")] = 0
    chances, tables = [], MODEL.draw_imputations(many, 4, uncertainty="model")
    correlations = np.corrcoef(np.stack([yes(each) for each in tables]))[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < stats.norm.isf(3e-7) / np.sqrt(len(many))
    for member, drawn in zip(MODEL.members_, tables, strict=True):
        chances.append(float(member.conditional(codes.clamp(min=0), place)[0, level].exp()))
        assert stats.binomtest(int(yes(drawn).sum()), len(many), chances[-1]).pvalue > 2.5e-7
    assert len(set(chances)) == 4 and all(abs(each - 0.7) < 0.15 for each in chances)


def test_members_are_saved_and_shared(tmp_path: Path) -> None:
    expected = MODEL.draw_imputations(TABLE, 4, uncertainty="model")
    MODEL.save(tmp_path / "model")
    loaded = JointEBM.load(tmp_path / "model")
    assert len(loaded.members_) == 4 and loaded.num_members == 4
    for other in (loaded, MODEL.with_target("answer")):
        drawn = other.draw_imputations(TABLE, 4, uncertainty="model")
        assert all(found.equals(each) for found, each in zip(drawn, expected, strict=True))


def test_members_leave_the_fit_itself_alone() -> None:
    without = JointEBM(training=QUICK).fit(TABLE)
    assert without.impute(TABLE).equals(MODEL.impute(TABLE))
    again = JointEBM(training=QUICK, num_members=4).fit(TABLE)
    assert again.impute(TABLE, uncertainty="model").equals(MODEL.impute(TABLE, uncertainty="model"))
