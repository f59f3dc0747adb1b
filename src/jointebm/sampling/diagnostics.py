"""How far an answer can be trusted: effective sample size, acceptance, split R-hat, and a warning where they are poor.

Legend: T states of N chains.
"""

import math
import warnings

import torch
from pydantic import Field
from torch import Tensor

from jointebm.storage.config import Config

__all__ = ["MIN_ESS", "MIN_JUMPS", "ConvergenceWarning", "Diagnostics", "split_r_hat", "warn_if_poor"]

MIN_ESS = 50.0  # draws of the reference; with fewer, starts of chains do not have the right weights
MIN_JUMPS = 2.0  # accepted per chain; with fewer, chains stay near their starts


class ConvergenceWarning(UserWarning):
    """An answer by finite draws or chains that may be far from the saved density; names the remedy."""


class Diagnostics(Config):
    """Of a run of chains that start from reweighted draws of the reference."""

    num_draws: int = Field(description="draws of the reference that starts were chosen from")
    ess: float = Field(description="effective number of these draws, (sum w)^2 / sum w^2")
    num_steps: int = Field(description="kernel steps of each chain")
    accept_rate: dict[str, float] = Field(description="mean acceptance probability of each kernel")
    r_hat: float | None = Field(
        None, description="largest split R-hat of f and every real and label; null: no trajectory"
    )

    @property
    def num_jumps(self) -> float:
        """Jumps that a chain accepts in its run, on average."""
        return self.num_steps * self.accept_rate.get("Jump", 0.0)

    @property
    def is_poor(self) -> bool:
        """Whether neither the starts nor the jumps settle the weights of modes."""
        return self.ess < MIN_ESS and self.num_jumps < MIN_JUMPS

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.2f}" for name, rate in self.accept_rate.items())
        r_hat = "" if self.r_hat is None else f"; split R-hat {self.r_hat:.3f}"
        return f"ess {self.ess:.0f} of {self.num_draws} draws; accepted: {rates or 'no moves'}{r_hat}"


def split_r_hat(states: Tensor) -> float:
    """The largest split R-hat of several quantities: spread between half chains against the spread inside them.

    sqrt(((n - 1) / n W + B / n) / W), with W the mean variance of the half chains of length n and B / n the variance of
    their means. About 1 if chains from all starts agree; quantities that never change are left out.

    Args:
        states: shape (T, N) or (T, N, quantities), T >= 4.

    References:
        Gelman et al. 2013, Sec. 11.4.

    Example:
        >>> chains = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
        >>> split_r_hat(chains) < 1.05, split_r_hat(chains + 5 * torch.arange(50)) > 2
        (True, True)
    """
    length = len(states) // 2
    if length < 2:
        raise ValueError(f"split_r_hat: needs at least 4 states, got {len(states)}")
    flat = states.double().reshape(len(states), states.shape[1], -1)
    halves = torch.cat([flat[:length], flat[length : 2 * length]], dim=1)  # (n, 2 N, quantities)
    within, between = halves.var(dim=0).mean(dim=0), halves.mean(dim=0).var(dim=0)
    known = within > 0
    if not bool(known.any()):
        return 1.0 if not bool((between > 0).any()) else math.inf
    return float(((length - 1) / length + between[known] / within[known]).sqrt().max())


def warn_if_poor(diagnostics: Diagnostics, what: str) -> None:
    """Warns if neither starts nor jumps settle the weights of modes.

    Args:
        diagnostics: of the run.
        what: the answer, which begins the message.
    """
    if diagnostics.is_poor:
        warnings.warn(
            f"{what}: {diagnostics}; below an ess of {MIN_ESS:.0f} and {MIN_JUMPS:.0f} jumps per chain, modes may have "
            "wrong weights. Remedy: a larger num_steps, fewer or wider conditions, or a fit with more rows",
            ConvergenceWarning,
            stacklevel=3,
        )
