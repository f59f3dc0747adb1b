"""Specification of `Learner`: one update at a time, and back to where it was, bit for bit."""

import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Continuous, Noise, ReplayBuffer, Space, TrainConfig
from jointebm.checkpoint import Checkpoint
from jointebm.divergence import Watch
from jointebm.kernels import MALA
from jointebm.learner import Learner, prefixed, without_prefix

SPACE = Space(x=Continuous())
CONFIG = TrainConfig(
    num_iterations=20, batch_size=2, num_steps=1, learning_rate=0.1, warmup=4, decay="cosine", buffer_size=4
)


class Slope(nn.Module):
    """f = theta x."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.5]))

    def forward(self, position: dict[str, Tensor]) -> Tensor:
        return self.theta * position["x"]


def make(config: TrainConfig = CONFIG) -> Learner:
    buffer = ReplayBuffer(Noise.uniform(SPACE), size=4, replacement_rate=0.0, generator=torch.Generator())
    return Learner(Slope(), buffer, Watch(SPACE, MALA(block="x", step_size=0.1)), config)


def update(learner: Learner, gradient: float, factor: float = 1.0) -> float:
    """An iteration in which everything changes that may."""
    for parameter in learner.log_density.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    learner.buffer.position["x"] += gradient
    learner.watch.num_healthy += 1
    return learner.update(factor)


def same_bits(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        (one.iteration, one.plain) == (other.iteration, other.plain)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    )


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
