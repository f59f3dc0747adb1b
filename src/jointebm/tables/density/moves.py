"""Metropolis-Hastings moves of rows under exp F: of one column, of all columns in turn, and of whole rows.

A move of a column proposes from the exact conditional of the reference q, times class weights e if some are given:

    k' ~ q(k | others) e(k),   accepted with probability min(1, exp(g(k') - g(k))),   g = F - log q

It leaves p(c_j | others) e(c_j) invariant and costs one evaluation of the network; exact Gibbs costs one per class. A jump
proposes all free entries of a row at once from the proposal r of the energy, a masked network or q, given the others. So it
crosses between groups of rows that moves of single columns do not leave. If r equals exp F, every jump is accepted.

Legend: N rows, V columns, K_j classes of column j, M components of the reference, H hidden units.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.references.evidence_of_codes import evidence_of_codes
from jointebm.tables.density.energy import TableEnergy

__all__ = ["Proposed", "State", "chain_at", "jump", "jump_to", "propose", "redraw", "sweep", "towards"]


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

    @property
    def log_density(self) -> Tensor:
        """F, shape (N,)."""
        return self.components.logsumexp(dim=1) + self.residual


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
) -> tuple[State, Tensor]:
    """Moves one column by one Metropolis-Hastings step in the rows where it is free; returns also who accepted, bool (N,).

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
        >>> redraw(energy, state, 1, free=free, generator=generator, log_weights=only_two)[0].codes.tolist()
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
    accepted = draws.accept(proposed.residual - state.residual, generator) & free
    return towards(state, proposed, accepted), accepted


def sweep(
    energy: TableEnergy,
    state: State,
    *,
    free: Tensor,
    generators: Callable[[int], Generator],
    log_weights: Sequence[Tensor | None] | None = None,
) -> tuple[State, Tensor]:
    """Moves every column in turn where it is free; returns also the number of moves that each row accepted, shape (N,).

    Args:
        energy: F.
        state: of N rows.
        free: entries that may move, shape (N, V), bool.
        generators: source of draws of each column, by its number. Columns that are free in no row are skipped, so with
            streams keyed by row, a row's draws do not depend on other rows.
        log_weights: per column, of its classes, shape (K_j,), or None.
    """
    num_accepted = torch.zeros_like(state.codes[:, 0])
    for column in free.any(dim=0).nonzero().flatten().tolist():
        weights = None if log_weights is None else log_weights[column]
        state, accepted = redraw(
            energy, state, column, free=free[:, column], generator=generators(column), log_weights=weights
        )
        num_accepted += accepted
    return state, num_accepted


class Proposed(NamedTuple):
    """Rows drawn from the proposal r of an energy, given what was known of them.

    Args:
        state: of the completed rows.
        log_weights: F + evidence - log r of what was drawn, shape (N,).
    """

    state: State
    log_weights: Tensor


@torch.no_grad()
def propose(
    energy: TableEnergy, codes: Tensor, generator: Generator, *, log_weights: Sequence[Tensor | None] | None = None
) -> Proposed:
    """Draws the missing entries of each row from r given the others, and weighs them against exp F.

        E[exp(log-weight)] = sum over the missing entries m of exp F(known, m) e(m)

    Args:
        energy: F, with its proposal r.
        codes: shape (N, V), -1 is missing.
        generator: source of at most V + 1 choices per row.
        log_weights: log e, per column, of its classes, shape (K_j,), or None.
    """
    drawn, log_prob = energy.proposal.drawn(codes, generator, evidence=log_weights)
    state = chain_at(energy, drawn)
    return Proposed(state, state.log_density + evidence_of_codes(drawn, codes < 0, log_weights) - log_prob)


def jump_to(
    energy: TableEnergy,
    state: State,
    proposed: Proposed,
    *,
    free: Tensor,
    generator: Generator,
    log_weights: Sequence[Tensor | None] | None = None,
) -> tuple[State, Tensor]:
    """Accepts drawn rows by their weight against that of the state; arguments and returns are those of `jump`."""
    log_prob = energy.proposal.log_conditional(state.codes, free, log_weights)
    log_weight = state.log_density + evidence_of_codes(state.codes, free, log_weights) - log_prob
    accepted = draws.accept(proposed.log_weights - log_weight, generator)
    return towards(state, proposed.state, accepted), accepted


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

        new ~ r(free entries | the others, e),   accepted with probability min(1, w(new) / w(old)),   w = exp(F) e / r

    Args:
        energy: F, with its proposal r.
        state: of N rows; left unchanged.
        free: entries that may move, shape (N, V), bool.
        generator: source of at most V + 1 choices and one acceptance per row.
        log_weights: log e, per column, of its classes, shape (K_j,), or None.

    Returns:
        (state, accepted): accepted is bool (N,).
    """
    known = state.codes.masked_fill(free, -1)
    proposed = propose(energy, known, generator, log_weights=log_weights)
    return jump_to(energy, state, proposed, free=free, generator=generator, log_weights=log_weights)
