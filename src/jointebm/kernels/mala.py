"""The Metropolis-adjusted Langevin algorithm on one continuous block."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.kernel import Info, anything_free, metropolis, nothing_moved
from jointebm.kernels.langevin import Langevin
from jointebm.kernels.step_sizes import LearnsStepSize
from jointebm.randomness.draws import Generator, normal
from jointebm.spaces.space import Mask

__all__ = ["MALA"]


@dataclass(frozen=True, eq=False)
class MALA(LearnsStepSize, Langevin):
    """Proposes a Langevin move of a continuous block (Eq. 3) and accepts or rejects it.

    x' ~ q(.|x) = N(x + step_size^2 / (2 temperature) * score_x, step_size^2),
    accepted with probability min(1, exp((f(x') - f(x)) / temperature) q(x|x') / q(x'|x)).

    Adjusted: leaves exp(f / temperature) of the free entries, given the clamped ones, exactly invariant. Steps that
    are too large are rejected; watch `accept_prob` (about 0.57 is best in high dimension; `adapt` finds that step size).

    With a step size per entry this is preconditioned MALA (PMALA) with a diagonal metric, which `adapt` learns. It does
    not undo correlations between entries; `HMC` copes better with them.

    Args:
        block: name of a continuous block.
        step_size: eps > 0, in position units; a tensor that broadcasts to the block's shape gives one per entry.
        temperature: lambda > 0.

    References:
        Roberts & Tweedie 1996. Roberts & Rosenthal 1998 (acceptance .574). Kelly & Grathwohl 2021, Eq. 3.

    Example:
        >>> import torch
        >>> from jointebm import kernels
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> chain = kernels.evaluate(log_density, {"x": torch.zeros(1000)})
        >>> kernel, generator = MALA(block="x", step_size=1.0), torch.Generator().manual_seed(0)
        >>> for _ in range(20):
        ...     chain, info = kernel.step(log_density, chain, free={"x": torch.tensor([True])}, generator=generator)
        >>> bool(abs(chain.position["x"].var() - 1) < 0.2), bool(info.accept_prob.mean() > 0.8)
        (True, True)
    """

    adjusted = True
    target_accept = 0.574

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain at most once; costs one evaluation, or none if the whole block is clamped."""
        if not anything_free(chain, free, self.block):
            return chain, nothing_moved(chain)
        chain = scored(log_density, chain, self, block=self.block)
        mask, x = free[self.block], chain.position[self.block]
        moved = self.mean(chain) + self.eps(x) * normal(x, generator)
        moved = torch.where(mask, moved, x)
        proposal = evaluate(log_density, {**chain.position, self.block: moved}, previous=chain)
        log_ratio = (
            (proposal.f - chain.f) / self.temperature + self._log_q(x, proposal, mask) - self._log_q(moved, chain, mask)
        )  # (N,)
        movable = mask.expand_as(x).reshape(len(x), -1).any(dim=1)
        info = metropolis(log_ratio, movable, generator)
        return proposal.where(info.accepted, chain), info

    def _log_q(self, target: Tensor, source: Chain, mask: Tensor) -> Tensor:
        """Log-density of proposing `target` from `source`, up to a constant, over the free entries."""
        squares = ((target - self.mean(source)) / self.eps(target)).square()
        return -0.5 * torch.where(mask, squares, 0).reshape(len(target), -1).sum(dim=1)
