"""Summaries and samples of tables that are read in chunks: the same for any chunks, order and number of threads."""

import math
import pickle
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from jointebm.tables.codes.chunks import Chunk, Chunks, folded
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.grids import GridTest, find_grid
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.codes.table_summary import TableSummary
from jointebm.tables.codes.value_counts import ValueCounts

N, LIMIT, MAX_ROWS = 6000, 300, 1000
RNG = np.random.default_rng(0)


def column(role: str, values: np.ndarray, missing: float = 0.1) -> Column:
    unit = "D" if role == "time" else None
    return Column(role, values, RNG.random(len(values)) < missing, unit)  # type: ignore[arg-type]


def texts(numbers: np.ndarray) -> np.ndarray:
    values = np.empty(len(numbers), dtype=object)
    values[:] = [f"t{number}" for number in numbers]
    return values


TABLE: dict[Name, Column] = {
    "counted reals": column("real", RNG.integers(0, 250, N) / 8),
    "sketched reals": column("real", np.where(RNG.random(N) < 0.2, 0.0, RNG.normal(size=N))),
    "sketched, on a grid": column("real", 2.5 + 0.5 * RNG.integers(0, 900, N)),
    "counted times": column("time", 7 * RNG.integers(0, 200, N)),
    "sketched whole": column("whole", 3 * RNG.integers(-(10**6), 10**6, N) + 1),
    "boolean": column("boolean", RNG.random(N) < 0.3),
    "label": column("label", texts(RNG.integers(0, 40, N) ** 2)),
    "id": column("label", texts(np.arange(N))),
    "huge": column("whole", RNG.integers(-(2**62), 2**62, N)),
    "empty": column("real", np.zeros(N), missing=1.1),
    "late": column("whole", np.arange(N) % 50)._replace(is_missing=np.arange(N) < 5000),
}


def chunks(sizes: list[int], order: object = None) -> Chunks:
    ends = np.cumsum([0, *sizes])
    assert ends[-1] == N
    parts = [
        Chunk({name: each.take(slice(a, b)) for name, each in TABLE.items()}, a) for a, b in pairwise(ends.tolist())
    ]
    ordered = [parts[place] for place in order] if order is not None else parts  # type: ignore[attr-defined]
    return (partial(lambda part: part, part) for part in ordered)


def summary(parts: Chunks, *, num_threads: int = 1, max_rows: int = MAX_ROWS, limit: int = LIMIT) -> TableSummary:
    new = partial(TableSummary, max_rows=max_rows, seed=3, limit=limit)
    return folded(parts, new, num_threads=num_threads)


def codec_of(found: TableSummary) -> TableCodec:
    return TableCodec.fit({name: found.columns()[name] for name in TABLE})


WHOLE = summary(chunks([N]))


@pytest.mark.parametrize("size", [1, 7, 333, 4096])
def test_codec_and_sample_are_the_same_for_any_chunks_and_any_order(size: int) -> None:
    if size == 1:
        sizes = [1] * 40 + [N - 40]
    else:
        sizes = [min(size, N - first) for first in range(0, N, size)]
    table, numbers = WHOLE.sample()
    for order in (range(len(sizes)), np.random.default_rng(size).permutation(len(sizes))):
        found = summary(chunks(sizes, order))
        assert codec_of(found) == codec_of(WHOLE) and found.num_rows == N
        other, other_numbers = found.sample()
        assert (numbers == other_numbers).all()
        for name in TABLE:
            assert (other[name].is_missing == table[name].is_missing).all()
            seen = ~table[name].is_missing
            assert (other[name].values[seen] == table[name].values[seen]).all()


@pytest.mark.parametrize("num_threads", [2, 5])
def test_codec_and_sample_are_the_same_for_any_number_of_threads(num_threads: int) -> None:
    found = summary(chunks([50] * 120), num_threads=num_threads)
    assert codec_of(found) == codec_of(WHOLE) and (found.sample()[1] == WHOLE.sample()[1]).all()


def test_a_table_that_fits_in_the_sample_has_the_codec_of_the_whole_table() -> None:
    found = summary(chunks([50] * 120), max_rows=N)
    assert codec_of(found) == TableCodec.fit(TABLE)
    assert all(each.is_exact for each in found.columns().values())
    assert (found.sample()[1] == np.arange(N)).all()


def test_counted_columns_have_the_codec_of_the_whole_table_and_sketched_ones_its_grid_and_range() -> None:
    exact, sketched = TableCodec.fit(TABLE), codec_of(WHOLE)
    for mine, other in zip(sketched.columns, exact.columns, strict=True):
        if WHOLE.columns()[mine.name].is_exact:
            assert mine == other
        elif isinstance(mine.codec, NumberCodec):
            assert isinstance(other.codec, NumberCodec)
            assert mine.codec.grid == other.codec.grid
            assert (mine.codec.smallest, mine.codec.largest) == (other.codec.smallest, other.codec.largest)
    sketches = {name for name, each in WHOLE.columns().items() if not each.is_exact}
    assert sketches == {"sketched reals", "sketched, on a grid", "sketched whole", "id", "huge"}
    assert sketched.columns[list(TABLE).index("id")].codec == IgnoredCodec(reason="id")
    for name, each in TABLE.items():
        assert WHOLE.columns()[name].num_missing == each.is_missing.sum()


