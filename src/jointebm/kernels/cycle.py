"""Kernels applied in turn: Metropolis-within-Gibbs (Algorithm 1)."""

from dataclasses import dataclass
from typing import Any

from jointebm.kernels.chain import Chain, Info, Kernel, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask

__all__ = ["Cycle"]


@dataclass(frozen=True)
class Cycle:
    """Applies kernels one after the other, each to the chain the last one left (Algorithm 1).

    P = P_1 P_2 ... P_n. What every kernel leaves invariant the cycle leaves invariant; detailed balance is lost.

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

    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> tuple[Chain, tuple[Info | tuple[Any, ...], ...]]:
        """Moves each chain once by every kernel; the info holds one entry per kernel."""
        infos = []
        for kernel in self.kernels:
            chain, info = kernel.step(log_density, chain, free=free, generator=generator)
            infos.append(info)
        return chain, tuple(infos)
