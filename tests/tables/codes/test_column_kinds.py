"""Codecs of single columns: round trips, exact densities, draws within grid, bounds and atoms, and the policies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointebm.tables.codes.binning import fit_numbers
from jointebm.tables.codes.categories import CategoryCodec, fit_categories
from jointebm.tables.codes.column import Column, IgnoredCodec, fit_column
from jointebm.tables.codes.evidence import Choice, Interval
from jointebm.tables.codes.grids import Grid, find_grid
from jointebm.tables.codes.numbers import NumberCodec

RNG = np.random.default_rng(0)
NUMBERS = {
    "hours: atoms and a grid": np.where(RNG.random(3000) < 0.5, 40, RNG.integers(1, 99, 3000)),
    "gains: zeros, spikes, heavy tail": np.where(
        RNG.random(5000) < 0.9, 0, np.where(RNG.random(5000) < 0.5, 7688, RNG.pareto(1, 5000) * 1000)
    ).astype(int),
    "few": RNG.integers(0, 4, 200) * 7,
    "tenths": np.round(RNG.normal(40, 5, 500), 1),
    "steps of 25": RNG.integers(100, 250, 344) * 25.0,
    "reals": RNG.normal(size=2000),
    "reals with an atom": np.where(RNG.random(2000) < 0.3, 0.0, RNG.lognormal(size=2000)),
    "Cauchy": RNG.standard_cauchy(3000),
    "nanoseconds": RNG.integers(1_600_000_000_000_000_000, 1_700_000_000_000_000_000, 500),
    "hashes": RNG.integers(-(2**63), 2**63 - 1, 500),
    "neighbouring floats": 1 + np.spacing(1.0) * RNG.integers(0, 200, 1000),
    "huge": RNG.normal(size=100) * 1e300,
    "as far apart as floats are": RNG.uniform(-1, 1, 200) * 4e307,
    "both ends of floats": RNG.choice([-4e307, 4e307, 0.0], 200),
    "smaller than floats have digits": RNG.normal(size=200) * 1e-310,
    "both ends of 64 bits": RNG.choice([2**63 - 1, -(2**63)], 200),
    "neighbours that floats do not tell apart": RNG.integers(2**62 - 5, 2**62 + 5, 200),
    "a range beyond 2^62": RNG.integers(-(2**62) + 1, 2**62 - 1, 200),
    "five": RNG.normal(size=5),
    "two": np.array([3, 4]),
    "constant": np.array([3.3] * 10),
    "one row": np.array([7]),
}
TOO_FAR_TO_SUM = {
    "nanoseconds",
    "hashes",
    "neighbouring floats",
    "huge",
    "as far apart as floats are",
    "both ends of floats",
    "smaller than floats have digits",
    "both ends of 64 bits",
    "neighbours that floats do not tell apart",
    "a range beyond 2^62",
}


def as_numbers(values: np.ndarray) -> NumberCodec:
    return fit_numbers(values, max_codes=48)


def total(codec: NumberCodec, code: int) -> float:
    """Mass of one code: between the ends point by point or piece by piece, and what `log_surprise` says of the tails."""
    first, last = min(codec.low), max(codec.high)
    if codec.grid is not None:
        points = codec.grid.value(np.arange(first, last)).astype(np.int64 if codec.whole else np.float64)
        inside = np.exp(codec.log_prob(points, np.full(len(points), code))).sum()
        outside = codec.grid.value(np.array([first - 1, last])).astype(points.dtype)
    else:
        ends = np.unique([*codec.low, *codec.high])
        points = np.array([low for low, high in zip(codec.low, codec.high, strict=True) if low == high])
        ends = np.sort(np.concatenate([ends, (ends[1:] + ends[:-1]) / 2]))  # gaps between atoms are halved
        middle, length = (ends[1:] + ends[:-1]) / 2, ends[1:] - ends[:-1]
        inside = (np.exp(codec.log_prob(middle, np.full(len(middle), code))) * length).sum()
        inside += np.exp(codec.log_prob(points, np.full(len(points), code))).sum()
        outside = np.nextafter([first, last], [-np.inf, np.inf])
    tails = np.exp(codec.log_surprise(outside))
    return float(inside + tails[0] * (code == 0) + tails[1] * (code == codec.num_codes - 1))


@pytest.mark.parametrize("name", NUMBERS)
def test_codes_of_training_values_are_counted_and_have_a_finite_log_density(name: str) -> None:
    values = NUMBERS[name]
    codec = as_numbers(values)
    codes = codec.encode(values)
    assert np.bincount(codes, minlength=codec.num_codes).tolist() == list(codec.counts)
    assert np.isfinite(codec.log_prob(values, codes)).all()
    assert codec.num_codes <= 60


@pytest.mark.parametrize("name", NUMBERS)
def test_draws_fall_into_their_code_and_respect_grid_and_bounds(name: str) -> None:
    values = NUMBERS[name]
    codec = as_numbers(values)
    codes = np.repeat(np.arange(codec.num_codes), 500)
    uniforms = np.concatenate([[0.0, 1 - 2**-53], np.random.default_rng(1).random(498)])
    drawn = codec.decode(codes, np.tile(uniforms, codec.num_codes))
    assert (codec.encode(drawn) == codes).all()
    assert drawn.dtype == values.dtype and drawn.min() >= values.min() and drawn.max() <= values.max()
    if codec.grid is not None:
        index = codec.grid.index(drawn)
        assert (codec.grid.value(index) == drawn).all()


@pytest.mark.parametrize("name", [n for n in NUMBERS if n not in TOO_FAR_TO_SUM])
def test_each_code_has_total_mass_one_over_the_whole_line(name: str) -> None:
    codec = as_numbers(NUMBERS[name])
    if codec.grid is not None and max(codec.high) - min(codec.low) > 10**6:
        pytest.skip("too many points to sum")
    assert [total(codec, code) for code in range(codec.num_codes)] == pytest.approx([1.0] * codec.num_codes, abs=1e-9)


@pytest.mark.parametrize("name", ["hours: atoms and a grid", "gains: zeros, spikes, heavy tail", "few", "tenths"])
def test_draws_have_the_probabilities_that_log_prob_says(name: str) -> None:
    """Exactly: equally spaced uniforms hit each grid point in proportion, up to one in their number per piece."""
    codec = as_numbers(NUMBERS[name])
    num = 20_000
    for code in range(codec.num_codes):
        drawn = codec.decode(np.full(num, code), (np.arange(num) + 0.5) / num)
        distinct, counts = np.unique(drawn, return_counts=True)
        prob = np.exp(codec.log_prob(distinct, np.full(len(distinct), code)))
        surprise = 1 / (codec.counts[code] + 2)
        scales = (1.0, 1 - surprise)  # what a code keeps for surprises is not drawn
        assert min(np.abs(prob - scale * counts / num).max() for scale in scales) < 3 / num


@given(st.lists(st.floats(-1e12, 1e12) | st.integers(-50, 50).map(float), min_size=1, max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_floats_round_trip(numbers: list[float]) -> None:
    values = np.array(numbers)
    codec = as_numbers(values)
    codes = codec.encode(values)
    assert np.isfinite(codec.log_prob(values, codes)).all()
    drawn = codec.decode(codes, np.random.default_rng(0).random(len(codes)))
    assert (codec.encode(drawn) == codes).all() and drawn.min() >= values.min() and drawn.max() <= values.max()
    assert NumberCodec.model_validate_json(codec.model_dump_json()) == codec


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), min_size=1, max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_integers_round_trip(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    codec = as_numbers(values)
    codes = codec.encode(values)
    assert np.isfinite(codec.log_prob(values, codes)).all()
    assert NumberCodec.model_validate_json(codec.model_dump_json()) == codec


def test_tails_on_a_grid_are_what_log_surprise_says_point_by_point() -> None:
    codec = as_numbers(np.array([10, 20] * 30))
    outside = np.arange(21, 200)
    survival = np.exp(codec.log_surprise(np.append(outside, 200)))
    prob = np.exp(codec.log_prob(outside, np.ones(len(outside), dtype=int)))
    assert prob == pytest.approx(survival[:-1] - survival[1:], rel=1e-9)


def test_a_value_with_a_large_share_is_an_atom() -> None:
    values = NUMBERS["hours: atoms and a grid"]
    codec = as_numbers(values)
    code = codec.encode(np.array([40]))
    assert set(codec.encode(np.array([39, 41]))).isdisjoint(code)
    assert (codec.decode(np.repeat(code, 100), np.linspace(0, 0.999, 100)) == 40).all()


def test_frequent_values_inside_a_bin_are_drawn_at_their_rate() -> None:
    values = np.concatenate([np.arange(0, 100_000, 50), np.full(30, 77_777)])  # less than one in 48
    codec = as_numbers(values)
    code = codec.encode(np.array([77_777]))[0]
    drawn = codec.decode(np.full(1000, code), (np.arange(1000) + 0.5) / 1000)
    assert (drawn == 77_777).mean() == pytest.approx(30 / (codec.counts[code] + 1), abs=2e-3)


def test_values_beyond_and_between_training_values_are_surprises_with_finite_log_density() -> None:
    codec = as_numbers(np.array([10, 20] * 30))
    values = np.array([10, 11, 16, 25, 10**6])
    codes = codec.encode(values)
    assert codes.tolist() == [0, 0, 1, 1, 1]
    log_prob = codec.log_prob(values, codes)
    assert np.isfinite(log_prob).all() and log_prob[0] == pytest.approx(np.log(1 - 1 / 32))
    assert codec.log_surprise(values)[0] == 0 and (np.diff(codec.log_surprise(values)[3:]) < 0).all()
    assert set(codec.decode(np.array([0, 1] * 50), np.linspace(0, 0.99, 100)).tolist()) == {10, 20}


def test_quantile_inverts_the_distribution_of_codes_and_values() -> None:
    values = NUMBERS["reals"]
    codec = as_numbers(values)
    probs = np.array(codec.counts)[None] / len(values)
    for level in (0.0, 0.05, 0.5, 0.95):
        assert codec.quantile(probs, level)[0] == pytest.approx(np.quantile(values, level), abs=0.1)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_quantiles_within_a_code_are_those_of_its_draws(dtype: type) -> None:
    """With a frequent value within a bin. Of 20,000 equally spaced draws, at most three more or fewer lie below."""
    spread = RNG.integers(0, 10_000, 3000) if dtype is np.int64 else RNG.random(3000) * 10_000
    codec, num = as_numbers(np.append(spread, [1234, 8765] * 40).astype(dtype)), 20_000
    assert len(codec.pieces.ascending().low) > len(codec.low)  # a value within a bin there is
    for code in range(codec.num_codes):
        drawn = codec.decode(np.full(num, code), (np.arange(num) + 0.5) / num)
        for level in np.linspace(0.05, 0.95, 19):
            found = codec.quantile(np.eye(codec.num_codes)[[code]], level)
            assert (drawn < found).sum() <= level * num + 3 and (drawn <= found).sum() >= level * num - 3


@pytest.mark.parametrize("name", NUMBERS)
def test_means_and_the_densities_of_what_was_not_seen_are_finite(name: str) -> None:
    values = NUMBERS[name]
    codec = as_numbers(values)
    assert np.isfinite(codec.means).all()
    assert (codec.means >= float(values.min())).all() and (codec.means <= float(values.max())).all()
    strange = np.array([-4e307, -1e300, 0.0, 5e-324, 1e300, 4e307])
    strange = np.array([-(2**63), 0, 2**63 - 1]) if values.dtype.kind == "i" else strange
    assert np.isfinite(codec.log_prob(strange, codec.encode(strange))).all()
    assert np.isfinite(codec.log_surprise(strange)).all()


def test_means_are_those_of_draws() -> None:
    for name in ("reals", "hours: atoms and a grid", "gains: zeros, spikes, heavy tail"):
        codec = as_numbers(NUMBERS[name])
        uniforms = np.tile((np.arange(20_000) + 0.5) / 20_000, codec.num_codes)
        drawn = codec.decode(np.repeat(np.arange(codec.num_codes), 20_000), uniforms).reshape(codec.num_codes, -1)
        assert codec.means == pytest.approx(drawn.mean(axis=1), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("name", ["hours: atoms and a grid", "reals", "tenths", "reals with an atom"])
def test_an_interval_weighs_each_code_by_the_part_inside_and_draws_stay_inside(name: str) -> None:
    values = NUMBERS[name]
    codec = as_numbers(values)
    low, high = np.quantile(values, [0.3, 0.62]).tolist()
    evidence = Interval(low, high)
    fraction = np.exp(codec.log_weights(evidence))
    uniforms = np.tile((np.arange(4000) + 0.5) / 4000, codec.num_codes)
    codes = np.repeat(np.arange(codec.num_codes), 4000)
    drawn = codec.decode(codes, uniforms).reshape(codec.num_codes, -1)
    assert fraction == pytest.approx(((drawn >= low) & (drawn <= high)).mean(axis=1), abs=2e-3)
    possible = np.isin(codes, np.flatnonzero(fraction))
    inside = codec.decode(codes[possible], uniforms[possible], evidence=evidence)
    assert inside.min() >= low and inside.max() <= high
    assert (codec.encode(inside) == codes[possible]).all()


def test_a_choice_of_numbers_draws_only_these_in_proportion() -> None:
    codec = as_numbers(NUMBERS["hours: atoms and a grid"])
    evidence = Choice((40, 41))
    weights = np.exp(codec.log_weights(evidence))
    code_of_40, code_of_41 = codec.encode(np.array([40, 41]))
    assert np.flatnonzero(weights).tolist() == sorted({code_of_40, code_of_41})
    codes = np.repeat([code_of_40, code_of_41], 10)
    assert set(codec.decode(codes, np.tile(np.linspace(0, 0.9, 10), 2), evidence=evidence)) == {40, 41}
    ratio = codec.log_prob(np.array([40, 41]), np.array([code_of_40, code_of_41]))
    assert np.log(weights[code_of_40] / weights[code_of_41]) == pytest.approx(ratio[0] - ratio[1])


def test_grids_are_found_and_decimals_are_read_back_exactly() -> None:
    assert find_grid(np.array([0.1, 0.2, 0.3])) == Grid(offset=1, step=1, decimals=1)
    assert find_grid(np.array([0.1 + 0.2, 1.0])) is None
    assert find_grid(np.array([5.0, 10.0])) == Grid(offset=5, step=1, decimals=0)  # two values say nothing about steps
    values = np.round(np.random.default_rng(0).normal(size=1000), 3)
    grid = find_grid(np.unique(values))
    assert grid is not None and np.array_equal(grid.value(grid.index(values)), values)


def test_rare_levels_share_a_code_and_come_back_at_their_rates() -> None:
    values = np.array(["a"] * 50 + ["b"] * 30 + ["c"] * 12 + ["d"] * 6 + ["e"] * 2, dtype=object)
    codec = fit_categories(values, max_codes=3)
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


def test_ordered_categories_keep_their_order_and_have_intervals() -> None:
    values = np.array(["low", "high", "mid", "high"], dtype=object)
    codec = fit_categories(values, max_codes=64, declared=("low", "mid", "never", "high"), ordered=True)
    assert codec.levels == ("low", "mid", "high") and codec.is_ordered
    assert np.exp(codec.log_weights(Interval("mid", None))).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="category 'huge' was not there in training; known are 'low'"):
        codec.log_weights(Choice(("huge",)))
    with pytest.raises(ValueError, match="give a set"):
        fit_categories(values, max_codes=64).log_weights(Interval("low", "high"))


def column(role: str, values: list[object], **more: object) -> Column:
    is_missing = np.array([value is None for value in values])
    dtype = {"real": float, "whole": np.int64, "boolean": bool, "time": np.int64}.get(role, object)
    filled = np.array([(0 if dtype is not object else "") if value is None else value for value in values], dtype=dtype)
    return Column(role, filled, is_missing, **more)  # type: ignore[arg-type]


def policy(each: Column, kind: str | None = None) -> object:
    return fit_column(each, kind=kind, max_bins=48, max_levels=64)  # type: ignore[arg-type]


def test_policies_by_what_a_column_holds() -> None:
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
    with pytest.raises(ValueError, match="asked to be numeric, but it holds text"):
        policy(column("label", ["1", "2"]), "numeric")
    days = policy(column("time", [18262 + 7 * i for i in range(60)], unit="D"))
    assert isinstance(days, NumberCodec) and days.grid == Grid(offset=18262, step=7)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weight", (1.0,), "differ in length"),
        ("code", (0, 2), "code must ascend"),
        ("low", (0.0, 1.0), "whole with a grid"),
        ("high", (0, 1), "must not be empty"),
        ("weight", (1.0, 0.0), "must be positive"),
    ],
)
def test_a_forged_description_is_refused(field: str, value: object, message: str) -> None:
    fields = {"grid": {"offset": 0, "step": 1}, "whole": True, "low": (0, 1), "high": (1, 2), "weight": (1.0, 1.0)}
    fields |= {"code": (0, 1), "counts": (1, 1)}
    NumberCodec.model_validate(fields)
    with pytest.raises(ValueError, match=message):
        NumberCodec.model_validate(fields | {field: value})
