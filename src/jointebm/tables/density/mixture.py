"""Mixtures of products of categoricals, fitted by EM with missing entries marginalised; base and reference of a table's f.

    p(c) = sum_m pi_m prod_j theta_jm(c_j)

The mixture is normalised; a missing entry is left out of the product, so marginals and conditionals are exact, and draws
choose the component first. With one component the columns are independent.

Legend: N rows, V columns, K_j classes of column j, F = sum of K_j, M components. Codes are integers; -1 is missing.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, pad

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator

__all__ = ["Mixture", "em_step", "fit_mixture"]

VECTOR = 16  # float32 numbers in the longest vector of a processor
ENTRIES_AT_ONCE = 1 << 22  # of one-hot rows in an EM step: memory does not grow with the table


class Mixture(nn.Module):
    """A mixture of products of categoricals over V columns of codes.

    A new mixture is uniform over all codes.

    Args:
        num_classes: K_j of each column.
        num_components: M.

    Example:
        >>> mixture = Mixture((2, 3), num_components=4)
        >>> mixture(torch.tensor([[0, 2], [1, -1], [-1, -1]])).exp()
        tensor([0.1667, 0.5000, 1.0000])
    """

    log_weights: Tensor  # (M,), log pi
    log_probs: Tensor  # (F, M), log theta; classes of all columns concatenated

    def __init__(self, num_classes: Sequence[int], num_components: int = 1) -> None:
        super().__init__()
        self.num_classes = tuple(num_classes)
        self.offsets = (0, *accumulate(self.num_classes))  # first feature of each column, and F
        uniform = torch.cat([torch.full((count, num_components), -math.log(count)) for count in self.num_classes])
        self.register_buffer("log_weights", torch.full((num_components,), -math.log(num_components)))
        self.register_buffer("log_probs", uniform)

    def forward(self, codes: Tensor) -> Tensor:
        """Log-probability of the observed entries of each row, shape (N,), nats."""
        return self.components(codes).logsumexp(dim=1)

    def components(self, codes: Tensor) -> Tensor:
        """Log-probability of each component and the observed entries together, shape (N, M)."""
        padded = torch.cat([self.log_probs, self.log_probs.new_zeros(1, len(self.log_weights))])
        return embedding_bag(features(codes, self.offsets), padded, mode="sum") + self.log_weights

    def of_classes(self, components: Tensor, column: int) -> Tensor:
        """log p(c_j = k, observed entries) for every class k of column j, shape (N, K_j).

        Args:
            components: from `components`, with column j missing, shape (N, M).
            column: j.
        """
        peak = components.amax(dim=1, keepdim=True)
        probs = linear(*aligned((components - peak).exp(), self.of_column(column).exp()))  # (N, K_j)
        return probs.log() + peak

    def of_column(self, column: int) -> Tensor:
        """log theta of one column, shape (K_j, M)."""
        return self.log_probs[self.offsets[column] : self.offsets[column + 1]]

    def draw(
        self, codes: Tensor, generator: Generator, *, log_weights: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Draws the missing entries of each row from their exact joint conditional given the observed ones.

        Args:
            codes: shape (N, V).
            generator: source of V + 1 choices per row.
            log_weights: per column, added to the log-probability of its classes where it is missing, shape (K_j,), or None.

        Returns:
            Completed codes, shape (N, V).
        """
        missing = codes < 0
        tables = [self.of_column(column) for column in range(len(self.num_classes))]
        components = self.components(codes)
        for column, each in enumerate(log_weights or ()):
            if each is not None:
                tables[column] = tables[column] + each[:, None]
                components = components + missing[:, column, None] * tables[column].logsumexp(dim=0)
        chosen = draws.choose(components, generator)  # (N,)
        drawn = [draws.choose(table.T[chosen], generator) for table in tables]
        return torch.where(missing, torch.stack(drawn, dim=1), codes)


