"""Convergence of a trajectory: rank-normalised split R-hat, bulk and tail effective sizes, Monte Carlo standard errors.

Legend: T states of N chains, C half chains of L = T // 2 states, Q quantities.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Convergence", "convergence_of", "effective_draws"]

TAILS = (0.05, 0.95)
MIN_STATES = 8


class Convergence(NamedTuple):
    """How well a quantity is known from a trajectory.

    Args:
        mean: over all states and chains.
        standard_error: Monte Carlo standard error of the mean, standard deviation / sqrt(ess of the mean).
        r_hat: rank-normalised split R-hat, the larger of that of the values and that of their distances from the median;
            below 1.01 is good, and NaN stands for a quantity that never changes.
        ess_bulk: effective number of draws of the rank-normalised values; 100 per chain is asked for in the reference.
        ess_tail: the smaller of those of the two 5% tails; a tail that holds all values counts every draw.

    Example:
        >>> convergence_of(torch.randn(500, 4, generator=torch.Generator().manual_seed(0)))._fields
        ('mean', 'standard_error', 'r_hat', 'ess_bulk', 'ess_tail')
    """

    mean: float
    standard_error: float
    r_hat: float
    ess_bulk: float
    ess_tail: float


def convergence_of(states: Tensor) -> Convergence:
    """Diagnoses one quantity.

    Not guaranteed: chains that all miss a mode agree perfectly. Start them apart.

    Args:
        states: shape (T, N), T >= 8.

    Raises:
        ValueError: fewer than eight states, or one is not finite.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021, Rank-normalization, folding, and localization.

    Example:
        >>> states = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> good = convergence_of(states)
        >>> good.r_hat < 1.01, 1500 < good.ess_bulk < 2500, round(good.standard_error * 2000**0.5, 1)
        (True, True, 1.0)
        >>> convergence_of(states + torch.tensor([0.0, 0.0, 0.0, 3.0])).r_hat > 1.2
        True
    """
    if states.ndim != 2 or len(states) < MIN_STATES or not bool(states.isfinite().all()):
        raise ValueError(
            f"convergence_of: needs finite states of shape (T, N) with T >= {MIN_STATES}, got shape {tuple(states.shape)} "
            f"with {int((~states.isfinite()).sum())} that are not finite"
        )
    states = states.to(torch.float64)
    halves = _split(states)
    mean = float(states.mean())
    if bool((halves == halves[0, 0]).all()):
        return Convergence(mean, 0.0, math.nan, math.nan, math.nan)
    folded = (halves - torch.quantile(halves.flatten(), 0.5)).abs()  # of an even number, `median` takes the lower
    r_hats = [_r_hat(_normalised_ranks(each)) for each in (halves, folded)]
    quantiles = [torch.quantile(states.flatten(), share) for share in TAILS]
    return Convergence(
        mean,
        float(states.std()) / math.sqrt(effective_draws(halves)),
        max(each for each in r_hats if not math.isnan(each)),
        effective_draws(_normalised_ranks(halves)),
        min(_effective_draws_below(halves, quantile) for quantile in quantiles),
    )


def _effective_draws_below(chains: Tensor, quantile: Tensor) -> float:
    """Effective draws of whether values (L, C) are at most a quantile; all of them count where that is always so."""
    ess = effective_draws((chains <= quantile).to(torch.float64))
    return float(chains.numel()) if math.isnan(ess) else ess


def effective_draws(chains: Tensor) -> float:
    """Effective number of independent draws for the mean, from autocorrelations within and between chains.

    C L / tau,  tau = -1 + 2 sum_t P_t + rho_2s,  P_t = rho_2t + rho_(2t+1) while positive, made to fall,
    rho_t = 1 - (W - mean autocovariance_t) / var+,  var+ = (L - 1) / L W + B / L

    with rho_2s the first one after the sum, if it is positive. At most C L log10(C L), as in the reference; NaN if nothing
    changes. Not split here. The numbers are those of ArviZ and Stan.

    Args:
        chains: shape (L, C).

    References:
        Geyer 1992 (initial monotone sequence); Vehtari et al. 2021, Sec. 3.2.

    Example:
        >>> steps = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> chain = [steps[0] / 0.75**0.5]
        >>> for step in steps[1:]:
        ...     chain.append(0.5 * chain[-1] + step)  # one third of the draws are effective
        >>> abs(effective_draws(torch.stack(chain)) / 16000 - 1 / 3) < 0.03
        True
    """
    length, num_chains = chains.shape
    covariance = _autocovariance(chains).mean(dim=1)  # (L,), divided by L
    within = float(covariance[0]) * length / (length - 1)
    between = float(chains.mean(dim=0).var()) if num_chains > 1 else 0.0
    pooled = within * (length - 1) / length + between
    if not pooled > 0:
        return math.nan
    rho = (1 - (within - covariance) / pooled).tolist()
    rho[0] = 1.0
    lag, total, previous = 0, 0.0, math.inf
    while rho[lag] + rho[lag + 1] > 0 and lag < length - 4:
        previous = min(previous, rho[lag] + rho[lag + 1])
        total += previous
        lag += 2
    draws = num_chains * length
    tau = max(2 * total - 1 + max(rho[lag], 0.0), 1 / math.log10(draws))
    return draws / tau


def _split(states: Tensor) -> Tensor:
    """First and second halves of the chains side by side, (L, 2 N); the middle one of an odd number is left out."""
    length = len(states) // 2
    return torch.cat([states[:length], states[-length:]], dim=1)


def _normalised_ranks(values: Tensor) -> Tensor:
    """Normal quantiles of the ranks among all values, ties averaged: Phi^-1((rank - 3/8) / (S + 1/4))."""
    _, index, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(dim=0).to(torch.float64)
    rank = (last - (counts - 1) / 2)[index]
    return torch.special.ndtri((rank - 0.375) / (values.numel() + 0.25)).reshape(values.shape)


def _r_hat(chains: Tensor) -> float:
    """sqrt(var+ / W) of chains (L, C); NaN if nothing changes, infinity if only chains differ."""
    length = len(chains)
    within, between = float(chains.var(dim=0).mean()), float(chains.mean(dim=0).var())
    if within == 0:
        return math.nan if between == 0 else math.inf
    return math.sqrt((length - 1) / length + between / within)


def _autocovariance(chains: Tensor) -> Tensor:
    """Autocovariance of each chain at every lag, (L, C), sums divided by L."""
    length = len(chains)
    transformed = torch.fft.rfft(chains - chains.mean(dim=0), n=2 * length, dim=0)
    return torch.fft.irfft(transformed.abs().square(), n=2 * length, dim=0)[:length] / length
