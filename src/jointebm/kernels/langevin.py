"""Unadjusted Langevin dynamics on one continuous block (Eq. 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.kernel import Info, anything_free, moves_wholly
from jointebm.kernels.step_sizes import StepSized
from jointebm.randomness.draws import Generator, normal
from jointebm.spaces.space import Mask

__all__ = ["Langevin"]


@dataclass(frozen=True, eq=False)
class Langevin(StepSized):
    """Moves a continuous block along its score, with noise, and never rejects (Eq. 3).

    x' = x + step_size^2 / (2 temperature) * score_x(x, y) + step_size * noise

    Unadjusted: as step_size -> 0 it leaves exp(f / temperature) invariant, and at any other step size only
    approximately. With temperature != 1, alternating it with a kernel that moves y at temperature 1 (as the paper does)
    has no single joint target: no density has both conditionals.

    Raises ValueError at a step if f has no gradient with respect to the block, instead of diffusing without end.

    Args:
        block: name of a continuous block.
        step_size: eps > 0, in position units; a tensor that broadcasts to the block's shape gives one per entry.
        temperature: lambda > 0.

    References:
        Kelly & Grathwohl 2021, Eq. 3. Welling & Teh 2011.

    Example:
        >>> import torch
        >>> from jointebm import kernels
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> chain = kernels.evaluate(log_density, {"x": torch.zeros(1000)})
        >>> kernel, generator = Langevin(block="x", step_size=0.5), torch.Generator().manual_seed(0)
        >>> for _ in range(100):
        ...     chain, info = kernel.step(log_density, chain, free={"x": torch.tensor([True])}, generator=generator)
        >>> bool(abs(chain.position["x"].var() - 1) < 0.2)
        True
    """

    uses_score = True
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain once; costs one evaluation, or none if the whole block is clamped."""
        info = Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))
        if not anything_free(chain, free, self.block):
            return chain, info
        chain = scored(log_density, chain, self, block=self.block)
        x = chain.position[self.block]
        moved = self.mean(chain) + self.eps(x) * normal(x, generator)
        if not moves_wholly(free, (self.block,)):
            moved = torch.where(free[self.block], moved, x)
        position = {**chain.position, self.block: moved}
        return evaluate(log_density, position, previous=chain), info

    def mean(self, chain: Chain) -> Tensor:
        """Mean of the proposal from each chain, with the noise left out (Eq. 3)."""
        assert chain.score is not None
        x = chain.position[self.block]
        return x + self.eps(x) ** 2 / (2 * self.temperature) * chain.score[self.block]
