"""A small problem with its training state."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Scales
from jointebm.training.training_state import Descent, TrainingState, cosine_decay


class Slope(nn.Module):
    """f = theta x."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.5]))


class Chains:
    """Four chains, and a slope to train."""

    def __init__(self) -> None:
        self.module, self.scales, self.x = Slope(), Scales(), torch.zeros(4)

    def state(self) -> dict[str, Tensor]:
        return {"x": self.x}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.x = tensors["x"]


def make() -> tuple[Chains, TrainingState]:
    chains = Chains()
    adam = torch.optim.Adam(chains.module.parameters(), lr=0.1)
    descent = Descent(adam, lambda iteration: cosine_decay(iteration, 20), get_ema_multi_avg_fn(0.99))
    return chains, TrainingState(chains, descent)


def update(chains: Chains, state: TrainingState, gradient: float, factor: float = 1.0) -> float:
    """An iteration in which everything changes that may."""
    chains.module.theta.grad = torch.full_like(chains.module.theta, gradient)
    chains.x += gradient
    chains.scales.num_healthy += 1
    return state.update(factor)


def same_bits(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        (one.iteration, one.plain) == (other.iteration, other.plain)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    )