def aligned(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Pads the last axis of both with zeros to whole vectors, so that `linear` rounds a row alike at every place.

    Without it, some processors sum rows at the end of a batch in another order.

    Example:
        >>> [part.shape for part in aligned(torch.ones(2, 15), torch.ones(3, 15))]
        [torch.Size([2, 16]), torch.Size([3, 16])]
    """
    num = -rows.shape[-1] % VECTOR
    return (pad(rows, (0, num)), pad(weights, (0, num))) if num else (rows, weights)


def features(codes: Tensor, offsets: Sequence[int]) -> Tensor:
    """Index of the feature (column and class) of each code, shape (N, V); F if missing."""
    first = torch.tensor(offsets[:-1], device=codes.device)
    return torch.where(codes < 0, offsets[-1], codes.to(torch.int64) + first)


def em_step(mixture: Mixture, codes: Tensor, prior: Tensor, *, prior_strength: float) -> tuple[Mixture, float]:
    """One step of expectation maximisation with a Dirichlet prior around the columns' marginals.

        r_im = p(m | c_i),   theta_jm(k) = (sum_i r_im [c_ij = k] + s prior_jk) / (sum_i r_im [c_ij observed] + s)

    Never decreases log-likelihood + log-prior, where the log-prior is s sum_jmk prior_jk log theta_jm(k) up to a constant.

    Args:
        mixture: of this step; left unchanged.
        codes: shape (N, V); missing entries are marginalised.
        prior: of each feature, shape (F,); positive, sums to one in each column.
        prior_strength: s, in rows per component.

    Returns:
        (mixture, objective): the next mixture, and log-likelihood + log-prior of the current one, nats.
    """
    dtype, num_features = mixture.log_probs.dtype, mixture.offsets[-1]
    counts = mixture.log_probs.new_zeros(num_features, len(mixture.log_weights))
    weights = torch.zeros_like(mixture.log_weights)
    likelihood = 0.0
    for rows in codes.split(max(1, ENTRIES_AT_ONCE // num_features)):
        joint = mixture.components(rows)  # (n, M)
        total = joint.logsumexp(dim=1, keepdim=True)
        likelihood += float(total.sum(dtype=torch.float64))
        responsibilities = (joint - total).exp_()
        weights += responsibilities.sum(dim=0)
        one_hot = torch.zeros(len(rows), num_features + 1, dtype=dtype, device=rows.device)
        one_hot.scatter_(1, features(rows, mixture.offsets), 1.0)
        counts.addmm_(one_hot[:, :-1].T, responsibilities)
    objective = likelihood + prior_strength * float((prior[:, None] * mixture.log_probs).sum(dtype=torch.float64))
    counts += prior_strength * prior[:, None]
    totals = torch.cat(
        [part.sum(dim=0, keepdim=True).expand_as(part) for part in counts.split(list(mixture.num_classes))]
    )
    following = Mixture(mixture.num_classes, len(weights)).to(dtype)
    following.log_probs.copy_((counts / totals).log())
    following.log_weights.copy_((weights / weights.sum()).clamp(min=torch.finfo(dtype).tiny).log())
    return following, objective


def fit_mixture(
    codes: Tensor,
    num_classes: Sequence[int],
    *,
    num_components: int,
    generator: Generator,
    prior_strength: float = 1.0,
    num_iterations: int = 100,
    tolerance: float = 1e-3,
) -> Mixture:
    """Fits a mixture to rows with missing entries by EM, started around randomly chosen rows.

    Args:
        codes: shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        num_components: M; 1 gives independent columns.
        generator: source of the rows to start from.
        prior_strength: pseudo-counts of each component, in rows distributed like the columns' marginals.
        num_iterations: of EM, at most.
        tolerance: stops when an iteration improves the objective by less than this, in nats per row.

    Example:
        >>> codes = torch.tensor([[0, 0], [1, 1], [1, -1]]).repeat(50, 1)
        >>> mixture = fit_mixture(codes, (2, 2), num_components=2, generator=torch.Generator().manual_seed(0))
        >>> mixture(torch.tensor([[1, 1]])).exp() > 3 * mixture(torch.tensor([[0, 1]])).exp()
        tensor([True])
    """
    mixture = Mixture(num_classes, num_components)
    prior = _marginals(codes, mixture.offsets)
    priority = draws.uniform(torch.empty(len(codes)), generator)
    around = codes[priority.argsort()[torch.arange(num_components) % len(codes)]]  # (M, V)
    is_at = torch.zeros(num_components, len(prior) + 1).scatter_(1, features(around, mixture.offsets), 1.0)[:, :-1]
    observed = torch.cat(
        [(around[:, [j]] >= 0).expand(-1, count) for j, count in enumerate(mixture.num_classes)], dim=1
    )
    if num_components > 1:
        mixture.log_probs.copy_(torch.where(observed, 0.5 * prior + 0.5 * is_at, prior).log().T)
    before = -math.inf
    for _ in range(num_iterations if num_components > 1 else 1):
        mixture, objective = em_step(mixture, codes, prior, prior_strength=prior_strength)
        if objective - before < tolerance * len(codes):
            break
        before = objective
    return mixture


def _marginals(codes: Tensor, offsets: Sequence[int]) -> Tensor:
    """Share of each class in its column with half a pseudo-count, shape (F,)."""
    parts = []
    for column, first in enumerate(offsets[:-1]):
        seen = codes[:, column]
        counts = torch.bincount(seen[seen >= 0].to(torch.int64), minlength=offsets[column + 1] - first) + 0.5
        parts.append(counts / counts.sum())
    return torch.cat(parts)
