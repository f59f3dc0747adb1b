"""A kernel that rests now and then."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from jointebm.kernels.chain import Chain, Kernel, LogDensity
from jointebm.kernels.cycle import Cycle
from jointebm.randomness.draws import Generator, accept
from jointebm.spaces.space import Mask

__all__ = ["Lazy"]


@dataclass(frozen=True)
class Lazy:
    """Applies a kernel to each chain with a fixed probability, and else leaves the chain as it is.

    P' = (1 - rate) I + rate P

    Chains that rest report an acceptance probability of 0, as chains with nothing to move do.

    What P leaves invariant, P' leaves invariant. It says how often one block moves relative to the others: an image that
    forms from noise while its label hardly ever changes is one of that label.

    Args:
        kernel: the kernel P, any but a `Cycle`.
        rate: probability that it is applied, in (0, 1].

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(y=Binary())
        >>> lazy = Lazy(kernels.Gibbs(space), rate=0.25)
        >>> chain = kernels.evaluate(lambda position: 100 * position["y"], {"y": torch.zeros(10_000)})
        >>> chain, info = lazy.step(lambda position: 100 * position["y"], chain, free={"y": torch.tensor([True])},
        ...                         generator=torch.Generator().manual_seed(0))
        >>> bool(abs(chain.position["y"].mean() - 0.25) < 0.02)
        True
    """

    kernel: Kernel
    rate: float

    def __post_init__(self) -> None:
        if isinstance(self.kernel, Cycle):
            raise TypeError("Lazy: kernel is a Cycle; make its parts lazy, each at its own rate")
        if not 0 < self.rate <= 1:
            raise ValueError(f"Lazy: rate must lie in (0, 1], got {self.rate}")

    @property
    def uses_score(self) -> bool:
        """Whether the kernel reads the score."""
        return self.kernel.uses_score

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        """Moves the chosen chains once; to the kernel, everything in the others is clamped."""
        chosen = accept(torch.full_like(chain.f, math.log(self.rate)), generator)
        masks = {name: mask & chosen.reshape(-1, *[1] * (mask.ndim - 1)) for name, mask in free.items()}
        return self.kernel.step(log_density, chain, free=masks, generator=generator)
