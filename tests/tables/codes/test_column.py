"""Codes of categories, and the codec that the content of a column suggests."""

from collections import Counter

import numpy as np
import pytest

from jointebm.tables.codes.categories import CategoryCodec, fit_categories
from jointebm.tables.codes.codec import TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec, Unit, shown_time
from jointebm.tables.codes.column_fit import fit_column
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.evidence import Choice, Interval
from jointebm.tables.codes.grids import Grid
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.key_codes import with_groups


def test_rare_levels_share_a_code_and_are_drawn_at_their_rates() -> None:
    values = np.array(["a"] * 50 + ["b"] * 30 + ["c"] * 12 + ["d"] * 6 + ["e"] * 2, dtype=object)
    codec = fit_categories(Counter(values.tolist()), max_codes=3)
    assert codec.num_codes == 3 and codec.encode(values).max() == 2
    drawn = codec.decode(np.full(2000, 2), (np.arange(2000) + 0.5) / 2000)
    assert {level: (drawn == level).mean() for level in "cde"} == pytest.approx(
        {"c": 0.6, "d": 0.3, "e": 0.1}, abs=1e-3
    )
    levels = np.array(list("cde"), dtype=object)
    assert np.exp(codec.log_prob(levels, np.full(3, 2))).sum() == pytest.approx(1)
    assert np.exp(codec.log_weights(Choice(("d", "e")))).tolist() == pytest.approx([0, 0, 0.4])
    assert set(codec.decode(np.full(50, 2), np.linspace(0, 0.99, 50), evidence=Choice(("e",)))) == {"e"}
    assert CategoryCodec.model_validate_json(codec.model_dump_json()) == codec


def test_the_share_of_rows_in_rare_levels_counts_few_rows_and_shared_codes() -> None:
    counts = {"a": 30, "b": 10, "c": 9, "d": 1}
    values = np.array([level for level, num in counts.items() for _ in range(num)], dtype=object)
    apart, together = (
        fit_categories(Counter(values.tolist()), max_codes=64),
        fit_categories(Counter(values.tolist()), max_codes=2),
    )
    assert apart.num_codes == 4 and apart.rare_share == pytest.approx(10 / 50)
    assert together.num_codes == 2 and together.rare_share == pytest.approx(20 / 50)
    assert with_groups(together, [0, 0, 1, 1]).rare_share == together.rare_share
    assert CategoryCodec.model_validate_json(apart.model_dump_json()).rare_share == apart.rare_share
    seldom = fit_column(
        ColumnSummary.of(column("boolean", [True] * 3 + [False] * 27)), kind=None, max_bins=None, max_levels=64
    )
    assert isinstance(seldom, CategoryCodec) and seldom.rare_share == pytest.approx(3 / 30)


def test_a_thousand_levels_have_a_code_each() -> None:
    """By the defaults of a table."""
    values = np.array([f"p{number % 1500}" for number in range(6000)], dtype=object)
    table = TableCodec.fit({"p": Column("label", values, np.zeros(6000, dtype=bool))})
    codes = table.encode({"p": Column("label", values, np.zeros(6000, dtype=bool))})
    assert table.num_codes == (1500,) and (table.decode(codes, np.zeros(codes.shape))["p"].values == values).all()


def test_ordered_categories_keep_their_order_and_have_intervals() -> None:
    values = np.array(["low", "high", "mid", "high"], dtype=object)
    codec = fit_categories(
        Counter(values.tolist()), max_codes=64, declared=("low", "mid", "never", "high"), ordered=True
    )
    assert codec.levels == ("low", "mid", "high") and codec.bins == (0, 1, 2)
    assert np.exp(codec.log_weights(Interval("mid", None))).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="category 'huge' was not seen in training; known: 'low'"):
        codec.log_weights(Choice(("huge",)))
    with pytest.raises(ValueError, match="give a set"):
        fit_categories(Counter(values.tolist()), max_codes=64).log_weights(Interval("low", "high"))


def column(role: str, values: list[object], **more: object) -> Column:
    is_missing = np.array([value is None for value in values])
    dtype = {"real": float, "whole": np.int64, "boolean": bool, "time": np.int64}.get(role, object)
    filled = np.array([(0 if dtype is not object else "") if value is None else value for value in values], dtype=dtype)
    return Column(role, filled, is_missing, **more)  # type: ignore[arg-type]


def policy(each: Column, kind: str | None = None) -> object:
    return fit_column(ColumnSummary.of(each), kind=kind, max_bins=48, max_levels=64)  # type: ignore[arg-type]


def test_the_content_of_a_column_chooses_its_codec() -> None:
    ids = [f"customer {i}" for i in range(40)]
    assert policy(column("label", list(ids))) == IgnoredCodec(reason="id")
    assert policy(column("label", [*ids[:10]])) != IgnoredCodec(reason="id")  # ten may differ by chance
    assert policy(column("label", ids, declared=tuple(ids))).num_codes == 40  # type: ignore[attr-defined]  # the user said so
    assert policy(column("real", [None, None])) == IgnoredCodec(reason="all missing")
    assert policy(column("label", ["x"] * 5)).num_codes == 1  # type: ignore[attr-defined]
    assert policy(column("whole", [4] * 5)).num_codes == 1  # type: ignore[attr-defined]
    assert policy(column("boolean", [True, None, True])).num_codes == 2  # type: ignore[attr-defined]
    assert policy(column("whole", [1, 2, 3] * 9), "categorical").levels == (1, 2, 3)  # type: ignore[attr-defined]
    assert policy(column("whole", list(range(100))), "id") == IgnoredCodec(reason="id")
    assert isinstance(policy(column("boolean", [True, False] * 9), "numeric"), NumberCodec)
    with pytest.raises(ValueError, match="kind is 'numeric', but the column holds text"):
        policy(column("label", ["1", "2"]), "numeric")
    days = policy(column("time", [18262 + 7 * i for i in range(60)], unit="D"))
    assert isinstance(days, NumberCodec) and days.grid == Grid(offset=18262, step=7)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (10**9, "D", "1000000000 days, 0:00:00"),
        (-(10**9), "D", "-1000000000 days, 0:00:00"),
        (10**18, "s", "11574074074074 days, 1:46:40"),
        (90_000, "ms", "0:01:30"),
        (-1, "s", "-1 day, 23:59:59"),
        (86_400 * 10**9 + 1_500_000_000, "ns", "1 day, 0:00:01.500000"),
    ],
)
def test_lengths_of_time_of_any_size_are_shown(value: int, unit: Unit, text: str) -> None:
    assert shown_time(value, unit, is_duration=True) == text
