"""Gibbs-with-Gradients over all discrete blocks at once (Eqs. 4-5).

Legend: N chains, V discrete variables, M columns (moves): one per binary variable, one per class of a categorical one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis, moves_wholly, nothing_moved
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
        clamped, movable = None, None  # nothing is clamped, and every chain has something to move
        if not (columns.all_move and moves_wholly(free, blocks)):
            free_variables = columns.join_free(free, len(y))  # (N, V)
            clamped = ~columns.widen(free_variables)  # (N, M)
            movable = columns.movable(free_variables).any(dim=1)

        log_weights = _log_weights(columns, y, columns.join(chain.score), clamped)
        move = choose(log_weights, generator)  # (N,)
        moved, reverse_move = _apply(columns, y, move)
        proposal = evaluate(log_density, {**chain.position, **columns.split(moved)}, previous=chain)
        assert proposal.score is not None
        log_q = log_weights.log_softmax(dim=1)
        log_q_reverse = _log_weights(columns, moved, columns.join(proposal.score), clamped).log_softmax(dim=1)

        log_ratio = proposal.f - chain.f + pick(log_q_reverse, reverse_move) - pick(log_q, move)
        info = metropolis(log_ratio, movable, generator)
        return proposal.where(info.accepted, chain), info


def _log_weights(columns: Columns, y: Tensor, score: Tensor, clamped: Tensor | None) -> Tensor:
    """Log-weights of the proposal over moves, (N, M), nats: -inf for those that are none, and all of a chain that is stuck.

    A move gains (y' - y)^T score (Eq. 5), of which half counts (Eq. 4): a flip of a bit in its own column, a change of
    class in that of the new one.
    """
    if columns.all_binary:
        gains = (0.5 - y) * score
        return gains if clamped is None else gains.masked_fill(clamped, -torch.inf)
    gains = columns.above_current(y, score) / 2
    current = y > columns.own_class  # the current class is no move
    return gains.masked_fill(current if clamped is None else clamped | current, -torch.inf)


def _apply(columns: Columns, y: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """The position after a move, (N, M), and the move that leads back, (N,)."""
    target = columns.number == move[:, None]  # (N, M)
    if columns.all_binary:
        return torch.where(target, 1 - y, y), move
    of_variable = columns.variable == columns.variable[move][:, None]  # (N, M)
    if columns.all_classes:
        return torch.where(of_variable, target.to(y.dtype), y), (of_variable * y).argmax(dim=1)
    new = torch.where(columns.is_binary, 1 - y, target.to(y.dtype))
    # A bit has one column, which counts more than 0 whatever it is.
    return torch.where(of_variable, new, y), (of_variable * (y + columns.own_class)).argmax(dim=1)
