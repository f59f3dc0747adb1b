"""Specification of `RowStream`: the draws of a row are its own, and random to the bit."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.row_streams import RowStream, row_keys, splitmix64
from support.oracles import chi_square_p_value

GOLDEN = 0x9E3779B97F4A7C15


def as_int64(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def reference(state: int) -> int:
    """The output function of splitmix64 in Python's unbounded integers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_splitmix64_has_its_published_known_answers() -> None:
    """The first outputs for seed 1234567, as in the test vectors of other implementations."""
    states = torch.tensor([as_int64(1234567 + number * GOLDEN) for number in range(1, 6)])
    published = (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    )
    assert splitmix64(states).tolist() == [as_int64(number) for number in published]
    assert [reference((1234567 + number * GOLDEN) % 2**64) for number in range(1, 6)] == list(published)


def test_a_uniform_is_the_hash_of_seed_key_draw_and_counter() -> None:
    for seed, key, draw, counter in ((0, 0, 0, 0), (5, -3, 2, 7), (2**63 + 11, 2**62, 0, 10**6)):
        state = reference((reference((reference(seed % 2**64) + key) % 2**64) + GOLDEN * (draw + 1)) % 2**64)
        at_counter = reference((state + GOLDEN * (counter + 1)) % 2**64)
        stream = RowStream(torch.tensor([key]), seed, draw=draw, counter=counter)
        assert stream.uniform(torch.empty(1, dtype=torch.float64)).item() == (reference(at_counter) >> 11) * 2.0**-53


