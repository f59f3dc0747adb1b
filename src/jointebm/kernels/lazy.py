"""A lazy kernel: applied with a fixed probability."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from jointebm.kernels.chain import Chain, LogDensity
from jointebm.kernels.kernel import Kernel, parts_of, without_laziness
from jointebm.randomness.draws import Generator, accept
from jointebm.spaces.space import Mask, Space

__all__ = ["Lazy"]


@dataclass(frozen=True)
class Lazy(Kernel):
    """Applies a kernel to each chain with a fixed probability, and otherwise skips the chain.

    P' = (1 - rate) I + rate P

    Skipped chains report an acceptance probability of 0, as chains with nothing to move do.

    P' leaves invariant what P does. The rate sets how often a block moves relative to the others: an image that forms from
    noise while its label rarely changes becomes an image of that label.

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
        if parts_of(self.kernel) != (self.kernel,):
            raise TypeError(
                f"Lazy: got a {type(self.kernel).__name__}, expected a kernel that is not made of others; "
                "make its parts lazy"
            )
        if not 0 < self.rate <= 1:
            raise ValueError(f"Lazy: rate must lie in (0, 1], got {self.rate}")

    @property
    def uses_score(self) -> bool:
        """Whether the wrapped kernel reads the score."""
        return self.kernel.uses_score

    @property
    def adjusted(self) -> bool:
        """Whether the wrapped kernel is adjusted."""
        return self.kernel.adjusted

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """The lazy kernel itself: it reports once."""
        return (self,)

    def with_parts(self, parts: tuple[Kernel, ...]) -> Kernel:
        """The part that takes its place."""
        (part,) = parts
        return part

    def require(self, space: Space) -> None:
        """Raises ValueError unless the wrapped kernel fits the space."""
        self.kernel.require(space)

    def without_laziness(self) -> Kernel:
        """The wrapped kernel, applied at every step."""
        return without_laziness(self.kernel)

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        """Moves the chosen chains once; to the kernel, everything in the others is clamped.

        Raises ValueError if a mask has no axis of chains: without one it cannot differ between chains.
        """
        for name, mask in free.items():
            if mask.ndim == 0 or len(mask) not in (1, len(chain.f)):
                raise ValueError(
                    f"Lazy: mask of block {name!r} has shape {tuple(mask.shape)}, expected a first axis of {len(chain.f)} "
                    "chains or of 1; expand it to (chains, *variable_shape)"
                )
        chosen = accept(torch.full_like(chain.f, math.log(self.rate)), generator)
        masks = {name: mask & chosen.reshape(-1, *[1] * (mask.ndim - 1)) for name, mask in free.items()}
        return self.kernel.step(log_density, chain, free=masks, generator=generator)
