"""log Z of a table's density, by annealing draws of the reference into draws of exp F, and rows of the data back.

    F_b = log q + b g,   0 = b_0 < ... < b_R = 1,   log Z = log E exp(sum_r (b_r - b_(r-1)) g(c_(r-1)))

Draws go along the rungs, moved by a jump and a sweep at each of them; each group of draws is resampled on its own when its
effective share falls below half, so groups stay independent of one another. Where q is near exp F one rung is enough: plain
importance sampling. The same holds of a proposal that is near exp F: `weighted_rows` are then its draws. Rows go the other
way with the weights' signs turned, which gives 1 / Z. The logs of both means bracket log Z in expectation, and a group of
rows that one end does not reach keeps them apart.

Legend: N draws in G groups, V columns, R rungs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.moves import State, chain_at, jump, sweep
from jointebm.training.chain_weights import effective_share, log_mean_exp, resampled

__all__ = [
    "GROUP",
    "AnnealedRows",
    "DrawnRows",
    "RowsBack",
    "annealed",
    "annealed_back",
    "annealing_rungs",
    "drawn_rows",
    "weighted_rows",
    "weighted_rows_back",
]

GROUP = 128  # draws
PILOT_GROUPS = 4  # that rungs are chosen with
STEP_SHARE = 0.7  # effective share of equally weighted draws after the step to the next rung
RUNGS_AT_MOST = 100
WEIGHTED_AT_ONCE = 2048
SHARE_OF_DRAWS = 0.05  # effective share of draws of a proposal, from which on nothing is annealed
SHARE_IN_VAIN = 0.4  # of that, in the first groups, below which no more are drawn


class AnnealedRows(NamedTuple):
    """Weighted draws of exp F.

    Args:
        codes: shape (N, V).
        log_weights: shape (N,), nats, float64; the mean of exp(log_weights) estimates Z without bias for rungs fixed
            beforehand.
        rungs: b_1 to b_R.
        by_proposal: whether they are draws of the proposal, which need no rungs.
    """

    codes: Tensor
    log_weights: Tensor
    rungs: tuple[float, ...]
    by_proposal: bool = False

    @property
    def log_normalizer(self) -> float:
        """log Z, nats."""
        return float(log_mean_exp(self.log_weights))

    @property
    def standard_error(self) -> float:
        """Of log Z, by the jackknife over groups, nats."""
        return _error_by_groups(self.log_weights)

    @property
    def share(self) -> float:
        """Effective share of the draws, in (0, 1]."""
        return float(effective_share(self.log_weights))


class DrawnRows(NamedTuple):
    """Draws of a proposal, to be weighted under one energy after another.

    Args:
        codes: shape (N, V).
        log_prob: of the proposal, shape (N,), nats.
    """

    codes: Tensor
    log_prob: Tensor


class RowsBack(NamedTuple):
    """Log-weights of rows that went from exp F to q.

    Args:
        log_weights: shape (N,), nats, float64; the mean of exp(log_weights) estimates 1 / Z without bias if the rows were
            draws of exp F.
    """

    log_weights: Tensor

    @property
    def log_normalizer(self) -> float:
        """log Z, nats; its expectation is at least log Z if the rows were draws of exp F."""
        return -float(log_mean_exp(self.log_weights))

    @property
    def standard_error(self) -> float:
        """Of log Z, by the jackknife over groups, nats."""
        return _error_by_groups(self.log_weights)


def drawn_rows(proposal: MaskedNetwork, *, num_groups: int, generator: Generator) -> DrawnRows:
    """G groups of 128 whole rows of a proposal."""
    nothing = torch.full((GROUP, len(proposal.mixture.num_classes)), -1, device=proposal.bias.device)
    parts = [proposal.drawn(nothing, generator) for _ in range(num_groups)]
    return DrawnRows(*(torch.cat(each) for each in zip(*parts, strict=True)))


@torch.no_grad()
def weighted_rows(
    energy: TableEnergy,
    *,
    num_groups: int,
    num_annealed: int | None = None,
    has_pilot: bool = True,
    generator: Generator,
    drawn: DrawnRows | None = None,
) -> AnnealedRows:
    """Draws of the proposal where their weights are even enough, else annealed draws of the reference.

    Args:
        energy: F.
        num_groups: G, of 128 draws each.
        num_annealed: G of annealed draws, which cost a jump and a sweep at each rung; None is as many.
        has_pilot: whether rungs are chosen by other draws. Draws that choose their own cost less, and bias Z a little.
        generator: source of all draws.
        drawn: G groups of the energy's proposal, in place of new draws of it.
    """
    if energy.network is not None:
        weighted = _by_proposal(energy, energy.network, num_groups, generator, drawn)
        if weighted is not None:
            return weighted
    rungs = annealing_rungs(energy, generator=generator) if has_pilot else None
    return annealed(energy, rungs, num_groups=num_groups if num_annealed is None else num_annealed, generator=generator)


@torch.no_grad()
def weighted_rows_back(
    energy: TableEnergy, rows: AnnealedRows, codes: Tensor, *, num_moves: int, generator: Generator
) -> RowsBack:
    """Takes rows back the way on which weighted rows came, to the proposal or to q.

    Args:
        energy: F.
        rows: of `weighted_rows`.
        codes: rows, such as those of the data, shape (N, V), N a multiple of 128; -1 is missing.
        num_moves: jumps and sweeps under F before the weights begin, which take rows of the data to exp F around them.
        generator: source of all draws.
    """
    if not rows.by_proposal:
        return annealed_back(energy, rows.rungs, codes, num_moves=num_moves, generator=generator)
    codes = energy.proposal.draw(codes, generator)
    for _ in range(num_moves):
        codes = _moved(energy, codes, generator).codes
    log_prob = energy.proposal.log_conditional(codes, torch.ones_like(codes, dtype=torch.bool))
    return RowsBack((log_prob - energy(codes)).double())


def _by_proposal(
    energy: TableEnergy, proposal: MaskedNetwork, num_groups: int, generator: Generator, drawn: DrawnRows | None
) -> AnnealedRows | None:
    """Weighted draws of the proposal; None where weights are too uneven, often by the first groups alone."""

    def weighted(first: int, last: int) -> AnnealedRows:
        if drawn is None:
            part = drawn_rows(proposal, num_groups=last - first, generator=generator)
        else:
            part = DrawnRows(*(each[GROUP * first : GROUP * last] for each in drawn))
        f = torch.cat([energy(codes) for codes in part.codes.split(WEIGHTED_AT_ONCE)])
        return AnnealedRows(part.codes, (f - part.log_prob).double(), (1.0,), by_proposal=True)

    num_first = min(PILOT_GROUPS, num_groups)
    rows = weighted(0, num_first)
    if rows.share < SHARE_IN_VAIN * SHARE_OF_DRAWS:
        return None
    if num_groups > num_first:
        codes, log_weights = (
            torch.cat(each) for each in zip(rows[:2], weighted(num_first, num_groups)[:2], strict=True)
        )
        rows = AnnealedRows(codes, log_weights, (1.0,), by_proposal=True)
    return rows if rows.share >= SHARE_OF_DRAWS else None


def annealing_rungs(energy: TableEnergy, *, generator: Generator) -> tuple[float, ...]:
    """Rungs between which weights vary alike, by a pilot; (1.0,) where q is near exp F."""
    return annealed(energy, None, num_groups=PILOT_GROUPS, generator=generator).rungs


@torch.no_grad()
def annealed(
    energy: TableEnergy, rungs: Sequence[float] | None, *, num_groups: int, generator: Generator
) -> AnnealedRows:
    """Weighted draws of exp F.

    Args:
        energy: F.
        rungs: b_1 to b_R = 1; None chooses each by the draws that have come to the one before it, which biases Z a little.
        num_groups: G, of 128 draws each.
        generator: source of all draws.

    References:
        Neal 2001; Del Moral, Doucet & Jasra 2006 (resampling).
    """
    num = GROUP * num_groups
    codes = energy.reference.draw(energy.unknown_rows(num), generator)
    residual = energy.residual(codes).double()
    log_weights = torch.zeros_like(residual)
    reached = [0.0]
    while reached[-1] < 1:
        rung = _next_rung(residual, reached[-1], len(reached)) if rungs is None else rungs[len(reached) - 1]
        log_weights = log_weights + (rung - reached[-1]) * residual
        reached.append(rung)
        if rung < 1:
            origins, log_weights = _resampled(log_weights, generator)
            state = _moved(_at_rung(energy, rung), codes[origins], generator)
            codes, residual = state.codes, energy.residual.head(state.summed).double()
    return AnnealedRows(codes, log_weights, tuple(reached[1:]))


@torch.no_grad()
def annealed_back(
    energy: TableEnergy, rungs: Sequence[float], codes: Tensor, *, num_moves: int = 0, generator: Generator
) -> RowsBack:
    """Anneals rows from exp F to q.

    Args:
        energy: F.
        rungs: b_1 to b_R = 1, as for `annealed`.
        codes: rows, such as those of the data, shape (N, V), N a multiple of 128; -1 is missing, and drawn from q.
        num_moves: jumps and sweeps under F before the weights begin, which take rows of the data to exp F around them.
        generator: source of all draws.

    References:
        Grosse, Ghahramani & Adams 2015.
    """
    if isinstance(energy.residual, Residual) and not bool(energy.residual.readout.any()):
        return RowsBack(
            torch.zeros_like(codes[:, 0], dtype=torch.float64)
        )  # F is log q: no row weighs more than another
    codes = energy.reference.draw(codes, generator)
    for _ in range(num_moves):
        codes = _moved(energy, codes, generator).codes
    residual = energy.residual(codes).double()
    log_weights = torch.zeros_like(residual)
    for high, low in zip(reversed(rungs), (*reversed(rungs[:-1]), 0.0), strict=True):
        log_weights = log_weights - (high - low) * residual
        if low > 0:  # at q itself nothing is weighted any more
            origins, log_weights = _resampled(log_weights, generator)
            state = _moved(_at_rung(energy, low), codes[origins], generator)
            codes, residual = state.codes, energy.residual.head(state.summed).double()
    return RowsBack(log_weights)


def _at_rung(energy: TableEnergy, rung: float) -> TableEnergy:
    """log q + b g."""
    return TableEnergy(energy.reference, energy.residual.scaled(rung))


def _moved(energy: TableEnergy, codes: Tensor, generator: Generator) -> State:
    """Rows after a jump and a sweep."""
    free = torch.ones_like(codes, dtype=torch.bool)
    state, _ = jump(energy, chain_at(energy, codes), free=free, generator=generator)
    return sweep(energy, state, free=free, generators=lambda _: generator)[0]


def _error_by_groups(log_weights: Tensor) -> float:
    """Standard error of the log of the mean weight, by the jackknife over groups; infinite where it is not known."""
    groups = log_weights.view(-1, min(GROUP, len(log_weights))).logsumexp(dim=1)
    num = len(groups)
    left_out = torch.log1p(-groups.softmax(dim=0))
    if num < 2 or not bool(left_out.isfinite().all()):
        return math.inf
    return math.sqrt((num - 1) / num * float((left_out - left_out.mean()).square().sum()))


def _resampled(log_weights: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Numbers of the rows that go on, and their log-weights; each group on its own."""
    parts = [resampled(group, generator) for group in log_weights.split(GROUP)]
    origins = torch.cat([part.origins + GROUP * number for number, part in enumerate(parts)])
    return origins, torch.cat([part.log_weights for part in parts])


def _next_rung(residual: Tensor, rung: float, num: int) -> float:
    """The rung at which equally weighted draws keep the effective share `STEP_SHARE`, at most 1."""
    low, high = 0.0, 1 - rung
    if num >= RUNGS_AT_MOST or float(effective_share(high * residual)) >= STEP_SHARE:
        return 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if float(effective_share(middle * residual)) > STEP_SHARE else (low, middle)
    return rung + max(low, (1 - rung) / (RUNGS_AT_MOST - num))
