"""Standard normals between bounds: log-probability of an interval, and draws from it, far into both tails.

    log P(low < z < high) = log Phi(high) + log(1 - exp(log Phi(low) - log Phi(high)))

Intervals above zero are mirrored below it first, where log Phi keeps its precision. Everything is computed in float64.
"""

import math

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator

__all__ = ["HALF_LOG_TWO_PI", "draw_gaussians", "log_mass", "normals_between"]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
TAIL = -30.0  # log-probability below which `ndtri` is replaced by Newton steps
NUM_NEWTON_STEPS = 6


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """Log-probability that a standard normal lies between two bounds.

    Args:
        low: lower bounds; -inf is no bound.
        high: upper bounds, above `low`; inf is no bound.

    Returns:
        Nats, in float64, with the shape that the bounds broadcast to.

    Example:
        >>> log_mass(torch.tensor(-torch.inf), torch.tensor(0.0)).exp()
        tensor(0.5000, dtype=torch.float64)
    """
    low, high, _ = _mirrored(low, high)
    return _log_difference(torch.special.log_ndtr(high), torch.special.log_ndtr(low))


def normals_between(normals: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Maps standard normals to draws of a standard normal between bounds, by the inverse of its distribution function.

    The map is increasing (decreasing where the interval lies above zero), so it needs one normal per draw and no rejection.

    Args:
        normals: independent draws.
        low: lower bounds; -inf is no bound.
        high: upper bounds, above `low`; inf is no bound.

    Returns:
        Draws in float64, with the shape that the arguments broadcast to.

    Example:
        >>> unbounded = torch.tensor(torch.inf)
        >>> normals_between(torch.tensor([-1.0, 0.0]), torch.tensor(8.0), unbounded)
        tensor([8.2237, 8.0849], dtype=torch.float64)
    """
    low, high, is_mirrored = _mirrored(low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    below = torch.special.log_ndtr(normals.double()) + _log_difference(log_high, log_low)
    drawn = _log_ndtri(torch.logaddexp(log_low, below))
    drawn = torch.minimum(torch.maximum(drawn, low), high)
    return torch.where(is_mirrored, -drawn, drawn)


def draw_gaussians(means: Tensor, sds: Tensor, bounds: tuple[Tensor, Tensor] | None, generator: Generator) -> Tensor:
    """Draws independent Gaussians, each between its bounds if there are any; one normal per draw.

    Args:
        means: shape (N, D).
        sds: standard deviations, shape (N, D).
        bounds: (low, high), each (D,) or (N, D); infinity is no bound. None is no bounds.
        generator: source of the normals.
    """
    normals = draws.normal(means, generator)
    if bounds is None:
        return means + sds * normals
    low, high = bounds
    normals = normals_between(normals, (low - means) / sds, (high - means) / sds).to(means)
    return torch.minimum(torch.maximum(means + sds * normals, low), high)  # rounding


def _mirrored(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bounds in float64, intervals with a positive midpoint with their sign changed; and which those are."""
    low, high = torch.broadcast_tensors(low.double(), high.double())
    is_mirrored = low > -high
    return torch.where(is_mirrored, -high, low), torch.where(is_mirrored, -low, high), is_mirrored


def _log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    """log(exp(larger) - exp(smaller))."""
    gap = smaller - larger
    return larger + torch.where(gap > -math.log(2), (-torch.expm1(gap)).log(), torch.log1p(-gap.exp()))


def _log_ndtri(log_probs: Tensor) -> Tensor:
    """z with log Phi(z) = log_probs."""
    tail = log_probs < TAIL
    z = -(-2 * log_probs.clamp(max=TAIL)).sqrt()
    for _ in range(NUM_NEWTON_STEPS):
        log_phi = torch.special.log_ndtr(z)
        slope = (-0.5 * z.square() - HALF_LOG_TWO_PI - log_phi).exp()
        z = z - (log_phi - log_probs.clamp(max=TAIL)) / slope
    return torch.where(tail, z, torch.special.ndtri(log_probs.exp()))
