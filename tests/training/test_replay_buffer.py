"""Specification of `ReplayBuffer`: persistent chains, x and y together (App. B)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Noise, ReplayBuffer, Space
from jointebm.spaces.space import Position

SPACE = Space(x=Continuous(2), bit=Binary(), y=Categorical(3))
NOISE = Noise.from_batch(  # x in [0, 1], y never of class 2
    SPACE, SPACE.encode({"x": [[0.0, 0.0], [1.0, 1.0]], "bit": [0, 0], "y": [0, 1]})[0], labels="frequency"
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(
    kind: Callable[..., ReplayBuffer] = ReplayBuffer, *, size: int = 20, replacement_rate: float = 0.0
) -> ReplayBuffer:
    return kind(NOISE, size=size, replacement_rate=replacement_rate, generator=seeded())


def marked(num: int) -> dict[str, Tensor]:
    """Chains that noise never gives, each with its own number in every block: x = 10 + i, bit = 1, y = class 2."""
    x = 10 + torch.arange(num)[:, None].expand(num, 2).float()
    return {"x": x, "bit": torch.ones(num), "y": torch.eye(3)[torch.full((num,), 2)]}


def test_a_new_buffer_is_filled_with_noise() -> None:
    buffer = make()
    expected = NOISE.draw(20, generator=seeded())
    assert all(torch.equal(buffer.position[name], expected[name]) for name in SPACE)


def test_slots_are_different_from_one_another() -> None:
    buffer, generator = make(), seeded(1)
    for num in (1, 7, 19, 20):
        for _ in range(20):
            slots = buffer.draw(num, generator=generator).slots
            assert slots.unique().numel() == num and int(slots.min()) >= 0 and int(slots.max()) < 20


def test_every_slot_is_drawn_equally_often() -> None:
    """Each slot comes up Binomial(4000, 1/4); 6 standard errors are a false alarm in fewer than 20 * 2e-9 seeds."""
    buffer, generator = make(), seeded(2)
    counts = torch.zeros(20)
    for _ in range(4000):
        counts[buffer.draw(5, generator=generator).slots] += 1
    assert float((counts - 1000).abs().max()) < 6 * math.sqrt(4000 * 0.25 * 0.75)


def test_drawing_returns_what_is_stored_and_changes_nothing() -> None:
    buffer = make()
    before = {name: value.clone() for name, value in buffer.position.items()}
    drawn = buffer.draw(5, generator=seeded(1))
    for name in SPACE:
        assert torch.equal(drawn.position[name], before[name][drawn.slots])
        drawn.position[name].fill_(-1)
        assert torch.equal(buffer.position[name], before[name])


def assert_both_halves_come_back(buffer: ReplayBuffer) -> None:
    before = {name: value.clone() for name, value in buffer.position.items()}
    slots = buffer.draw(5, generator=seeded(1)).slots
    buffer.write(slots, marked(5))
    others = torch.ones(buffer.size, dtype=torch.bool).index_fill(0, slots, False)
    for name in SPACE:
        assert torch.equal(buffer.position[name][slots], marked(5)[name]), f"{name} was not written back"
        assert torch.equal(buffer.position[name][others], before[name][others]), f"{name} was written elsewhere"
    drawn = buffer.draw(buffer.size, generator=seeded(2))  # and a chain's x is still that of its own y
    is_marked = drawn.position["x"][:, 0] >= 10
    assert torch.equal(is_marked, drawn.position["y"][:, 2] == 1) and torch.equal(is_marked, drawn.position["bit"] == 1)
    assert int(is_marked.sum()) == 5


def test_both_halves_are_written_back_to_their_slots_and_nowhere_else() -> None:
    assert_both_halves_come_back(make())


class ForgetsLabels(ReplayBuffer):
    """The bug of the authors' code, planted: the y half is never written back."""

    def write(self, slots: Tensor, position: Position) -> None:
        for name in SPACE.continuous:
            self.position[name][slots] = position[name]


class ShiftsLabels(ReplayBuffer):
    """Planted: labels go to the slots of their neighbours."""

    def write(self, slots: Tensor, position: Position) -> None:
        super().write(slots, position)
        self.position["y"] = self.position["y"].roll(1, dims=0)


