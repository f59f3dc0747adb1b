"""The discrete Metropolis-adjusted Langevin algorithm: all discrete variables proposed at once.

Legend: N chains, V variables, K classes (the largest number of any variable), M columns.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, scored
from jointebm.kernels.chromatic_gibbs import draw_together
from jointebm.kernels.class_table import ClassTable
from jointebm.kernels.columns import chosen_blocks, columns_of, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free, nothing_moved
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Space

__all__ = ["DMALA"]


@dataclass(frozen=True)
class DMALA(Kernel):
    """Proposes all free discrete variables independently, guided by the score, and accepts or rejects them together.

    q(y'|y) = product over v of softmax over k of (score_vk - score_v,y_v) / 2 - [k != y_v] / (2 step_size),  at k = y'_v
    accept_prob = min(1, exp(f(y') - f(y)) q(y|y') / q(y'|y))

    Adjusted: leaves exp(f) of the free variables, given everything else, exactly invariant, and satisfies detailed balance.
    Many variables change in one step where they interact weakly; where they interact strongly nearly all proposals are
    rejected unless the step size is small. A step size of infinity proposes without regard to the present labels.
    `adapt` tunes the step size. A bit and a variable of two classes move alike: a change counts once, where the reference
    counts the squared distance of one-hot vectors, 2.

    Args:
        space: the space whose discrete blocks move.
        step_size: alpha > 0; small ones change few variables per step.
        blocks: names of the discrete blocks that move; None is all of them.

    References:
        Zhang, Liu & Liu 2022, A Langevin-like sampler for discrete distributions (Eq. 4 and Alg. 1).

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(bits=Binary(50))
        >>> def log_density(position): return (position["bits"] * torch.linspace(-2, 2, 50)).sum(dim=1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> chain = kernels.evaluate(log_density, {"bits": torch.zeros(1000, 50)})
        >>> for _ in range(20):
        ...     chain, info = DMALA(space, 0.5).step(
        ...         log_density, chain, free={"bits": torch.tensor([True])}, generator=generator
        ...     )
        >>> mean = chain.position["bits"].mean(dim=0)
        >>> bool((mean - torch.linspace(-2, 2, 50).sigmoid()).abs().max() < 0.06)
        True
    """

    space: Space
    step_size: float
    blocks: tuple[str, ...] | None = None

    uses_score = True
    adjusted = True
    target_accept = 0.574

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))
        if not self.step_size > 0:
            raise ValueError(f"DMALA: step_size must be a positive number, got {self.step_size}")

    def rescaled(self, factor: float) -> "DMALA":
        """This kernel with its step size multiplied by a number."""
        return replace(self, step_size=self.step_size * factor)

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain once; costs one evaluation, or none if every block is clamped."""
        blocks = tuple(name for name in self.blocks or () if anything_free(chain, free, name))
        if not blocks:
            return chain, nothing_moved(chain)
        columns = columns_of(self.space, blocks, chain.f.device)
        movable = columns.join_free(free, len(chain.f))  # (N, V)
        chain = scored(log_density, chain, self)
        table = _table(self.space, blocks, chain.f.device)
        return draw_together(columns, table, self._log_proposal, log_density, chain, movable, generator)

    def _log_proposal(self, table: ClassTable, score: Tensor, labels: Tensor) -> Tensor:
        """Log-probabilities of the classes of each variable, (N, K, V)."""
        classes = torch.arange(len(table.source), device=labels.device)[:, None]
        changes = (classes != labels[:, None]).to(score.dtype)
        penalty = 0.0 if math.isinf(self.step_size) else 0.5 / self.step_size
        return (table.spread(score) / 2 - penalty * changes).log_softmax(dim=1)


@lru_cache(maxsize=64)
def _table(space: Space, blocks: tuple[str, ...], device: torch.device) -> ClassTable:
    columns = columns_of(space, blocks, torch.device("cpu"))
    return ClassTable.of(columns, torch.ones(columns.num_variables, dtype=torch.bool)).to(device)
