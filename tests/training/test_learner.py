"""Specification of `Learner`: one update at a time, and back to where it was, bit for bit."""

import math

import pytest
import torch

from jointebm.training.learner import prefixed, without_prefix
from support.learners import CONFIG, make, same_bits, update


def test_what_is_put_back_goes_on_bit_for_bit_and_can_be_put_back_again() -> None:
    learner = make()
    for gradient in (1.0, -2.0, 0.3):
        update(learner, gradient)
    kept, same = learner.snapshot(), learner.snapshot()
    ends = []
    for _ in range(2):
        for gradient in (5.0, 0.1):
            update(learner, gradient)
        assert not same_bits(learner.state(), kept) and kept.iteration == 3
        ends.append(learner.snapshot())
        learner.restore(kept)
        assert same_bits(learner.state(), same)
    assert same_bits(*ends) and same_bits(kept, same)


def test_a_snapshot_stays_as_it_is_and_the_state_is_that_of_now() -> None:
    learner = make()
    now, kept = learner.state(), learner.snapshot()
    update(learner, 1.0)
    assert now.tensors["parameters.theta"].item() != kept.tensors["parameters.theta"].item() == 0.5


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_the_learning_rate_is_that_of_the_schedule_times_the_factor(decay: str) -> None:
    learner = make(CONFIG.model_copy(update={"decay": decay}))
    for iteration in range(CONFIG.num_iterations):
        expected = CONFIG.learning_rate * min(1, (iteration + 1) / CONFIG.warmup)
        if decay == "cosine":
            expected *= (1 + math.cos(math.pi * iteration / CONFIG.num_iterations)) / 2
        before = learner.log_density.theta.item()
        factor = 0.5 ** (iteration % 3)
        assert update(learner, 1.0, factor) == pytest.approx(factor * expected, rel=1e-12)
        # With a constant gradient a step of Adam is as long as the learning rate.
        assert before - learner.log_density.theta.item() == pytest.approx(factor * expected, abs=2e-7)
    assert learner.iteration == CONFIG.num_iterations


def test_a_prefix_comes_off_as_it_was_put_on() -> None:
    tensors = {"a": torch.zeros(1), "b.c": torch.ones(2)}
    joined = prefixed("one", tensors) | prefixed("oneself", {"d": torch.ones(1)})
    assert joined.keys() == {"one.a", "one.b.c", "oneself.d"} and without_prefix("one", joined) == tensors