def test_a_sketch_keeps_the_share_below_every_number_within_its_bound() -> None:
    """False-alarm rate 1e-6 for each of 20 seeds: eps^2 = log(2e6) / 2n, plus the two extreme values."""
    values = TABLE["sketched reals"]
    present = np.sort(values.values[~values.is_missing])
    for seed in range(20):
        found = TableSummary(max_rows=MAX_ROWS, seed=seed, limit=LIMIT)
        found.add(Chunk({"x": values}, 0))
        numbers = found.columns()["x"].numbers
        assert numbers is not None
        sketch = np.repeat(*numbers)
        eps = math.sqrt(math.log(2e6) / (2 * (len(sketch) - 2))) + 2 / len(sketch)
        below = np.searchsorted(sketch, present, "right") / len(sketch)
        exact = np.searchsorted(present, present, "right") / len(present)
        assert np.abs(below - exact).max() <= eps
        assert sketch[0] == present[0] and sketch[-1] == present[-1]


def test_every_row_is_as_likely_to_be_sampled() -> None:
    """Counts of 400 samples of 50 of 500 rows: chi squared with a false-alarm rate of 1e-6, and no pair too often."""
    counts = np.zeros(500)
    rows = Chunk({"a": Column("whole", np.arange(500), np.zeros(500, dtype=bool))}, 0)
    for seed in range(400):
        found = TableSummary(max_rows=50, seed=seed)
        found.add(rows)
        counts[found.sample()[1]] += 1
    expected = 400 * 50 / 500
    chi = float(((counts - expected) ** 2 / (expected * (1 - 50 / 500))).sum())
    assert abs(chi - 500) < 4.9 * math.sqrt(2 * 500)


def test_too_many_levels_are_refused_unless_they_are_ids() -> None:
    levels = column("label", texts(RNG.integers(0, 2000, N)), missing=0)
    found = TableSummary(max_rows=N // 2, seed=0, limit=LIMIT)
    found.add(Chunk({"x": levels}, 0))
    with pytest.raises(ValueError, match=r"column 'x': has too many levels to count in 6000 rows; call it an id"):
        TableCodec.fit(found.columns())
    assert TableCodec.fit(found.columns(), kinds={"x": "id"}).columns[0].codec == IgnoredCodec(reason="id")


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.1, 0.25, 3.0, 7.5]),
        np.arange(40) * 25.0 + 3,
        np.array([1e15, 1.5]),
        np.array([1e16, 1.0]),
        RNG.normal(size=40),
        RNG.integers(0, 100, 60) * 12,
        np.array([2**62, -(2**62)]),
        np.array([-(2**62) + 1, 7]),
        np.array([1e300, 5e-310]),
        RNG.integers(0, 10**6, 50) / 64,
    ],
)
def test_the_grid_of_parts_is_that_of_the_whole(values: np.ndarray) -> None:
    whole = np.unique(values)
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(values))
        tests = [GridTest(), GridTest()]
        for number, part in enumerate(np.array_split(values[order], 3)):
            tests[number % 2].add(np.unique(part))
        tests[0].merge(tests[1])
        found = tests[0].grid(whole[0].item(), whole[-1].item(), num_distinct=len(whole))
        assert found == find_grid(whole)


def test_parts_on_coarser_grids_than_the_whole_are_told_apart() -> None:
    one, two = GridTest(), GridTest()
    one.add(np.arange(0, 1000, 50))
    two.add(np.arange(25, 1000, 50))
    one.merge(two)
    assert one.grid(0, 975, num_distinct=40) == find_grid(np.arange(0, 1000, 25))


@pytest.mark.parametrize("values", [np.arange(11), texts(np.arange(11))])
def test_counts_that_gave_up_stay_given_up_in_a_merge(values: np.ndarray) -> None:
    for first, second in ((values, values[:2]), (values[:2], values)):
        one, two = ValueCounts(10), ValueCounts(10)
        one.add(first)
        two.add(second)
        one.finish()
        two.finish()
        one.merge(two)
        one.finish()
        assert not one.is_exact


def test_an_error_in_a_thread_ends_the_others_and_is_raised() -> None:
    read = 0

    def parts() -> Iterator[object]:
        for number in range(10_000):

            def chunk(number: int = number) -> Chunk:
                nonlocal read
                read += 1
                if number == 3:
                    raise ValueError("broken chunk")
                return Chunk({"x": TABLE["boolean"].take(slice(0, 50))}, 50 * number)

            yield chunk

    with pytest.raises(ValueError, match="broken chunk"):
        summary(parts(), num_threads=3)  # type: ignore[arg-type]
    assert read < 10_000


def test_memory_of_a_summary_does_not_grow_with_the_rows() -> None:
    def kept(num: int) -> int:
        found = TableSummary(max_rows=200, seed=0, limit=100)
        for first in range(0, num, 500):
            values = np.random.default_rng(first).normal(size=500)
            found.add(Chunk({"x": Column("real", values, np.zeros(500, dtype=bool))}, first))
        return len(pickle.dumps(found))

    assert max(kept(20_000), kept(60_000)) <= (2 * 200 + 500) * (8 + 8 + 8 + 1) + 2000  # key, number, value, is missing


def test_parts_of_different_roles_are_refused() -> None:
    found = TableSummary(max_rows=9, seed=0)
    found.add(Chunk({"x": Column("whole", np.arange(3), np.zeros(3, dtype=bool))}, 0))
    with pytest.raises(ValueError, match="column 'x': holds real and whole values in different parts"):
        found.add(Chunk({"x": Column("real", np.ones(3), np.zeros(3, dtype=bool))}, 3))


def test_a_summary_of_a_column_is_what_numpy_counts() -> None:
    found = ColumnSummary.of(TABLE["counted reals"])
    present = TABLE["counted reals"].values[~TABLE["counted reals"].is_missing]
    assert found.numbers is not None
    assert all(
        (mine == other).all() for mine, other in zip(found.numbers, np.unique(present, return_counts=True), strict=True)
    )
