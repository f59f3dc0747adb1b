"""Averages over weighted draws, with effective sizes and standard errors by the jackknife.

The jackknife leaves out one draw at a time; with normalised weights w_d and averages a = sum_d w_d h_d,

    log mean without d = log mean + log(1 - w_d) + constant,   average without d = a + w_d (a - h_d) / (1 - w_d)

so that no average is computed twice. Where one draw holds all weight, nothing is known about the error: it is infinite.

Legend: N rows, D draws of each, Q quantities.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ALL_WEIGHT", "Averages", "effective_size", "log_mean_weights", "weighted_averages"]

PRODUCTS_AT_ONCE = 1 << 22  # of rows, draws and quantities
ALL_WEIGHT = 1 - 1e-12  # share of one draw, from which on no error is known


class Averages(NamedTuple):
    """Estimates and their standard errors, of the same shape.

    Args:
        value: the estimates.
        standard_error: infinite where one draw holds all weight.
    """

    value: Tensor
    standard_error: Tensor


def effective_size(log_weights: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over the last axis of log-weights, between 1 and the number of draws.

    Example:
        >>> effective_size(torch.tensor([[0.0, 0.0, 0.0], [0.0, -torch.inf, -torch.inf]]))
        tensor([3., 1.])
    """
    return (2 * log_weights.logsumexp(dim=-1) - (2 * log_weights).logsumexp(dim=-1)).exp()


def log_mean_weights(log_weights: Tensor) -> Averages:
    """log of the mean weight over the last axis.

    The mean weight is unbiased; its log is too low on average.

    Args:
        log_weights: shape (..., D), nats.

    Returns:
        `Averages` of shape (...), float64.

    Example:
        >>> log_mean_weights(torch.tensor([1.0, 3.0]).log())
        Averages(value=tensor(0.6931, dtype=torch.float64), standard_error=tensor(0.5493, dtype=torch.float64))
    """
    log_weights = log_weights.double()
    value = log_weights.logsumexp(dim=-1) - math.log(log_weights.shape[-1])
    shares = (log_weights - log_weights.amax(dim=-1, keepdim=True)).softmax(dim=-1)
    return Averages(value, _jackknife_error(torch.log1p(-shares.clamp(max=ALL_WEIGHT)), shares))


def weighted_averages(log_weights: Tensor, of_draws: Tensor) -> Averages:
    """Averages of quantities over draws, each with its share of the weight.

        sum_d w_d h_d / sum_d w_d

    Args:
        log_weights: shape (N, D), nats.
        of_draws: h, shape (N, D, Q).

    Returns:
        `Averages` of shape (N, Q), float64.

    Example:
        >>> weighted_averages(torch.zeros(1, 3), torch.tensor([[[0.0], [0.5], [1.0]]]))  # the error is .5 / sqrt(3)
        Averages(value=tensor([[0.5000]], dtype=torch.float64), standard_error=tensor([[0.2887]], dtype=torch.float64))
    """
    num_rows, num_draws, num_quantities = of_draws.shape
    parts = []
    for rows in torch.arange(num_rows, device=of_draws.device).split(
        max(1, PRODUCTS_AT_ONCE // max(1, num_draws * num_quantities))
    ):
        shares, each = log_weights[rows].double().softmax(dim=1), of_draws[rows].double()
        value = (shares[:, None] @ each)[:, 0]  # (n, Q)
        odds = shares / (1 - shares.clamp(max=ALL_WEIGHT))
        shifts = odds[:, :, None] * (value[:, None] - each)
        errors = _jackknife_error(shifts.movedim(1, -1), shares[:, None])
        parts.append(Averages(value, errors))
    if not parts:
        return Averages(*(of_draws.new_empty(0, num_quantities, dtype=torch.float64) for _ in range(2)))
    return Averages(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _jackknife_error(left_out: Tensor, shares: Tensor) -> Tensor:
    """Standard error from the estimates (..., D) without each draw, up to a common constant."""
    num = left_out.shape[-1]
    squares = (left_out - left_out.mean(dim=-1, keepdim=True)).square().sum(dim=-1)
    known = (shares < ALL_WEIGHT).all(dim=-1)
    return torch.where(known, (squares * (num - 1) / num).sqrt(), torch.inf)
