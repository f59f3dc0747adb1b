"""Gibbs-with-Gradients over all discrete blocks at once (Eqs. 4-5).

Legend: N chains, V discrete variables, M columns (moves): one per binary variable, one per class of a categorical one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis, nothing_moved
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Space

__all__ = ["GibbsWithGradients"]


@dataclass(frozen=True)
class GibbsWithGradients(Kernel):
    """Changes one free discrete variable per chain to another class, chosen by the gradient, and accepts or rejects.

    q(y'|y) = softmax over y' != y in the Hamming ball of radius 1 of (y' - y)^T score_y(y) / 2      (Eqs. 4-5)
    accept_prob = min(1, exp(f(y') - f(y)) q(y|y') / q(y'|y))

    Adjusted: leaves exp(f) of the free variables, given everything else, exactly invariant, however poor the gradient is as
    a guide; it only sets the speed. The current class is never proposed.

    Args:
        space: the space whose discrete blocks move.
        blocks: names of the discrete blocks that move; None is all of them.

    References:
        Kelly & Grathwohl 2021, Eqs. 4-5. Grathwohl et al. 2021.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(bits=Binary(3))
        >>> def log_density(position): return 2 * position["bits"].sum(dim=1)
        >>> chain = kernels.evaluate(log_density, {"bits": torch.zeros(4, 3)})
        >>> chain, info = GibbsWithGradients(space).step(
        ...     log_density, chain, free={"bits": torch.tensor([True, False, False])}, generator=torch.Generator()
        ... )
        >>> chain.position["bits"].tolist()[0], chain.f.tolist()[0]
        ([1.0, 0.0, 0.0], 2.0)
    """

    space: Space
    blocks: tuple[str, ...] | None = None

    uses_score = True
    adjusted = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain at most once; costs one evaluation, or none if every block is clamped."""
        blocks = tuple(name for name in self.blocks or () if anything_free(chain, free, name))
        if not blocks:
            return chain, nothing_moved(chain)
        chain = scored(log_density, chain, self)
        assert chain.score is not None
        columns = columns_of(self.space, blocks, chain.f.device)
        y = columns.join(chain.position)  # (N, M)
        free_columns = columns.join_free(free, len(y))[:, columns.variable]  # (N, M)

        log_q, movable = _log_proposal(columns, y, columns.join(chain.score), free_columns)
        move = choose(log_q, generator)  # (N,)
        moved, reverse_move = _apply(columns, y, move)
        proposal = evaluate(log_density, {**chain.position, **columns.split(moved)}, previous=chain)
        assert proposal.score is not None
        log_q_reverse, _ = _log_proposal(columns, moved, columns.join(proposal.score), free_columns)

        log_ratio = proposal.f - chain.f + pick(log_q_reverse, reverse_move) - pick(log_q, move)
        info = metropolis(log_ratio, movable, generator)
        return proposal.where(info.accepted, chain), info


def _log_proposal(columns: Columns, y: Tensor, score: Tensor, free_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the proposal over moves, (N, M), and which chains have a legal move, (N,)."""
    # Eq. 5: a move gains (y' - y)^T score; a binary flip in its own column, a change of class the column of the new class
    # less that of the current one.
    lost = y.new_zeros(len(y), columns.num_variables).index_add_(1, columns.variable, y * score)[:, columns.variable]
    gains = torch.where(columns.is_binary, (1 - 2 * y) * score, score - lost)
    legal = free_columns & (columns.is_binary | (y < 0.5))  # the current class is no move
    log_weights = (gains / 2).masked_fill(~legal, -torch.inf)  # Eq. 4
    movable = legal.any(dim=1)
    # A chain without a legal move would get NaN; it gets an arbitrary proposal and is not moved.
    log_weights = log_weights.masked_fill(~movable[:, None], 0)
    return log_weights.log_softmax(dim=1), movable


def _apply(columns: Columns, y: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """The position after a move, (N, M), and the move that leads back, (N,)."""
    of_variable = columns.variable == columns.variable[move][:, None]  # (N, M)
    target = torch.arange(y.shape[1], device=y.device) == move[:, None]
    new = torch.where(columns.is_binary, 1 - y, target.to(y.dtype))
    back = of_variable & (columns.is_binary | (y > 0.5))
    return torch.where(of_variable, new, y), back.to(torch.int8).argmax(dim=1)
