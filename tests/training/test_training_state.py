"""Specification of `TrainingState`: one update at a time, and back to an earlier one, bit for bit."""

import math

import pytest
import torch

from jointebm.training.training_state import cosine_decay, no_decay, prefixed, require_shapes, without_prefix
from support.training_states import make, same_bits, update


def test_a_restored_state_continues_bit_for_bit_and_can_be_restored_again() -> None:
    chains, state = make()
    for gradient in (1.0, -2.0, 0.3):
        update(chains, state, gradient)
    kept, same = state.snapshot(), state.snapshot()
    ends = []
    for _ in range(2):
        for gradient in (5.0, 0.1):
            update(chains, state, gradient)
        assert not same_bits(state.state(), kept) and kept.iteration == 3
        ends.append(state.snapshot())
        state.restore(kept)
        assert same_bits(state.state(), same)
    assert same_bits(*ends) and same_bits(kept, same)


def test_a_snapshot_is_a_copy_and_the_state_is_live() -> None:
    chains, state = make()
    now, kept = state.state(), state.snapshot()
    update(chains, state, 1.0)
    assert now.tensors["parameters.theta"].item() != kept.tensors["parameters.theta"].item() == 0.5


def test_the_learning_rate_is_that_of_the_schedule_times_the_factor() -> None:
    chains, state = make()
    for iteration in range(20):
        expected = 0.1 * (1 + math.cos(math.pi * iteration / 20)) / 2
        before, factor = chains.module.theta.item(), 0.5 ** (iteration % 3)
        assert update(chains, state, 1.0, factor) == pytest.approx(factor * expected, rel=1e-12)
        # With a constant gradient a step of Adam is as long as the learning rate.
        assert before - chains.module.theta.item() == pytest.approx(factor * expected, abs=2e-7)
    assert state.iteration == 20


def test_decays_start_at_one_and_the_cosine_ends_at_zero() -> None:
    assert [cosine_decay(i, 4) for i in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert [no_decay(i, 4) for i in (0, 2, 4)] == [1, 1, 1]


def test_a_prefix_comes_off_as_it_was_put_on() -> None:
    tensors = {"a": torch.zeros(1), "b.c": torch.ones(2)}
    joined = prefixed("one", tensors) | prefixed("oneself", {"d": torch.ones(1)})
    assert joined.keys() == {"one.a", "one.b.c", "oneself.d"} and without_prefix("one", joined) == tensors


def test_only_tensors_that_vary_in_a_run_may_differ_in_shape() -> None:
    ours = {"buffer.x": torch.zeros(3), "adam.0.step": torch.zeros(1)}
    require_shapes(ours, {"buffer.x": torch.ones(3)})
    for other in ({"buffer.x": torch.ones(4)}, {}, {"buffer.x": torch.ones(3), "noise.x": torch.ones(1)}):
        with pytest.raises(ValueError, match="does not fit this run"):
            require_shapes(ours, other)
