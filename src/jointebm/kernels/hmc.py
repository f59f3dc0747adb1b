"""Hamiltonian Monte Carlo on one continuous block, with a fixed number of leapfrog steps.

Legend: N chains.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.kernel import Info, anything_free, metropolis, nothing_moved
from jointebm.kernels.step_sizes import LearnsStepSize, StepSized
from jointebm.randomness.draws import Generator, normal
from jointebm.spaces.space import Mask

__all__ = ["HMC"]


@dataclass(frozen=True, eq=False)
class HMC(LearnsStepSize, StepSized):
    """Proposes the end of a trajectory of a continuous block with random momentum, and accepts or rejects it.

    p ~ N(0, I); num_leapfrog times:  p += eps / (2 T) score_x(x),  x += eps p,  p += eps / (2 T) score_x(x);
    accepted with probability min(1, exp((f(x') - f(x)) / T + (|p|^2 - |p'|^2) / 2))

    Adjusted: leaves exp(f / temperature) of the free entries, given the clamped ones, exactly invariant, and satisfies
    detailed balance. One leapfrog step is `MALA`. Several follow a path of length num_leapfrog * step_size, which long
    and narrow densities need. A path that returns to its start, as on a Gaussian after 2 pi standard deviations, is
    accepted and moves nothing. A step size per entry is a diagonal metric.

    Args:
        block: name of a continuous block.
        step_size: eps > 0, in position units; a tensor that broadcasts to the block's shape gives one per entry.
        temperature: T > 0.
        num_leapfrog: leapfrog steps >= 1; each costs one evaluation.

    References:
        Duane et al. 1987; Neal 2011.

    Example:
        >>> from jointebm import kernels
        >>> scales = torch.tensor([1.0, 10.0])
        >>> def log_density(position): return -0.5 * (position["x"] / scales).square().sum(dim=1)
        >>> chain = kernels.evaluate(log_density, {"x": torch.zeros(1000, 2)})
        >>> kernel, generator = HMC("x", step_size=0.5 * scales, num_leapfrog=3), torch.Generator().manual_seed(0)
        >>> for _ in range(10):
        ...     chain, info = kernel.step(log_density, chain, free={"x": torch.tensor([True])}, generator=generator)
        >>> bool(abs((chain.position["x"] / scales).var() - 1) < 0.1), bool(info.accept_prob.mean() > 0.9)
        (True, True)
    """

    num_leapfrog: int = 10

    uses_score = True
    adjusted = True
    target_accept = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_leapfrog < 1:
            raise ValueError(f"HMC: num_leapfrog is a whole number >= 1, got {self.num_leapfrog}")

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain at most once; costs `num_leapfrog` evaluations, or none if the whole block is clamped."""
        if not anything_free(chain, free, self.block):
            return chain, nothing_moved(chain)
        chain = scored(log_density, chain, self, block=self.block)
        mask = free[self.block]
        start = torch.where(mask, normal(chain.position[self.block], generator), 0)
        proposal, end = self.trajectory(log_density, chain, start, mask)
        log_ratio = (proposal.f - chain.f) / self.temperature + kinetic_energy(start) - kinetic_energy(end)
        movable = mask.expand_as(start).reshape(len(start), -1).any(dim=1)
        info = metropolis(log_ratio, movable, generator)
        return proposal.where(info.accepted, chain), info

    def trajectory(self, log_density: LogDensity, chain: Chain, momentum: Tensor, mask: Tensor) -> tuple[Chain, Tensor]:
        """The chain and its momentum (N, *shape) after all leapfrog steps; clamped entries stay, with momentum 0."""
        for _ in range(self.num_leapfrog):
            momentum = self._kicked(chain, momentum, mask)
            x = chain.position[self.block]
            moved = torch.where(mask, x + self.eps(x) * momentum, x)
            chain = evaluate(log_density, {**chain.position, self.block: moved}, previous=chain)
            momentum = self._kicked(chain, momentum, mask)
        return chain, momentum

    def _kicked(self, chain: Chain, momentum: Tensor, mask: Tensor) -> Tensor:
        """The momentum after half a step along the score."""
        assert chain.score is not None
        kick = self.eps(momentum) / (2 * self.temperature) * chain.score[self.block]
        return torch.where(mask, momentum + kick, 0)


def kinetic_energy(momentum: Tensor) -> Tensor:
    """|p|^2 / 2 of each chain, shape (N,)."""
    return 0.5 * momentum.square().reshape(len(momentum), -1).sum(dim=1)
