"""Generators of random numbers: with a seed, and one whose uniforms are known."""

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed:
    """A stream whose uniforms are one number, and which notes the weights that it is asked to choose by."""

    def __init__(self, number: float) -> None:
        self.number, self.log_weights = number, list[Tensor]()

    def uniform(self, like: Tensor) -> Tensor:
        return torch.full_like(like, self.number)

    def choose(self, log_weights: Tensor) -> Tensor:
        self.log_weights.append(log_weights)
        return torch.zeros(len(log_weights), dtype=torch.int64)
