"""Weights of rows: each row is repeated about as often as its weight says, without random draws.

Legend: N rows.
"""

import torch
from torch import Tensor

__all__ = ["resampled_rows"]


def resampled_rows(weights: Tensor, codes: Tensor) -> Tensor:
    """Numbers of N rows, of which row i occurs N w_i / sum(w) times, rounded up or down; shape (N,).

    Systematic resampling at the middles of N equal steps, of rows in the order of their codes: equal rows together have
    their share to one row, and so have those with equal first columns.

    Args:
        weights: not negative, and not all zero, shape (N,).
        codes: shape (N, V).

    Example:
        >>> resampled_rows(torch.tensor([1.0, 3.0, 0.0, 2.0]), torch.tensor([[0], [2], [1], [1]]))
        tensor([0, 3, 1, 1])
    """
    if not len(weights):
        return codes.new_empty(0, dtype=torch.int64)
    order = codes.unique(dim=0, return_inverse=True)[1].argsort(stable=True)
    weights = weights[order]
    ends = (weights.double() / weights.double().sum()).cumsum(dim=0)
    middles = (torch.arange(len(weights), dtype=torch.float64, device=weights.device) + 0.5) / len(weights)
    positive = weights.nonzero().flatten()
    chosen = torch.searchsorted(ends[positive], middles, right=True).clamp(max=len(positive) - 1)
    return order[positive[chosen]]
