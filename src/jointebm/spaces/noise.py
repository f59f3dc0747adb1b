"""Noise for chains to start from (App. B, "Sampling Noise")."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, require_generator
from jointebm.spaces.space import Position, Space

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """Independent noise over a space: reals uniform between bounds, labels by class probabilities.

    Args:
        space: the blocks.
        parameters: per block, as its `draw` takes them: bounds (2, *shape) of a continuous block in position units, the
            probability of the value 1 of each binary variable, the probabilities of each class of a categorical one.

    References:
        Kelly & Grathwohl 2021, App. B: "uniform with bounds equal to the per-dimension minimum and maximum values of one
        batch of data"; labels "uniform over all possible configurations" or "proportional to the number of
        occurrences in one batch of data".

    Example:
        >>> import torch
        >>> from jointebm import Binary, Space
        >>> space = Space(bit=Binary())
        >>> batch, _ = space.encode({"bit": [1, 1, 1, 1]})
        >>> Noise.from_batch(space, batch, labels="frequency").draw(3, generator=torch.Generator())["bit"]
        tensor([1., 1., 1.])
    """

    space: Space
    parameters: Mapping[str, Tensor]

    @staticmethod
    def uniform(space: Space) -> "Noise":
        """Noise without data: reals uniform on [-1, 1), labels uniform over their classes."""
        return Noise(space, {name: block.uniform_noise() for name, block in space.items()})

    @staticmethod
    def from_batch(space: Space, position: Position, *, labels: str, reals: str = "range") -> "Noise":
        """Noise fitted to one batch of complete rows, as in the paper unless `reals` says otherwise.

        Args:
            space: the blocks.
            position: the batch.
            labels: "frequency" (class frequencies of the batch) or "uniform".
            reals: "range" (uniform between the minimum and maximum of the batch) or "moments" (uniform with its mean and
                variance: much narrower where a variable is rarely far from its mean).

        Raises:
            ValueError: another word for `labels` or `reals`, no rows, or a missing or infinite entry.
        """
        if labels not in ("frequency", "uniform"):
            raise ValueError(f"Noise: labels must be 'frequency' or 'uniform', got {labels!r}")
        if reals not in ("range", "moments"):
            raise ValueError(f"Noise: reals must be 'range' or 'moments', got {reals!r}")
        for name in space:
            if len(position[name]) == 0 or not bool(position[name].isfinite().all()):
                raise ValueError(
                    f"Noise: block {name!r}: needs a batch of at least one row, without missing or infinite entries"
                )
        how = {True: labels, False: reals}
        return Noise(space, {n: block.fit_noise(position[n], how[block.discrete]) for n, block in space.items()})

    def draw(
        self,
        num: int,
        *,
        generator: Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Draws positions with leading axis `num`; without a dtype or device, those of `parameters` are kept."""
        require_generator(generator)
        return {
            name: block.draw(self.parameters[name].to(device=device, dtype=dtype), num, generator)
            for name, block in self.space.items()
        }
