"""Codes of numbers: round trips, exact densities, and draws within grid, bounds and atoms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointebm.tables.codes import binning
from jointebm.tables.codes.evidence import Choice, Interval
from jointebm.tables.codes.grids import Grid, find_grid
from jointebm.tables.codes.numbers import NumberCodec

RNG = np.random.default_rng(0)
SUMMABLE = {
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
    "five": RNG.normal(size=5),
    "two": np.array([3, 4]),
    "constant": np.array([3.3] * 10),
    "one row": np.array([7]),
}
NUMBERS = {
    **SUMMABLE,  # the rest lies too far apart to sum over
    "nanoseconds": RNG.integers(1_600_000_000_000_000_000, 1_700_000_000_000_000_000, 500),
    "hashes": RNG.integers(-(2**63), 2**63 - 1, 500),
    "neighbouring floats": 1 + np.spacing(1.0) * RNG.integers(0, 200, 1000),
    "huge": RNG.normal(size=100) * 1e300,
    "as far apart as floats are": RNG.uniform(-1, 1, 200) * 4e307,
    "both ends of floats": RNG.choice([-4e307, 4e307, 0.0], 200),
    "smaller than floats have digits": RNG.normal(size=200) * 1e-310,
    "both ends of 64 bits": RNG.choice([2**63 - 1, -(2**63)], 200),
    "neighbours beyond float precision": RNG.integers(2**62 - 5, 2**62 + 5, 200),
    "a range beyond 2^62": RNG.integers(-(2**62) + 1, 2**62 - 1, 200),
}


def fit_numbers(values: np.ndarray, max_codes: int | None = None) -> NumberCodec:
    distinct, counts = np.unique(values, return_counts=True)
    return binning.fit_numbers(distinct, counts, grid=find_grid(distinct), max_codes=max_codes)


def as_numbers(values: np.ndarray) -> NumberCodec:
    return fit_numbers(values, max_codes=48)


def total(codec: NumberCodec, code: int) -> float:
    """Mass of one code: between the ends point by point or piece by piece, and `log_surprise` for the tails."""
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


@pytest.mark.parametrize("name", SUMMABLE)
def test_each_code_has_mass_one_over_the_whole_line(name: str) -> None:
    codec = as_numbers(NUMBERS[name])
    if codec.grid is not None and max(codec.high) - min(codec.low) > 10**6:
        pytest.skip("too many points to sum")
    assert [total(codec, code) for code in range(codec.num_codes)] == pytest.approx([1.0] * codec.num_codes, abs=1e-9)


@pytest.mark.parametrize("name", ["hours: atoms and a grid", "gains: zeros, spikes, heavy tail", "few", "tenths"])
def test_draws_have_the_probabilities_of_log_prob(name: str) -> None:
    """Exactly: equally spaced uniforms hit each grid point in proportion, up to one in their number per piece."""
    codec = as_numbers(NUMBERS[name])
    num = 20_000
    for code in range(codec.num_codes):
        drawn = codec.decode(np.full(num, code), (np.arange(num) + 0.5) / num)
        distinct, counts = np.unique(drawn, return_counts=True)
        prob = np.exp(codec.log_prob(distinct, np.full(len(distinct), code)))
        surprise = 1 / (codec.counts[code] + 2)
        scales = (1.0, 1 - surprise)  # surprises are not drawn
        assert min(np.abs(prob - scale * counts / num).max() for scale in scales) < 3 / num


REALS = st.floats(-1e12, 1e12) | st.integers(-50, 50).map(float)
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)


@given(st.lists(REALS, min_size=1, max_size=80) | st.lists(WHOLE, min_size=1, max_size=80))
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
def test_any_numbers_round_trip(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.int64 if isinstance(numbers[0], int) else np.float64)
    codec = as_numbers(values)
    codes = codec.encode(values)
    assert np.isfinite(codec.log_prob(values, codes)).all()
    drawn = codec.decode(codes, np.random.default_rng(0).random(len(codes)))
    if all(abs(number) <= 2**62 for number in numbers):  # grids reach no further
        assert (codec.encode(drawn) == codes).all() and drawn.min() >= values.min() and drawn.max() <= values.max()
    assert NumberCodec.model_validate_json(codec.model_dump_json()) == codec


def test_tails_on_a_grid_agree_with_log_surprise_at_every_point() -> None:
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
    assert len(codec.pieces.ascending.low) > len(codec.low)  # a value within a bin there is
    for code in range(codec.num_codes):
        drawn = codec.decode(np.full(num, code), (np.arange(num) + 0.5) / num)
        for level in np.linspace(0.05, 0.95, 19):
            found = codec.quantile(np.eye(codec.num_codes)[[code]], level)
            assert (drawn < found).sum() <= level * num + 3 and (drawn <= found).sum() >= level * num - 3


@pytest.mark.parametrize("name", NUMBERS)
def test_means_and_densities_of_unseen_values_are_finite(name: str) -> None:
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


STEPS = np.append(RNG.integers(20, 60, 3000) * 5, [280] * 150 + [100] * 90)  # frequent values at both ends
GRIDS = {
    "steps of 5": STEPS,
    "tenths": np.round(RNG.normal(40, 3, 2000), 1),
    "a frequent value in the last cell": np.append(RNG.integers(0, 300_000, 5000), [298_500] * 60),
    "atoms": RNG.integers(0, 6, 600) * 3,
}
ENDS = [
    *(
        (None, 0.4),
        (0.6, None),
        (0.3, 0.7),
        (0.0, 0.0),
        (0.0, 0.02),
        (0.98, 1.0),
        (0.5, None),
        (None, 1.0),
        (0.97, None),
    ),
]


@pytest.mark.parametrize("shift", [-0.013, 0.0, 0.013])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", GRIDS)
def test_an_interval_on_a_grid_is_the_sum_over_its_points(
    name: str, ends: tuple[float | None, float | None], shift: float
) -> None:
    """Both ends included, on the grid (shift 0) or off it; a set of the same points weighs the same."""
    codec = as_numbers(GRIDS[name])
    assert codec.grid is not None
    index = np.arange(min(codec.low), max(codec.high))
    points, codes = codec.grid.value(index), codec.pieces.locate(index)
    on_grid = [None if end is None else points[round(end * (len(points) - 1))] for end in ends]
    low, high = (None if end is None else end.item() + shift if shift else end.item() for end in on_grid)
    is_inside = (points >= (-np.inf if low is None else low)) & (points <= (np.inf if high is None else high))
    mass = np.exp(codec.pieces.log_prob(index, codes)) * (codes >= 0)
    expected = np.bincount(codes[is_inside & (codes >= 0)], mass[is_inside & (codes >= 0)], minlength=codec.num_codes)
    evidence = Interval(low, high)
    assert np.exp(codec.log_weights(evidence)) == pytest.approx(expected, abs=1e-9)
    possible = np.flatnonzero(expected)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        drawn = codec.decode(possible, np.full(len(possible), uniform), evidence=evidence)
        assert np.isin(drawn, points[is_inside]).all()
    seen = is_inside & (codes >= 0)
    if 0 < seen.sum() < 5000:
        assert np.exp(codec.log_weights(Choice(tuple(points[seen].tolist())))) == pytest.approx(expected, abs=1e-9)


def test_an_interval_that_ends_at_a_frequent_real_includes_it() -> None:
    codec = as_numbers(NUMBERS["reals with an atom"])
    (code,) = codec.encode(np.array([0.0]))
    for ends in ((0.0, 0.0), (None, 0.0), (0.0, None)):
        weights = np.exp(codec.log_weights(Interval(*ends)))
        assert weights[code] == 1 and (weights > 0).sum() == (1 if ends[1] == 0 else codec.num_codes)


def test_grids_are_found_and_decimals_are_read_back_exactly() -> None:
    assert find_grid(np.array([0.1, 0.2, 0.3])) == Grid(offset=1, step=1, decimals=1)
    assert find_grid(np.array([0.1 + 0.2, 1.0])) is None
    assert find_grid(np.array([5.0, 10.0])) == Grid(offset=5, step=1, decimals=0)  # two values say nothing about steps
    values = np.round(np.random.default_rng(0).normal(size=1000), 3)
    grid = find_grid(np.unique(values))
    assert grid is not None and np.array_equal(grid.value(grid.index(values)), values)


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


def ends_of(codec: NumberCodec) -> np.ndarray:
    """First position and end of each code, shape (K, 2)."""
    low, high, code = np.array(codec.low), np.array(codec.high), np.array(codec.code)
    return np.array([[low[code == each].min(), high[code == each].max()] for each in range(codec.num_codes)])


@pytest.mark.parametrize("decimals", [1, None])
@pytest.mark.parametrize("num", [600, 4000])
def test_bins_end_at_the_values_beside_a_gap(num: int, decimals: int | None) -> None:
    """Two groups 12 apart: no draw falls between them, and a value there is a surprise."""
    rng = np.random.default_rng(2)
    values = np.where(rng.random(num) < 0.15, 12, 0) + rng.normal(size=num)
    values = values if decimals is None else values.round(decimals)
    codec = fit_numbers(values)
    low, high = values[values < 6].max(), values[values > 6].min()
    codes = np.repeat(np.arange(codec.num_codes), 500)
    drawn = codec.decode(codes, np.tile((np.arange(500) + 0.5) / 500, codec.num_codes))
    assert not ((drawn > low) & (drawn < high)).any()
    surprise = codec.log_surprise(np.array([low, 6.0, high]))
    assert surprise[1] < 0 and (surprise[[0, 2]] == 0).all()
    ends = ends_of(codec)
    lengths = (ends[1:, 0] - ends[:-1, 1]) * (1 if decimals is None else 0.1)
    assert (lengths > 3).sum() == 1 and (lengths > 0).sum() <= 2  # one that chance made


@pytest.mark.parametrize(
    "values", [RNG.uniform(size=3000), RNG.normal(size=3000), RNG.standard_cauchy(3000), RNG.lognormal(0, 2, 3000)]
)
def test_even_and_tailed_numbers_have_hardly_a_gap(values: np.ndarray) -> None:
    """A value that is far from all others lies in a tail. Chance makes a gap in one column of 7, and two in one of 100."""
    ends = ends_of(fit_numbers(values))
    assert (ends[1:, 0] > ends[:-1, 1]).sum() <= 1


def test_a_gap_behind_an_atom_is_not_part_of_a_bin() -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random(3000) < 0.5, 0.0, 100 + rng.random(3000))
    codec = fit_numbers(values)
    assert ends_of(codec)[1, 0] == values[values > 0].min()


@pytest.mark.parametrize("max_codes", [5, 20, 100, 400])
def test_the_number_of_codes_is_what_is_asked_for(max_codes: int) -> None:
    values = RNG.normal(size=20_000)
    codec = fit_numbers(values, max_codes=max_codes)
    assert 0.85 * max_codes <= codec.num_codes <= 1.02 * max_codes
    assert len(set(codec.bins)) <= 48


@pytest.mark.parametrize(("num", "most"), [(20_000, 48), (600, 17), (100, 9)])  # 2 N^(1/3)
def test_by_default_bins_are_those_of_rice_and_hold_up_to_four_codes(num: int, most: int) -> None:
    codec = fit_numbers(RNG.normal(size=20_000)[:num])
    in_bins = np.bincount(codec.bins)
    assert most - 3 <= len(in_bins) <= most and in_bins.max() == min(4, in_bins.max()) and in_bins.mean() > 1
    assert num < 1000 or in_bins.mean() > 3.9
    assert min(codec.counts) >= 3  # in the tails


def test_bins_are_finer_in_a_tail_than_bins_of_equal_counts_and_hold_ten_rows() -> None:
    """Of 20,000 normals, the outer bins have less than .7 of their share among 48; that of the middle is 1 to 1.5."""
    codec = fit_numbers(np.random.default_rng(4).normal(size=20_000))
    rows = np.bincount(codec.bins, codec.counts)
    shares = rows / 20_000 * 48
    assert max(shares[0], shares[-1]) < 0.7 and 1 < shares.max() < 1.5
    of_all = [as_numbers(values) for values in NUMBERS.values() if len(values) > 10]
    counts = np.concatenate([np.bincount(each.bins, each.counts) for each in of_all])
    assert rows.min() >= 10 and np.mean(counts < 10) < 0.2


@pytest.mark.parametrize("bins", [(0, 0), (0, 2, 2), (1, 1, 1), (0, 1, 0)])
def test_forged_bins_are_refused(bins: tuple[int, ...]) -> None:
    fields = {"grid": None, "whole": False, "low": (0.0, 1.0, 2.0), "high": (1.0, 2.0, 3.0), "weight": (1.0, 1.0, 1.0)}
    fields |= {"code": (0, 1, 2), "counts": (5, 5, 5)}
    assert NumberCodec.model_validate(fields | {"bin": (0, 0, 1)}).bins == (0, 0, 1)
    assert NumberCodec.model_validate(fields).bins == (0, 1, 2)
    with pytest.raises(ValueError, match="bin must hold a number for each code"):
        NumberCodec.model_validate(fields | {"bin": bins})


def test_codes_of_a_long_bin_are_short() -> None:
    """Within a code a value is independent of other columns, so codes of long bins are of few rows."""
    values = np.append(np.linspace(0, 1, 480), np.linspace(1.05, 3, 20))
    codec = fit_numbers(values)
    low, high, counts = (np.array(each) for each in (codec.low, codec.high, codec.counts))
    assert len(codec.low) == len(codec.counts)  # one piece each
    in_tail = low >= 1.05
    assert (counts[in_tail] < 8).all() and (counts[in_tail] >= 3).all() and (counts[high <= 1] >= 7).all()
    assert (high - low)[in_tail].max() < 0.6


def test_rows_count_for_codes_near_theirs_but_not_across_points_and_gaps() -> None:
    """By the formula, code by code: a point, three codes that touch, a gap, two codes that touch."""
    ends = [(0.0, 0.0), (0.0, 1.0), (1.0, 2.0), (2.0, 6.0), (9.0, 10.0), (10.0, 12.0)]
    low, high = zip(*ends, strict=True)
    codec = NumberCodec(
        grid=None, whole=False, low=low, high=high, weight=(1.0,) * 6, code=tuple(range(6)), counts=(9,) * 6
    )
    together = [{0}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {4, 5}, {4, 5}]
    expected = np.zeros((6, 6))
    for ours in range(6):
        length = ends[ours][1] - ends[ours][0]
        for other in together[ours]:
            of_other = ends[other][1] - ends[other][0]
            expected[other, ours] = np.exp(-((other - ours) ** 2) / 2) * (min(of_other, 2 * length) if length else 1)
    np.testing.assert_allclose(codec.spread, expected / expected.sum(axis=0))


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_spread_rows_are_nearer_to_a_normal_density_at_any_scale(scale: float) -> None:
    """Kullback-Leibler divergence of 300 rows of N(0, 1), by 4,000 other rows, for six seeds: less than half."""
    found = []
    for seed in range(6):
        rows, others = np.random.default_rng(seed).normal(size=(2, 4000))
        codec = fit_numbers(scale * rows[:300])
        inside = others[(scale * others > codec.low[0]) & (scale * others < codec.high[-1])]
        codes, counts = codec.encode(scale * inside), np.array(codec.counts) / 300
        truth = -0.5 * inside**2 - 0.5 * np.log(2 * np.pi)
        given = codec.log_prob(scale * inside, codes) + np.log(scale)
        found.append([(truth - given - np.log(shares)[codes]).mean() for shares in (counts, codec.spread @ counts)])
    raw, spread = np.mean(found, axis=0)
    assert spread < 0.035 < 2 * spread < raw


def test_atoms_keep_their_rows() -> None:
    for codec in (fit_numbers(np.arange(300) % 7), fit_numbers((np.arange(300) % 7).astype(float) / 8)):
        assert codec.is_discrete and np.array_equal(codec.spread, np.eye(7))


@pytest.mark.parametrize("values", [RNG.normal(size=400), RNG.integers(0, 10**6, 400), 1e300 * RNG.normal(size=400)])
def test_half_of_a_tail_lies_within_the_length_of_the_outermost_code_or_of_the_median_one(values: np.ndarray) -> None:
    codec = fit_numbers(values)
    ends, step = ends_of(codec), 1 if codec.grid else 0
    low, high = ends[0, 0], ends[-1, 1]
    lengths = ends[:, 1] - ends[:, 0] - step
    scales = np.maximum(lengths[[0, -1]], np.median(lengths[lengths > 0]).astype(lengths.dtype))
    near = np.array([low - 1, high]) if codec.grid else np.nextafter([low, high], [-np.inf, np.inf])
    far = near + scales * [-1, 1]
    near, far = (ends if codec.grid is None else codec.grid.value(ends) for ends in (near, far))
    assert codec.log_surprise(far) - codec.log_surprise(near) == pytest.approx(np.log([0.5, 0.5]), rel=1e-3)


def test_beyond_atoms_alone_half_of_a_tail_lies_within_the_range() -> None:
    codec = fit_numbers(np.repeat(np.arange(5.0), 30))
    surprise = codec.log_surprise(np.array([5.0, 9.0]))  # 4 further
    assert surprise[1] - surprise[0] == pytest.approx(np.log(0.5))


@pytest.mark.parametrize("jitter", [0.0, 1e-12, 1e-9])
def test_a_tail_behind_equal_or_nearly_equal_values_is_as_long_as_others(jitter: float) -> None:
    rng = np.random.default_rng(0)
    codec = fit_numbers(np.concatenate([rng.normal(size=400), 50 + jitter * rng.random(60)]))
    near, far = codec.log_surprise(np.array([50.1, 60.0]))
    assert -6.5 < far - near < -3


def test_codes_have_cells_where_rows_ask_for_them_alone() -> None:
    """In even data, chance divides one code of twenty at most; four fifths of the rows in a third of each code divide it."""
    rng = np.random.default_rng(0)
    even = fit_numbers(rng.random(8000))
    part = np.where(rng.random(8000) < 0.8, rng.random(8000) / 3, (1 + 2 * rng.random(8000)) / 3)
    uneven = fit_numbers(part + np.arange(8000) % 40, max_codes=40)
    assert len(even.low) < 1.05 * even.num_codes
    assert len(uneven.low) > 1.5 * uneven.num_codes


def test_values_on_a_grid_do_not_lend_rows_to_neighbours_without_any() -> None:
    """Tens among hours that hardly anybody works, alone in codes of two values or three; and three rows far from others."""
    rare = {65: 240, 66: 20, 68: 10, 70: 280, 72: 60, 75: 60, 78: 10, 80: 120, 84: 40, 99: 80, 300: 3, 997: 1, 998: 2}
    rows = np.append(np.arange(30_000) % 60, np.repeat(list(rare), list(rare.values())))
    codec = fit_numbers(rows)
    num = 10_000
    for value in (70, 80, 300):
        code = codec.encode(np.array([value]))
        drawn = codec.decode(np.repeat(code, num), (np.arange(num) + 0.5) / num)
        of_code = rows[codec.encode(rows) == code]
        assert (drawn == value).mean() == pytest.approx((of_code == value).sum() / (len(of_code) + 1), abs=0.01)
        assert (
            len(of_code) < 300 and codec.log_prob(np.array([value - 1]), code) > -np.inf
        )  # unseen, but not impossible


def test_points_are_not_found_in_even_numbers() -> None:
    """Chance finds one in a column of twenty at most, exp(-3); of 200 columns, more than 20 in one of 1,000 runs."""
    rng = np.random.default_rng(1)
    columns = [rng.integers(0, 10_000, 3000) for _ in range(100)] + [rng.integers(0, 1000, 300) for _ in range(100)]
    with_points = 0
    for column in columns:
        codec = fit_numbers(column)
        ends = ends_of(codec)
        is_short = np.array(codec.high) - np.array(codec.low) == 1
        with_points += (is_short & (ends[list(codec.code), 1] - ends[list(codec.code), 0] > 1)).any()
    assert with_points <= 20
