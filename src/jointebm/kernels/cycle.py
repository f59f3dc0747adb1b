"""Kernels applied in turn: Metropolis-within-Gibbs (Algorithm 1)."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jointebm.kernels.chain import Chain, LogDensity
from jointebm.kernels.kernel import Info, Kernel, parts_of, with_parts, without_laziness
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Space

__all__ = ["Cycle"]


@dataclass(frozen=True)
class Cycle(Kernel):
    """Applies kernels one after the other, each to the chain the previous one returned (Algorithm 1).

    P = P_1 P_2 ... P_n. The cycle leaves invariant what every kernel leaves invariant; detailed balance is lost.

    Args:
        kernels: the kernels, in order; the paper's joint sampler is `Cycle((GibbsWithGradients(space), Langevin(...)))`.

    References:
        Kelly & Grathwohl 2021, Algorithm 1.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> space = Space(x=Continuous(), y=Binary())
        >>> Cycle((kernels.GibbsWithGradients(space), kernels.Langevin(block="x", step_size=0.1))).uses_score
        True
    """

    kernels: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernels", tuple(self.kernels))
        if not self.kernels:
            raise ValueError("Cycle: needs at least one kernel")

    @property
    def uses_score(self) -> bool:
        """Whether any of the kernels reads the score."""
        return any(kernel.uses_score for kernel in self.kernels)

    @property
    def adjusted(self) -> bool:
        """Whether all of the kernels are adjusted."""
        return all(kernel.adjusted for kernel in self.kernels)

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """The kernels, with those of cycles among them in their place."""
        return tuple(part for kernel in self.kernels for part in parts_of(kernel))

    def require(self, space: Space) -> None:
        """Raises ValueError unless all of the kernels fit the space."""
        for kernel in self.kernels:
            kernel.require(space)

    def with_parts(self, parts: tuple[Kernel, ...]) -> "Cycle":
        """The cycle with other parts, those of cycles among its kernels in their place."""
        counts = [len(parts_of(kernel)) for kernel in self.kernels]
        ends = list(accumulate(counts))
        pairs = zip(self.kernels, counts, ends, strict=True)
        return Cycle(tuple(with_parts(kernel, parts[end - count : end]) for kernel, count, end in pairs))

    def without_laziness(self) -> "Cycle":
        """The cycle with every lazy part applied at every step."""
        return Cycle(tuple(without_laziness(kernel) for kernel in self.kernels))

    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> tuple[Chain, tuple[Info | tuple[Any, ...], ...]]:
        """Moves each chain once by every kernel; the info holds one entry per kernel."""
        infos = []
        for kernel in self.kernels:
            chain, info = kernel.step(log_density, chain, free=free, generator=generator)
            infos.append(info)
        return chain, tuple(infos)
