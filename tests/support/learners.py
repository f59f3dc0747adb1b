"""A small learner."""

import torch
from torch import Tensor, nn

from jointebm import Continuous, Noise, ReplayBuffer, Space, TrainConfig
from jointebm.kernels import MALA
from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Watch
from jointebm.training.learner import Learner

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
