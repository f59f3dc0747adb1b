"""The replay buffer of persistent contrastive divergence (App. B).

Legend: S slots, N chains of a batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, uniform
from jointebm.references.reference import Reference
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position
from jointebm.training.chain_weights import ChainWeights

__all__ = ["Drawn", "ReplayBuffer"]


class Drawn(NamedTuple):
    """Chains taken from the buffer: their slots (N,), their positions, and their weights if they have any."""

    slots: Tensor
    position: dict[str, Tensor]
    weights: ChainWeights | None = None


class ReplayBuffer:
    """Stored chains, x and y together, from which negative phases resume.

    Both halves of a chain are written back: the x and the y that belong together stay together. With a reference, fresh
    chains are draws of it, and every slot has a log-weight, and F at its last visit (see `chain_weights`), unless `weighted`
    is False.

    Args:
        noise: start of fresh chains; the buffer is filled with it.
        size: number of slots S >= 1 (the paper: 10,000).
        replacement_rate: probability in [0, 1] that a drawn chain restarts from noise (the paper: 0.05).
        generator: source of the draws that fill the buffer.
        reference: q, from which fresh chains are drawn instead; None is no weights.
        weighted: whether chains of a reference carry weights.

    References:
        Kelly & Grathwohl 2021, App. B. Du & Mordatch 2019.

    Example:
        >>> from jointebm import Binary, Space
        >>> buffer = ReplayBuffer(Noise.uniform(Space(y=Binary())), size=10, replacement_rate=0.0,
        ...                       generator=torch.Generator())
        >>> drawn = buffer.draw(4, generator=torch.Generator())
        >>> buffer.write(drawn.slots, {"y": torch.ones(4)})
        >>> bool((buffer.position["y"][drawn.slots] == 1).all())
        True
    """

    def __init__(
        self,
        noise: Noise,
        *,
        size: int,
        replacement_rate: float,
        generator: Generator,
        reference: Reference | None = None,
        weighted: bool = True,
    ) -> None:
        if size < 1:
            raise ValueError(f"ReplayBuffer: size must be >= 1, got {size}")
        if not 0 <= replacement_rate <= 1:
            raise ValueError(f"ReplayBuffer: replacement_rate must lie in [0, 1], got {replacement_rate}")
        self.noise, self.size, self.replacement_rate = noise, size, replacement_rate
        self.reference, self.weighted = reference, weighted
        self.position, self.weights = self.fresh(size, generator)

    def fresh(self, num: int, generator: Generator) -> tuple[dict[str, Tensor], ChainWeights | None]:
        """Draws `num` fresh chains, with their weights if chains carry any."""
        if self.reference is None:
            return self.noise.draw(num, generator=generator), None
        with torch.no_grad():
            position = self.reference.draw(num, generator)
            if not self.weighted:
                return position, None
            log_q = self.reference.log_prob(position).double()
        return position, ChainWeights(torch.zeros_like(log_q), log_q)

    def draw(self, num: int, *, generator: Generator) -> Drawn:
        """Takes `num` different slots at random; each chain restarts afresh with probability `replacement_rate`."""
        if num > self.size:
            raise ValueError(f"ReplayBuffer: {num} chains asked of {self.size} slots; use a larger buffer")
        like = next(iter(self.position.values())).new_empty(self.size, dtype=torch.float32)
        return self.at(uniform(like, generator).topk(num).indices, generator=generator)

    def at(self, slots: Tensor, *, generator: Generator) -> Drawn:
        """Takes the chains of these slots (N,), int64, which may repeat; each restarts at the same rate."""
        fresh, fresh_weights = self.fresh(len(slots), generator)
        like = next(iter(self.position.values())).new_empty(len(slots), dtype=torch.float32)
        replaced = uniform(like, generator) < self.replacement_rate
        position = {
            name: torch.where(replaced.reshape(-1, *[1] * (stored.ndim - 1)), fresh[name], stored[slots])
            for name, stored in self.position.items()
        }
        if self.weights is None or fresh_weights is None:
            return Drawn(slots, position)
        pairs = zip(fresh_weights, self.weights, strict=True)
        return Drawn(slots, position, ChainWeights(*(torch.where(replaced, new, old[slots]) for new, old in pairs)))

    def write(self, slots: Tensor, position: Position, weights: ChainWeights | None = None) -> None:
        """Writes chains back to their slots, every block of them with their weights; of a repeated slot, the last."""
        chains = torch.arange(len(slots), device=slots.device)
        last = chains.new_zeros(self.size).scatter_reduce(0, slots, chains, "amax")[slots]  # of each chain's slot
        for name, stored in self.position.items():
            stored[slots] = position[name][last]
        if self.weights is not None:
            assert weights is not None
            for kept, new in zip(self.weights, weights, strict=True):
                kept[slots] = new[last]
