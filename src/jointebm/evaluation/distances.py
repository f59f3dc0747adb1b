"""Distances between samples and real data: total variance, nearest neighbours, Frechet distance.

Legend: N and M rows, D entries of a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Frechet", "frechet_distance", "nearest_distances", "total_variance"]

MEASURED_AT_ONCE = 256


@dataclass(frozen=True)
class Frechet:
    """Frechet distances in the features of our own small classifier; not FID, and not comparable with any FID.

    A Frechet distance estimated from few rows is biased upwards. Both distances therefore use equally many rows; the second
    is what the first would be if samples were as good as data.
    """

    features: str  # what they are, in words
    num_rows: int  # on either side of either distance, equally many per condition
    num_features: int
    samples: float  # between samples and one half of the test rows
    data: float  # between the other half of the test rows and that half


def total_variance(rows: Tensor) -> float:
    """Variance summed over all entries of a row of (N, ...), N >= 2: the trace of the covariance."""
    return float(rows.double().var(dim=0).sum())


def nearest_distances(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Euclidean distance from each row of (N, ...) to the nearest of the others, or of the other rows without `others`.

    Example:
        >>> nearest_distances(torch.tensor([[0.0], [1.0], [5.0]])).tolist()
        [1.0, 1.0, 4.0]
    """
    # cdist subtracts squares of entries, for which single precision is too coarse.
    left = rows.flatten(1).double()
    right = left if others is None else others.flatten(1).double()
    parts = []
    for start in range(0, len(left), MEASURED_AT_ONCE):
        distances = torch.cdist(left[start : start + MEASURED_AT_ONCE], right)  # (rows at once, M)
        if others is None:
            distances.diagonal(offset=start).fill_(torch.inf)
        parts.append(distances.amin(dim=1))
    return torch.cat(parts)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance between the normal distributions fitted to two sets of rows.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), with m the means and C the covariances (divisor N - 1).
    Covariances may be singular, as with fewer rows than entries. At least two rows of each are needed.

    References:
        Dowson & Landau 1982. Heusel et al. 2017, who apply it to features of an Inception network (FID).

    Example:
        >>> rows = torch.tensor([[0.0], [2.0]])
        >>> frechet_distance(rows, rows + 3)
        9.0
    """
    a, b = a.double(), b.double()
    root = _root(a.T.cov().reshape(a.shape[1], -1))
    cross = _root(root @ b.T.cov().reshape(root.shape) @ root).trace()
    distance = (a.mean(dim=0) - b.mean(dim=0)).square().sum() + a.var(dim=0).sum() + b.var(dim=0).sum() - 2 * cross
    return float(distance.clamp(min=0))  # rounding


def _root(matrix: Tensor) -> Tensor:
    """The square root of a positive semi-definite matrix; eigenvalues made negative by rounding are set to zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
