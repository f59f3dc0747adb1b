"""Metropolis-Hastings moves of single columns, and of whole rows column by column, under exp f.

A move proposes from the exact conditional of the energy's reference q, times class weights e if some are given:

    k' ~ q(k | others) e(k),   accepted with probability min(1, exp(a(k') - a(k))),   a = f - log q

It leaves p(c_j | others) e(c_j) invariant and costs one evaluation of the network; exact Gibbs costs one per class.
If q equals exp f, every proposal is accepted.

Legend: N rows, V columns, K_j classes of column j, M components of the reference, H hidden units.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy

__all__ = ["State", "chain_at", "redraw", "sweep"]


class State(NamedTuple):
    """Complete rows, with the sums over columns that the next move updates.

    Args:
        codes: shape (N, V).
        reference: joint log-probability of each component of the reference and the row, shape (N, M).
        base: the same of the base.
        summed: the network's first layer, shape (N, H).
        excess: a = f - log q, shape (N,).
    """

    codes: Tensor
    reference: Tensor
    base: Tensor
    summed: Tensor
    excess: Tensor


def chain_at(energy: TableEnergy, codes: Tensor) -> State:
    """Evaluates complete rows."""
    reference, base, summed = (
        energy.reference.components(codes),
        energy.base.components(codes),
        energy.residual.summed(codes),
    )
    return State(codes, reference, base, summed, _excess(energy, reference, base, summed))


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
        energy: f.
        state: of N rows; left unchanged.
        column: j.
        free: rows in which the column may move, shape (N,), bool; other rows keep their code.
        generator: source of one choice and one acceptance per row.
        log_weights: of the classes, shape (K_j,), or None.

    Example:
        >>> from jointebm.tables.density.energy import Residual
        >>> from jointebm.tables.density.mixture import Mixture
        >>> energy = TableEnergy(Mixture((2, 3)), Residual((2, 3), width=4, num_layers=1))
        >>> state = chain_at(energy, torch.zeros(2, 2, dtype=torch.int64))
        >>> only_two = torch.tensor([-torch.inf, -torch.inf, 0.0])
        >>> free, generator = torch.tensor([True, False]), torch.Generator()
        >>> redraw(energy, state, 1, free=free, generator=generator, log_weights=only_two).codes.tolist()
        [[0, 2], [0, 0]]
    """
    tables = energy.reference.of_column(column), energy.base.of_column(column), energy.residual.of_column(column)
    before = state.codes[:, column]
    proposal = energy.reference.of_classes(state.reference - tables[0][before], column)
    after = draws.choose(proposal if log_weights is None else proposal + log_weights, generator)
    reference, base, summed = (
        sums + (table[after] - table[before])
        for sums, table in zip((state.reference, state.base, state.summed), tables, strict=True)
    )
    excess = _excess(energy, reference, base, summed)
    moved = draws.accept(excess - state.excess, generator) & free
    codes = state.codes.clone()
    codes[:, column] = torch.where(moved, after, before)
    return State(
        codes,
        torch.where(moved[:, None], reference, state.reference),
        torch.where(moved[:, None], base, state.base),
        torch.where(moved[:, None], summed, state.summed),
        torch.where(moved, excess, state.excess),
    )


def _excess(energy: TableEnergy, reference: Tensor, base: Tensor, summed: Tensor) -> Tensor:
    """f - log q from the sums over columns, shape (N,)."""
    return base.logsumexp(dim=1) + energy.residual.head(summed) - reference.logsumexp(dim=1)


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
        energy: f.
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
