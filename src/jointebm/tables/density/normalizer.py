"""log Z of a table's density, by annealing draws of the reference into draws of exp F.

    F_b = log q + b g,   0 = b_0 < ... < b_R = 1,   log Z = log E exp(sum_r (b_r - b_(r-1)) g(c_(r-1)))

Draws go along the rungs, moved by a jump and a sweep at each of them; each group of draws is resampled on its own when its
effective share falls below half, so groups stay independent of one another. Where q is near exp F one rung is enough: plain
importance sampling.

Legend: N draws in G groups, V columns, R rungs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import State, chain_at, jump, sweep
from jointebm.training.chain_weights import effective_share, log_mean_exp, resampled

__all__ = ["AnnealedRows", "annealed", "annealing_rungs"]

GROUP = 128  # draws
STEP_SHARE = 0.7  # effective share of equally weighted draws after the step to the next rung
RUNGS_AT_MOST = 100


class AnnealedRows(NamedTuple):
    """Weighted draws of exp F.

    Args:
        codes: shape (N, V).
        log_weights: shape (N,), nats, float64; the mean of exp(log_weights) estimates Z without bias for rungs fixed
            beforehand.
        rungs: b_1 to b_R.
    """

    codes: Tensor
    log_weights: Tensor
    rungs: tuple[float, ...]

    @property
    def log_normalizer(self) -> float:
        """log Z, nats."""
        return float(log_mean_exp(self.log_weights))

    @property
    def standard_error(self) -> float:
        """Of log Z, by the jackknife over groups, nats."""
        groups = self.log_weights.view(-1, min(GROUP, len(self.log_weights))).logsumexp(dim=1)
        num = len(groups)
        left_out = torch.log1p(-groups.softmax(dim=0))
        if num < 2 or not bool(left_out.isfinite().all()):
            return math.inf
        return math.sqrt((num - 1) / num * float((left_out - left_out.mean()).square().sum()))

    @property
    def share(self) -> float:
        """Effective share of the draws, in (0, 1]."""
        return float(effective_share(self.log_weights))


def annealing_rungs(energy: TableEnergy, *, generator: Generator, num_groups: int = 4) -> tuple[float, ...]:
    """Rungs between which weights vary alike, by a pilot; (1.0,) where q is near exp F."""
    return annealed(energy, None, num_groups=num_groups, generator=generator).rungs


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
    num, num_columns = GROUP * num_groups, len(energy.num_classes)
    codes = energy.reference.draw(torch.full((num, num_columns), -1), generator)
    residual, log_weights = energy.residual(codes).double(), torch.zeros(num, dtype=torch.float64)
    free, gone = torch.ones_like(codes, dtype=torch.bool), [0.0]
    while gone[-1] < 1:
        rung = _next_rung(residual, gone[-1], len(gone)) if rungs is None else rungs[len(gone) - 1]
        log_weights = log_weights + (rung - gone[-1]) * residual
        gone.append(rung)
        if rung < 1:
            origins, log_weights = _resampled(log_weights, generator)
            tempered = TableEnergy(energy.reference, energy.residual.scaled(rung))  # log q + b g
            state, _ = jump(tempered, chain_at(tempered, codes[origins]), free=free, generator=generator)
            state = _swept(tempered, state, free, generator)
            codes, residual = state.codes, energy.residual.head(state.summed).double()
    return AnnealedRows(codes, log_weights, tuple(gone[1:]))


def _swept(energy: TableEnergy, state: State, free: Tensor, generator: Generator) -> State:
    return sweep(energy, state, free=free, generators=lambda _: generator)


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
