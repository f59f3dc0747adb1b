"""The replay buffer of persistent contrastive divergence (App. B).

Legend: S slots, N chains of a batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, uniform
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position

__all__ = ["Drawn", "ReplayBuffer"]


class Drawn(NamedTuple):
    """Chains taken from the buffer: their slots (N,), and their positions."""

    slots: Tensor
    position: dict[str, Tensor]


class ReplayBuffer:
    """Stored chains, x and y together, from which negative phases resume.

    Both halves of a chain are written back: the x and the y that belong together stay together.

    Args:
        noise: start of fresh chains; the buffer is filled with it.
        size: number of slots S >= 1 (the paper: 10,000).
        replacement_rate: probability in [0, 1] that a drawn chain restarts from noise (the paper: 0.05).
        generator: source of the draws that fill the buffer.

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

    def __init__(self, noise: Noise, *, size: int, replacement_rate: float, generator: Generator) -> None:
        if size < 1:
            raise ValueError(f"ReplayBuffer: size must be >= 1, got {size}")
        if not 0 <= replacement_rate <= 1:
            raise ValueError(f"ReplayBuffer: replacement_rate must lie in [0, 1], got {replacement_rate}")
        self.noise, self.size, self.replacement_rate = noise, size, replacement_rate
        self.position = noise.draw(size, generator=generator)

    def draw(self, num: int, *, generator: Generator) -> Drawn:
        """Takes `num` different slots at random; each chain restarts from noise with probability `replacement_rate`."""
        if num > self.size:
            raise ValueError(f"ReplayBuffer: {num} chains asked of {self.size} slots; use a larger buffer")
        like = next(iter(self.position.values())).new_empty(self.size, dtype=torch.float32)
        return self.at(uniform(like, generator).topk(num).indices, generator=generator)

    def at(self, slots: Tensor, *, generator: Generator) -> Drawn:
        """Takes the chains of these slots (N,), int64, which may repeat; each restarts at the same rate."""
        fresh = self.noise.draw(len(slots), generator=generator)
        like = next(iter(self.position.values())).new_empty(len(slots), dtype=torch.float32)
        replaced = uniform(like, generator) < self.replacement_rate
        position = {
            name: torch.where(replaced.reshape(-1, *[1] * (stored.ndim - 1)), fresh[name], stored[slots])
            for name, stored in self.position.items()
        }
        return Drawn(slots, position)

    def write(self, slots: Tensor, position: Position) -> None:
        """Writes chains back to their slots, every block of them; of a repeated slot, the last."""
        last = {slot: chain for chain, slot in enumerate(slots.tolist())}
        to, of = (torch.tensor(list(each), device=slots.device) for each in (last, last.values()))
        for name, stored in self.position.items():
            stored[to] = position[name][of]