@pytest.mark.parametrize("method", ["uniform", "normal", "choose", "choose several", "accept"])
def test_a_row_draws_the_same_alone_in_any_order_and_at_any_counter(method: str) -> None:
    keys = torch.arange(100) * 17 - 500
    inputs = torch.linspace(-2, 0, 300, dtype=torch.float64).reshape(100, 3)

    def draw(rows: Tensor, stream: RowStream) -> Tensor:
        argument = inputs[rows, 0] if method == "accept" else inputs[rows]
        if method == "choose several":
            return draws.choose(torch.stack([argument, argument.flip(1)], dim=2), stream)
        return getattr(draws, method)(argument, stream)

    everyone, stream = torch.arange(100), RowStream(keys, seed=3)
    first, second = draw(everyone, stream), draw(everyone, stream)
    assert not torch.equal(first, second)
    backwards = everyone.flip(0)
    assert torch.equal(draw(backwards, RowStream(keys[backwards], seed=3)), first[backwards])
    used = stream.counter // 2
    for row in (0, 57, 99):
        one = torch.tensor([row])
        assert torch.equal(draw(one, RowStream(keys[one], seed=3).at(used)), second[one])
        assert torch.equal(draw(one, RowStream(keys, seed=3).select(one)), first[one])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_and_normals_have_their_distributions(dtype: torch.dtype) -> None:
    """Kolmogorov-Smirnov over keys, counters and entries; false alarm 1e-6 for each of the six (fixed seed)."""
    size = 40_000
    limit = math.sqrt(math.log(2 / 1e-6) / 2 / size)
    for transform, method in ((lambda u: u, "uniform"), (torch.special.ndtr, "normal")):
        by_key = getattr(RowStream(torch.arange(size), seed=1), method)(torch.empty(size, dtype=dtype))
        by_entry = getattr(RowStream(torch.zeros(1, dtype=torch.int64), 1), method)(torch.empty(1, size, dtype=dtype))
        stream = RowStream(torch.arange(100), seed=2)
        by_counter = torch.cat([getattr(stream, method)(torch.empty(100, dtype=dtype)) for _ in range(size // 100)])
        for drawn in (by_key, by_entry.flatten(), by_counter):
            assert drawn.dtype == dtype
            ranks = torch.arange(size, dtype=torch.float64) / size
            distance = (transform(drawn.double()).sort().values - ranks).abs().max()
            assert distance < limit + 1 / size


# A battery of tests of bits, in the manner of PractRand, over streams with neighbouring keys.

NUM_WORDS = 2**18


def as_words(uniforms: Tensor) -> Tensor:
    """The 53 random bits of each uniform, int64."""
    return (uniforms * 2.0**53).to(torch.int64).flatten()


def by_key() -> Tensor:
    return as_words(RowStream(torch.arange(NUM_WORDS), seed=0).uniform(torch.empty(NUM_WORDS).double()))


def by_draw() -> Tensor:
    keys, numbers = torch.zeros(NUM_WORDS, dtype=torch.int64), torch.arange(NUM_WORDS)
    return as_words(RowStream(keys, seed=0, draw=numbers).uniform(torch.empty(NUM_WORDS).double()))


def by_column() -> Tensor:
    return as_words(RowStream(torch.tensor([7]), seed=0).uniform(torch.empty(1, NUM_WORDS).double()))


def by_seed() -> Tensor:
    keys, like = torch.arange(64), torch.empty(64).double()
    return as_words(torch.stack([RowStream(keys, seed).uniform(like) for seed in range(NUM_WORDS // 64)], dim=1))


def by_counter() -> Tensor:
    stream, like = RowStream(torch.arange(64), seed=0), torch.empty(64).double()
    return as_words(torch.stack([stream.uniform(like) for _ in range(NUM_WORDS // 64)], dim=1))


def by_content() -> Tensor:
    """Rows of three columns whose codes differ in one place from that of their neighbours."""
    codes = torch.cartesian_prod(*[torch.arange(64)] * 3)
    return as_words(RowStream(row_keys(codes), seed=0).uniform(torch.empty(len(codes)).double()))


def bit_p_value(words: Tensor) -> float:
    """Every bit is 1 in half of the words."""
    ones = torch.stack([(words >> place & 1).sum() for place in range(53)]).double()
    z = (ones - len(words) / 2).abs().max() / math.sqrt(len(words) / 4)
    return min(1.0, 53 * math.erfc(float(z) / math.sqrt(2)))


def counts_p_value(cells: Tensor, num_cells: int) -> float:
    """Every cell is hit equally often, and not too equally: a two-sided chi-square test."""
    expected = len(cells) / num_cells
    counts = cells.bincount(minlength=num_cells).double()
    p_value = chi_square_p_value(float((counts - expected).square().sum() / expected), num_cells - 1)
    return 2 * min(p_value, 1 - p_value)


def birthday_p_value(words: Tensor) -> float:
    """Marsaglia's birthday spacings: 512 birthdays in a year of 2^24 days have Poisson(2) repeated spacings."""
    days = (words >> 29).reshape(-1, 512).sort(dim=1).values
    spacings = days.diff(dim=1).sort(dim=1).values
    repeated = float((spacings.diff(dim=1) == 0).sum())
    mean = torch.tensor(len(days) * 512**3 / 2**26, dtype=torch.float64)
    at_most = float(torch.special.gammaincc(torch.tensor(repeated + 1).double(), mean))
    at_least = float(torch.special.gammainc(torch.tensor(max(repeated, 1.0)).double(), mean))
    return min(1.0, 2 * min(at_most, at_least))


def battery_p_value(words: Tensor) -> float:
    """The smallest p-value of all tests, times their number."""
    bytes_of = [words >> 8 * place & 255 for place in range(6)]
    p_values = [
        bit_p_value(words),
        *(bit_p_value(words[lag:] ^ words[:-lag]) for lag in (1, 2, 64)),  # neighbours differ in half of their bits
        *(counts_p_value(each, 256) for each in bytes_of),
        *(counts_p_value((words[::2] >> place & 63) * 64 + (words[1::2] >> place & 63), 4096) for place in (0, 47)),
        birthday_p_value(words),
    ]
    return min(1.0, len(p_values) * min(p_values))


@pytest.mark.parametrize("words_of", [by_key, by_draw, by_column, by_seed, by_counter, by_content])
def test_neighbouring_streams_pass_a_battery_of_tests_of_bits(words_of: Callable[[], Tensor]) -> None:
    """13 tests on 262,144 words of each kind at fixed keys; false-alarm rate 1e-6 for each kind (Bonferroni)."""
    words = words_of()
    assert len(words) == NUM_WORDS
    assert battery_p_value(words) > 1e-6


@pytest.mark.parametrize(
    "weak",
    [
        lambda state: state * as_int64(GOLDEN),  # no mixing at all
        lambda state: (state ^ (state >> 30)) * as_int64(0xBF58476D1CE4E5B9),  # one round of three
        lambda state: splitmix64(state // 2),  # every word twice
        lambda state: splitmix64(state) & ~(1 << 40),  # one bit stuck
    ],
)
def test_the_battery_rejects_weak_streams(weak: Callable[[Tensor], Tensor]) -> None:
    assert battery_p_value(weak(torch.arange(NUM_WORDS)) >> 11 & (2**53 - 1)) < 1e-6


@pytest.mark.parametrize(
    "generator",
    [torch.Generator().manual_seed(0), RowStream(torch.arange(20_000), seed=0)],
    ids=["generator", "row stream"],
)
def test_columns_of_a_row_do_not_share_a_uniform(generator: draws.Generator) -> None:
    """Correlations of the columns of 20,000 rows, 5.5 standard errors: false alarm 1e-6 for all 18 (fixed seed)."""
    like = torch.empty(20_000, 4, dtype=torch.float64)
    choices = draws.choose(torch.zeros(20_000, 3, 4), generator).double()
    for drawn in (draws.uniform(like, generator), draws.normal(like, generator), choices):
        correlations = torch.corrcoef(drawn.T) - torch.eye(4)
        assert float(correlations.abs().max()) < 5.5 / math.sqrt(20_000)


def test_accept_has_its_probability() -> None:
    """200,000 draws within 5 standard errors: false alarm 6e-7 (fixed seed); certain and impossible ones always."""
    log_ratio = torch.tensor([math.log(0.3), 0.0, -torch.inf, torch.nan]).repeat(200_000)
    accepted = RowStream(torch.arange(800_000), seed=0).accept(log_ratio).reshape(-1, 4).double().mean(dim=0)
    assert abs(accepted[0] - 0.3) < 5 * math.sqrt(0.21 / 200_000)
    assert accepted[1:].tolist() == [1, 0, 0]


def test_keys_tell_contents_and_orders_apart() -> None:
    codes = torch.cartesian_prod(*[torch.arange(-1, 9)] * 4)  # 10,000 different rows
    keys = row_keys(codes)
    assert len(keys.unique()) == len(codes)
    assert torch.equal(row_keys(codes.to(torch.int16)), keys)
    assert len(set(row_keys(torch.zeros(1, 3)).tolist()) | set(row_keys(torch.zeros(1, 4)).tolist())) == 2


def test_a_draw_for_another_number_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stream of 3 rows: asked for a draw of shape \(4, 2\)"):
        RowStream(torch.arange(3), seed=0).uniform(torch.empty(4, 2))
