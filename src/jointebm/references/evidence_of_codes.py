"""The factors of evidence that completed rows have.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["evidence_of_codes"]


def evidence_of_codes(codes: Tensor, free: Tensor, evidence: Sequence[Tensor | None] | None) -> Tensor:
    """Sum of the log-weights of the free codes of each row, shape (N,), nats.

    Args:
        codes: shape (N, V); -1 is missing, and weighs nothing.
        free: entries that evidence concerns, shape (N, V), bool.
        evidence: per column, log-weights of its classes, shape (K_j,) or (N, K_j), or None.

    Example:
        >>> weights = torch.tensor([0.5, 0.25]).log()
        >>> evidence_of_codes(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[True, True], [False, True]]), [weights, None]).exp()
        tensor([0.5000, 1.0000])
    """
    total = torch.zeros(len(codes), device=codes.device)
    for column, weights in enumerate(evidence or ()):
        if weights is not None:
            seen = codes[:, column].clamp(min=0)
            of_codes = weights[seen] if weights.ndim == 1 else weights.gather(1, seen[:, None])[:, 0]
            counts = free[:, column] & (codes[:, column] >= 0)
            total = total + torch.where(counts, of_codes, 0)
    return total
