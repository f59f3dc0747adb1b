"""Streams keyed by row: what a row draws is its own, and it is uniform."""

import math

import pytest
import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.row_streams import RowStream, row_keys


def splitmix64(state: int) -> int:
    """The reference finaliser, in Python's unbounded integers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_the_hash_is_splitmix64_in_unbounded_integers() -> None:
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15
    for seed, key, draw, counter in ((0, 0, 0, 0), (5, -3, 2, 7), (2**63 + 11, 2**62, 0, 10**6)):
        state = splitmix64((splitmix64((splitmix64(seed & mask) + key) & mask) + golden * (draw + 1)) & mask)
        at_counter = splitmix64((state + golden * (counter + 1)) & mask)
        expected = (splitmix64(at_counter) >> 11) * 2.0**-53
        stream = RowStream(torch.tensor([key]), seed, draw=draw, counter=counter)
        assert stream.uniform(torch.empty(1, dtype=torch.float64)).item() == expected


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


def test_neighbouring_keys_seeds_draws_and_counters_are_uncorrelated() -> None:
    """Correlation of 40,000 pairs, false alarm 1e-6 each: 4.9 standard errors."""
    like, keys = torch.empty(40_000, dtype=torch.float64), torch.arange(40_000)
    reference = RowStream(keys, seed=0).uniform(like)
    others = [
        RowStream(keys + 1, seed=0),
        RowStream(keys, seed=1),
        RowStream(keys, seed=0, draw=1),
        RowStream(keys, seed=0, counter=1),
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([reference, other.uniform(like)]))[0, 1]
        assert abs(correlation) < 4.9 / math.sqrt(40_000)


def test_choose_has_its_probabilities_and_never_takes_a_candidate_of_weight_zero() -> None:
    """Counts of 100,000 draws within 5 standard errors: false alarm below 2e-6 for all (fixed seed)."""
    log_weights = torch.tensor([-torch.inf, 0.0, 1.0, -torch.inf, -1.0, -torch.inf]).expand(100_000, -1)
    counts = torch.bincount(RowStream(torch.arange(100_000), seed=0).choose(log_weights), minlength=6)
    probs = log_weights[0].softmax(dim=0)
    assert (counts[probs == 0] == 0).all()
    assert ((counts / 100_000 - probs).abs() <= 5 * (probs * (1 - probs) / 100_000).sqrt()).all()


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