@pytest.mark.parametrize("kind", [ForgetsLabels, ShiftsLabels])
def test_the_check_finds_a_buffer_that_loses_labels(kind: type[ReplayBuffer]) -> None:
    with pytest.raises(AssertionError, match=r"was (not written back|written elsewhere)"):
        assert_both_halves_come_back(make(kind))


class Scripted:
    """A stream that serves real draws, but these uniforms wherever one per chain is asked for."""

    def __init__(self, decisions: Tensor) -> None:
        self.decisions, self.generator = decisions, seeded(5)

    def uniform(self, like: Tensor) -> Tensor:
        if like.shape == self.decisions.shape:
            return self.decisions
        return torch.rand(like.shape, generator=self.generator)

    def choose(self, log_weights: Tensor) -> Tensor:
        return torch.multinomial(log_weights.exp(), 1, generator=self.generator).squeeze(1)


def test_chains_whose_uniform_lies_below_the_rate_start_afresh_in_every_block_together() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))  # no binary block, whose uniforms have the shape of the decisions
    noise = Noise.uniform(space)
    buffer = ReplayBuffer(noise, size=6, replacement_rate=0.05, generator=seeded())
    buffer.write(torch.arange(6), {"x": torch.full((6, 2), 10.0), "y": torch.full((6, 3), 10.0)})
    decisions = torch.tensor([0.0, 0.0499, 0.05, 0.051, 0.999, 0.01])
    drawn = buffer.draw(6, generator=Scripted(decisions))
    fresh = torch.tensor([True, True, False, False, False, True])
    for name in space:
        untouched = (drawn.position[name] == 10).all(dim=1)
        changed_throughout = (drawn.position[name] != 10).all(dim=1)
        assert torch.equal(changed_throughout, fresh) and torch.equal(untouched, ~fresh)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0), (1.0, 1)])
def test_a_rate_of_zero_keeps_all_chains_and_a_rate_of_one_none(rate: float, share: int) -> None:
    buffer = make(replacement_rate=rate)
    buffer.write(torch.arange(20), marked(20))
    drawn = buffer.draw(20, generator=seeded(3))
    assert int((drawn.position["x"] < 10).all(dim=1).sum()) == share * 20
    assert int((drawn.position["y"][:, 2] == 0).sum()) == share * 20


def test_the_papers_rate_replaces_one_chain_in_twenty() -> None:
    """Binomial(200 * 500, .05) within 6 standard errors: a false alarm in fewer than 2e-9 of all seeds."""
    buffer, generator = make(size=500, replacement_rate=0.05), seeded(4)
    buffer.write(torch.arange(500), marked(500))
    num, trials = 0, 200 * 500
    for _ in range(200):
        position = buffer.draw(500, generator=generator).position
        fresh = (position["x"] <= 1).all(dim=1)
        assert torch.equal(fresh, position["y"][:, 2] == 0) and torch.equal(fresh, position["bit"] == 0)
        num += int(fresh.sum())
    assert abs(num - 0.05 * trials) < 6 * math.sqrt(0.05 * 0.95 * trials)


def test_draws_follow_the_generator() -> None:
    buffer = make(replacement_rate=0.5)
    one, two, other = (buffer.draw(8, generator=seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(one.slots, two.slots) and not torch.equal(one.slots, other.slots)
    assert all(torch.equal(one.position[name], two.position[name]) for name in SPACE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "ReplayBuffer: size must be >= 1, got 0"),
        ({"replacement_rate": -0.1}, r"ReplayBuffer: replacement_rate must lie in \[0, 1\], got -0.1"),
        ({"replacement_rate": 1.5}, r"ReplayBuffer: replacement_rate must lie in \[0, 1\], got 1.5"),
        ({"replacement_rate": math.nan}, r"ReplayBuffer: replacement_rate must lie in \[0, 1\], got nan"),
    ],
)
def test_sizes_and_rates_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_more_chains_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="21 chains asked of 20 slots; use a larger buffer"):
        make().draw(21, generator=seeded())


def test_slots_that_are_asked_for_come_as_they_are_and_of_one_that_comes_twice_the_last_is_written() -> None:
    buffer, slots = make(), torch.tensor([7, 3, 7])
    drawn = buffer.at(slots, generator=seeded(1))
    assert all(torch.equal(drawn.position[name], buffer.position[name][slots]) for name in SPACE)
    buffer.write(slots, marked(3))
    assert buffer.position["x"][7].tolist() == [12.0, 12.0] and buffer.position["x"][3].tolist() == [11.0, 11.0]
