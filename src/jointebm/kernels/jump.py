"""Jumps: independence Metropolis moves proposed from a reference.

Legend: N chains.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, Score, evaluate
from jointebm.kernels.columns import require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis, nothing_moved
from jointebm.randomness.draws import Generator
from jointebm.references.reference import Reference
from jointebm.spaces.space import Mask, Space

__all__ = ["Jump"]


@dataclass(frozen=True)
class Jump(Kernel):
    """Proposes all free entries at once from a reference q, given the clamped ones, and accepts or rejects the proposal.

    new ~ q(free entries | the others), accepted with probability min(1, exp[(f - log q)(new) - (f - log q)(old)])

    Adjusted: leaves exp(f) of the free entries, given the clamped ones, exactly invariant, and satisfies detailed balance.
    It crosses between modes that local moves do not leave. How often it is accepted depends on how near q is to exp(f):
    where exp(f) / q has no bound, chains stay long at places that q proposes too rarely, and where q is 0 they never
    jump away. It needs no gradient.

    Args:
        reference: q, over the blocks of its space.
        blocks: names of the blocks that jump, given all others; None is all of them.

    References:
        Hastings 1970; Tierney 1994, Sec. 2.3.3.

    Example:
        >>> from jointebm import Continuous
        >>> from jointebm.references import Mixture
        >>> space, generator = Space(x=Continuous()), torch.Generator().manual_seed(0)
        >>> rows = torch.cat([torch.randn(500, generator=generator), torch.randn(500, generator=generator) + 9])
        >>> q = Mixture.fit(space, {"x": rows}, 2, generator=generator)  # weights .5 and .5
        >>> def log_density(position): return q.log_prob(position) + 1.4 * (position["x"] > 4.5)  # weights .2 and .8
        >>> chain = evaluate(log_density, {"x": torch.zeros(1000)})
        >>> for _ in range(20):
        ...     chain, info = Jump(q).step(log_density, chain, free={"x": torch.tensor(True)}, generator=generator)
        >>> bool(abs((chain.position["x"] > 4.5).float().mean() - 0.8) < 0.04)
        True
    """

    reference: Reference
    blocks: tuple[str, ...] | None = None

    uses_score = False
    adjusted = True

    def __post_init__(self) -> None:
        if self.blocks is not None:
            object.__setattr__(self, "blocks", tuple(self.blocks))
            self.reference.space.require(self.blocks)
            if not self.blocks:
                raise ValueError("Jump: blocks names no block; give at least one, or None for all")

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has all blocks of the reference, as the reference knows them."""
        require_same(self, self.reference.space, tuple(self.reference.space), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Proposes once per chain; costs one evaluation of f, with its score if the chain has one, and two of log q."""
        names = [name for name in self.blocks or self.reference.space if anything_free(chain, free, name)]
        if not names:
            return chain, nothing_moved(chain)
        space, num_chains = self.reference.space, len(chain.f)
        masks = {name: free[name].expand(num_chains, *space[name].variable_shape) for name in names}
        old = {name: chain.position[name] for name in space}
        missing = {name: torch.where(space[name].expand(mask), torch.nan, old[name]) for name, mask in masks.items()}
        drawn = self.reference.complete({**old, **missing}, generator)
        new = {**old, **{name: drawn[name] for name in names}}  # other blocks stay the very same tensors
        proposal = evaluate(log_density, {**chain.position, **new}, previous=chain, with_score=chain.score is not None)
        log_q = [self.reference.log_conditional(each, masks) for each in (new, old)]
        log_ratio = ((proposal.f - log_q[0]) - (chain.f - log_q[1])).to(chain.f.dtype)
        movable = torch.stack([mask.reshape(num_chains, -1).any(dim=1) for mask in masks.values()]).any(dim=0)
        info = metropolis(log_ratio, movable, generator)
        return _where(info.accepted, proposal, chain), info


def _where(accepted: Tensor, proposal: Chain, chain: Chain) -> Chain:
    """The proposal in the accepted rows, the chain in the rest, with a score if both have one."""
    if chain.score is not None:
        return proposal.where(accepted, chain)
    unread = Score({})
    return proposal._replace(score=unread).where(accepted, chain._replace(score=unread))._replace(score=None)
