"""Metropolis-Hastings moves of rows under exp F: of one column, of all columns in turn, and of whole rows.

A move of a column proposes from the exact conditional of the reference q, times class weights e if some are given:

    k' ~ q(k | others) e(k),   accepted with probability min(1, exp(g(k') - g(k))),   g = F - log q

It leaves p(c_j | others) e(c_j) invariant and costs one evaluation of the network; exact Gibbs costs one per class. A jump
proposes all free entries of a row at once from q given the others, and so crosses between groups of rows that moves of
single columns do not leave. If q equals exp F, every proposal is accepted.

Legend: N rows, V columns, K_j classes of column j, M components of the reference, H hidden units.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy

__all__ = ["State", "chain_at", "jump", "jump_to", "redraw", "sweep", "towards"]


class State(NamedTuple):
    """Complete rows, with the sums over columns that the next move updates.

    Args:
        codes: shape (N, V).
        components: joint log-probability of each component of the reference and the row, shape (N, M).
        summed: the network's first layer, shape (N, H).
        residual: g = F - log q, shape (N,).
    """

    codes: Tensor
    components: Tensor
    summed: Tensor
    residual: Tensor


def chain_at(energy: TableEnergy, codes: Tensor) -> State:
    """Evaluates complete rows."""
    summed = energy.residual.summed(codes)
    return State(codes, energy.reference.components(codes), summed, energy.residual.head(summed))


def towards(state: State, proposal: State, moved: Tensor) -> State:
    """The proposal in the rows that have moved, bool (N,), and the state in all others."""
    return State(
        *(
            torch.where(moved[:, None] if new.ndim == 2 else moved, new, old)
            for new, old in zip(proposal, state, strict=True)
        )
    )


@torch.no_grad()
def redraw(
    energy: TableEnergy,
    state: State,
    column: int,
    *,
    free: Tensor,
    generator: Generator,
    log_weights: Tensor | None = None,
) -> State:
    """Moves one column by one Metropolis-Hastings step in the rows where it is free.

    Args:
        energy: F.
        state: of N rows; left unchanged.
        column: j.
        free: rows in which the column may move, shape (N,), bool; other rows keep their code.
        generator: source of one choice and one acceptance per row.
        log_weights: of the classes, shape (K_j,), or None.

    Example:
        >>> from jointebm.references import ProductMixture
        >>> from jointebm.tables.density.energy import Residual
        >>> energy = TableEnergy(ProductMixture((2, 3)), Residual((2, 3), width=4, num_layers=1))
        >>> state = chain_at(energy, torch.zeros(2, 2, dtype=torch.int64))
        >>> only_two = torch.tensor([-torch.inf, -torch.inf, 0.0])
        >>> free, generator = torch.tensor([True, False]), torch.Generator()
        >>> redraw(energy, state, 1, free=free, generator=generator, log_weights=only_two).codes.tolist()
        [[0, 2], [0, 0]]
    """
    table, vectors = energy.reference.of_column(column), energy.residual.of_column(column)
    before = state.codes[:, column]
    proposal = energy.reference.of_classes(state.components - table[before], column)
    after = draws.choose(proposal if log_weights is None else proposal + log_weights, generator)
    components = state.components + (table[after] - table[before])
    summed = state.summed + (vectors[after] - vectors[before])
    codes = state.codes.clone()
    codes[:, column] = after
    proposed = State(codes, components, summed, energy.residual.head(summed))
    return towards(state, proposed, draws.accept(proposed.residual - state.residual, generator) & free)


def sweep(
    energy: TableEnergy,
    state: State,
    *,
    free: Tensor,
    generators: Callable[[int], Generator],
    log_weights: Sequence[Tensor | None] | None = None,
) -> State:
    """Moves every column in turn where it is free.

    Args:
        energy: F.
        state: of N rows.
        free: entries that may move, shape (N, V), bool.
        generators: source of draws of each column, by its number. Columns that are free in no row are skipped, so with
            streams keyed by row, a row's draws do not depend on other rows.
        log_weights: per column, of its classes, shape (K_j,), or None.
    """
    for column in free.any(dim=0).nonzero().flatten().tolist():
        weights = None if log_weights is None else log_weights[column]
        state = redraw(energy, state, column, free=free[:, column], generator=generators(column), log_weights=weights)
    return state


def jump_to(state: State, proposal: State, generator: Generator) -> tuple[State, Tensor]:
    """Accepts rows drawn from q, given what is not free, with probability min(1, exp(g(new) - g(old))).

    Returns:
        (state, accepted): accepted is bool (N,).
    """
    accepted = draws.accept(proposal.residual - state.residual, generator)
    return towards(state, proposal, accepted), accepted


@torch.no_grad()
def jump(
    energy: TableEnergy,
    state: State,
    *,
    free: Tensor,
    generator: Generator,
    log_weights: Sequence[Tensor | None] | None = None,
) -> tuple[State, Tensor]:
    """Moves all free entries of each row at once by one independence Metropolis step.

        new ~ q(free entries | the others) e,   accepted with probability min(1, exp(g(new) - g(old)))

    Args:
        energy: F.
        state: of N rows; left unchanged.
        free: entries that may move, shape (N, V), bool.
        generator: source of V + 1 choices and one acceptance per row.
        log_weights: per column, of its classes, shape (K_j,), or None.

    Returns:
        (state, accepted): accepted is bool (N,).
    """
    known = state.codes.masked_fill(free, -1)
    proposal = chain_at(energy, energy.reference.draw(known, generator, evidence=log_weights))
    return jump_to(state, proposal, generator)
