"""Moves missing entries, or whole rows, under exp f; and keeps a completion of every training row between visits.

A column is redrawn by a Metropolis-Hastings step that proposes from the exact conditional of the energy's guide q:

    k' ~ q(k | others) e(k),   accepted with probability min(1, exp(a(k') - a(k))),   a = f - log q

It leaves p(c_j | others) e(c_j) exactly invariant for evidence e, and costs one evaluation of the network where exact Gibbs
costs one per class. The closer the guide is to exp f, the more it is Gibbs: if they are the same, it accepts all proposals.

Legend: N rows, V columns, K_j classes of column j, M components of the guide, H hidden units.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy

__all__ = ["State", "redraw", "start", "sweep"]


class State(NamedTuple):
    """Complete rows with what their next move needs.

    Args:
        codes: shape (N, V).
        guide: log-probability of each component of the guide and the row, shape (N, M).
        base: the same of the base.
        summed: the network's first layer, shape (N, H).
        excess: a = f - log q, shape (N,).
    """

    codes: Tensor
    guide: Tensor
    base: Tensor
    summed: Tensor
    excess: Tensor


def start(energy: TableEnergy, codes: Tensor) -> State:
    """Evaluates complete rows."""
    guide, base, summed = (
        energy.guide.components(codes),
        energy.base.components(codes),
        energy.residual.summed(codes),
    )
    return State(codes, guide, base, summed, _excess(energy, guide, base, summed))


@torch.no_grad()
def redraw(
    energy: TableEnergy,
    state: State,
    column: int,
    *,
    free: Tensor,
    generator: Generator,
    evidence: Tensor | None = None,
) -> State:
    """Moves one column where it is free, by one Metropolis-Hastings step.

    Args:
        energy: f.
        state: of N rows; not changed.
        column: j.
        free: rows in which it may move, shape (N,), bool; the others keep their code.
        generator: source of one choice and one acceptance per row.
        evidence: log-weights of the classes, shape (K_j,), or None.

    Example:
        >>> from jointebm.tables.density.energy import Residual
        >>> energy = TableEnergy(Mixture((2, 3)), Residual((2, 3), width=4, num_layers=1))
        >>> state = start(energy, torch.zeros(2, 2, dtype=torch.int64))
        >>> only_two = torch.tensor([-torch.inf, -torch.inf, 0.0])
        >>> free, generator = torch.tensor([True, False]), torch.Generator()
        >>> redraw(energy, state, 1, free=free, generator=generator, evidence=only_two).codes.tolist()
        [[0, 2], [0, 0]]
    """
    tables = energy.guide.of_column(column), energy.base.of_column(column), energy.residual.of_column(column)
    before = state.codes[:, column]
    proposal = energy.guide.of_classes(state.guide - tables[0][before], column)
    after = draws.choose(proposal if evidence is None else proposal + evidence, generator)
    guide, base, summed = (
        sums + (table[after] - table[before])
        for sums, table in zip((state.guide, state.base, state.summed), tables, strict=True)
    )
    excess = _excess(energy, guide, base, summed)
    moved = draws.accept(excess - state.excess, generator) & free
    codes = state.codes.clone()
    codes[:, column] = torch.where(moved, after, before)
    return State(
        codes,
        torch.where(moved[:, None], guide, state.guide),
        torch.where(moved[:, None], base, state.base),
        torch.where(moved[:, None], summed, state.summed),
        torch.where(moved, excess, state.excess),
    )


def _excess(energy: TableEnergy, guide: Tensor, base: Tensor, summed: Tensor) -> Tensor:
    """f - log q from the sums over columns that a state carries."""
    return base.logsumexp(dim=1) + energy.residual.head(summed) - guide.logsumexp(dim=1)


def sweep(
    energy: TableEnergy,
    state: State,
    *,
    free: Tensor,
    generators: Callable[[int], Generator],
    evidence: Sequence[Tensor | None] | None = None,
) -> State:
    """Moves every column in turn where it is free.

    Args:
        energy: f.
        state: of N rows.
        free: entries that may move, shape (N, V), bool.
        generators: gives the source of draws of a column, by its number; columns that are free nowhere are skipped, so with
            streams that are keyed by row, what happens in a row does not depend on the others.
        evidence: per column, log-weights of its classes, or None.
    """
    for column in free.any(dim=0).nonzero().flatten().tolist():
        weights = None if evidence is None else evidence[column]
        state = redraw(energy, state, column, free=free[:, column], generator=generators(column), evidence=weights)
    return state
