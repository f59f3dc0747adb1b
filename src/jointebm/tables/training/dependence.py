"""Whether the rows of a table show that its columns depend on one another."""

import math

import torch
from torch import Tensor

from jointebm.randomness.draws import shuffled as shuffled_rows

__all__ = ["MAX_DEPENDENCE_ROWS", "chance_of_dependence"]

MAX_DEPENDENCE_ROWS = 2_000  # that the mutual information is taken over
NUM_SHUFFLES = 50


def chance_of_dependence(codes: Tensor, generator: torch.Generator) -> float:
    """About the largest probability that independent columns show as much mutual information as some two columns do.

    With I the mutual information of two columns times the number of rows, and m, v its mean and variance if entries are
    shuffled within columns, the probability is the smallest P e^-x with I = m + sqrt(2 v x) + x, for P pairs of columns. The
    bound is that of a chi-square variable, which 2 I is in large tables.

    Not guaranteed: m and v are those of 50 shuffles, and entries must be missing independently of what they would be.

    Args:
        codes: shape (N, V); -1 is missing.
        generator: of the shuffles.
    """
    if codes.shape[1] < 2:
        return 1.0
    shuffled = torch.stack([_information(_shuffled(codes, generator)) for _ in range(NUM_SHUFFLES)])
    excess = (_information(codes) - shuffled.mean(dim=0)).clamp(min=0)
    spread = 2 * shuffled.var(dim=0)
    x = ((spread + 4 * excess).sqrt() - spread.sqrt()).square() / 4
    return min(1.0, len(x) * math.exp(-float(x.amax())))


def _shuffled(codes: Tensor, generator: torch.Generator) -> Tensor:
    shuffled = codes.clone()
    for column in range(codes.shape[1]):
        rows = (codes[:, column] >= 0).nonzero()[:, 0]
        shuffled[rows, column] = codes[rows[shuffled_rows(len(rows), generator)], column]
    return shuffled


def _information(codes: Tensor) -> Tensor:
    """Mutual information times rows, nats, of each two columns where both are observed, shape (V (V - 1) / 2,)."""
    counts = (codes.amax(dim=0) + 1).clamp(min=1)
    one_hot = torch.cat(
        [
            torch.eye(count + 1, dtype=torch.float64, device=codes.device)[codes[:, j], :count]
            for j, count in enumerate(counts.tolist())
        ],
        dim=1,
    )  # -1 is the last class, which is cut
    observed = (codes >= 0).double()
    column = torch.repeat_interleave(torch.arange(len(counts), device=codes.device), counts)
    both, of_class, seen = one_hot.T @ one_hot, one_hot.T @ observed, observed.T @ observed
    expected = of_class[:, column] * of_class[:, column].T / seen[column][:, column].clamp(min=1)
    terms = torch.where(both > 0, both * (both / expected).log(), 0.0)
    in_column = torch.eye(len(counts), dtype=torch.float64, device=codes.device)[column]
    above = torch.ones(len(counts), len(counts), device=codes.device).triu(diagonal=1).bool()
    return (in_column.T @ terms @ in_column)[above]
