"""Log-weights of persistent chains: importance weights that take up every change of the parameters.

A chain at x that carries the log-weight A, with E[exp(A) h(x)] = Z_F E_{p_F}[h(x)] for every h, carries

    A + F_new(x) - F_old(x)     (Jarzynski's equality)

after a change of F, and the same A after a step of a kernel that leaves exp F invariant. Weighted averages over chains are
then consistent for p_F, whether or not the chains cross between modes, and the mean of exp(A) estimates Z_F / Z_q if the
chains started as draws of a normalised q with A = F - log q. The variance of the weights grows as F moves; resampling
bounds it within a batch, at the price of lost diversity.

Legend: N chains of a batch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator

__all__ = ["MIN_SHARE", "ChainWeights", "Resampled", "effective_share", "log_mean_exp", "resampled"]

MIN_SHARE = 0.5  # of a batch; below this effective share chains are resampled


class ChainWeights(NamedTuple):
    """Log-weights of chains, and where they stand.

    Args:
        log_weights: shape (N,), float64, nats; 0 for a fresh draw of q.
        f: F of the chains' positions when the log-weights were last updated, shape (N,), float64, nats; log q for a fresh
            draw of q, so that the first update makes its log-weight F - log q.
    """

    log_weights: Tensor
    f: Tensor

    def updated(self, f: Tensor) -> Tensor:
        """The log-weights under a changed F, whose values at the same positions are `f`, shape (N,)."""
        return self.log_weights + (f.double() - self.f)


class Resampled(NamedTuple):
    """Chains of a batch after resampling.

    Args:
        origins: which chain each one now is, shape (N,), int64; the identity if nothing was resampled.
        log_weights: of the chains `origins` names, shape (N,), nats; all equal after resampling.
        share: effective share of the batch before resampling, in (0, 1], a scalar tensor.
    """

    origins: Tensor
    log_weights: Tensor
    share: Tensor


def effective_share(log_weights: Tensor) -> Tensor:
    """Effective sample size (sum w)^2 / sum w^2 as a share of the N chains, in [1 / N, 1], a scalar.

    Example:
        >>> effective_share(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
        tensor(0.5000)
    """
    size = 2 * log_weights.logsumexp(dim=0) - (2 * log_weights).logsumexp(dim=0)
    return (size - math.log(len(log_weights))).exp()


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """log of the mean weight, a scalar, nats: an estimate of log Z for chains as above."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def resampled(log_weights: Tensor, generator: Generator, *, min_share: float = MIN_SHARE) -> Resampled:
    """Resamples a batch systematically if its effective share is below `min_share`; the mean weight stays the same.

    Chain i is kept floor(N w_i) or ceil(N w_i) times, N w_i on average, with w the normalised weights. One uniform is drawn
    in either case, so that the stream of random numbers does not depend on the weights.

    Args:
        log_weights: shape (N,), nats.
        generator: source of one uniform.
        min_share: effective share below which chains are resampled, in [0, 1]; 0 never resamples.

    References:
        Carbone, Hua, Coste & Vanden-Eijnden 2023, Alg. 4. Kitagawa 1996 (systematic resampling).

    Example:
        >>> resampled(torch.tensor([0.0, -torch.inf]), torch.Generator(), min_share=0.6).origins
        tensor([0, 0])
    """
    num = len(log_weights)
    share = effective_share(log_weights)
    shift = draws.uniform(log_weights.new_empty((), dtype=torch.float64), generator)
    edges = log_weights.double().softmax(dim=0).cumsum(dim=0)
    places = (torch.arange(num, device=log_weights.device) + shift) / num
    origins = torch.searchsorted(edges, places).clamp(max=num - 1)
    poor = share < min_share
    kept = torch.arange(num, device=log_weights.device)
    return Resampled(
        torch.where(poor, origins, kept),
        torch.where(poor, log_mean_exp(log_weights).expand(num), log_weights),
        share,
    )
