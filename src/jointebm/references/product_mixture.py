"""A mixture of products of categoricals and Gaussians, over rows of codes and reals.

    p(c, x) = sum_m pi_m prod_j theta_jm(c_j) prod_d Normal(x_d; mu_dm, sigma_dm)

It is normalised, a missing entry is left out of the products, every conditional is a ratio of two such sums, and it is
sampled by drawing the component first. With one component all variables are independent.

Legend: N rows, V columns of codes, K_j classes of column j, F = sum of K_j, D columns of reals, M components. Codes are
whole numbers, -1 is missing; NaN is a missing real.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, pad

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.randomness.waiting import may_read
from jointebm.references.evidence_of_codes import evidence_of_codes
from jointebm.references.gaussians import HALF_LOG_TWO_PI, draw_gaussians, log_mass
from jointebm.references.layout import Constraints, MixedRows

__all__ = ["ProductMixture", "features", "linear_by_row"]

VECTOR = 16  # single floats of the longest vectors of a processor
MIN_ROWS = 16  # of a product of matrices whose rows round alike
ENTRIES_AT_ONCE = 1 << 22  # of rows, reals and components: memory does not grow with the data


class ProductMixture(nn.Module):
    """A mixture of products over V columns of codes and D columns of reals.

    A fresh one is uniform over all codes and standard normal over reals.

    Args:
        num_classes: K_j of each column of codes.
        num_components: M.
        num_reals: D.

    Example:
        >>> mixture = ProductMixture((2, 3), num_components=4)
        >>> mixture(torch.tensor([[0, 2], [1, -1], [-1, -1]])).exp()
        tensor([0.1667, 0.5000, 1.0000])
    """

    log_weights: Tensor  # (M,), log pi
    log_probs: Tensor  # (F, M), log theta; the classes of all columns one after the other
    means: Tensor  # (D, M)
    log_sds: Tensor  # (D, M)

    def __init__(self, num_classes: Sequence[int], num_components: int = 1, *, num_reals: int = 0) -> None:
        super().__init__()
        self.num_classes = tuple(num_classes)
        self.offsets = (0, *accumulate(self.num_classes))  # first feature of each column, and F
        uniform = [torch.full((count, num_components), -math.log(count)) for count in self.num_classes]
        self.register_buffer("log_weights", torch.full((num_components,), -math.log(num_components)))
        self.register_buffer("log_probs", torch.cat([torch.empty(0, num_components), *uniform]))
        self.register_buffer("means", torch.zeros(num_reals, num_components))
        self.register_buffer("log_sds", torch.zeros(num_reals, num_components))

    def forward(self, codes: Tensor, reals: Tensor | None = None) -> Tensor:
        """Log-density of the observed entries of each row, shape (N,), nats."""
        return self.components(codes, reals).logsumexp(dim=1)

    def components(self, codes: Tensor, reals: Tensor | None = None) -> Tensor:
        """Log-density of each component and the observed entries together, shape (N, M).

        Args:
            codes: shape (N, V).
            reals: shape (N, D); None is all missing.
        """
        if self.num_classes:
            padded = torch.cat([self.log_probs, self.log_probs.new_zeros(1, len(self.log_weights))])
            joint = embedding_bag(features(codes, self.offsets), padded, mode="sum") + self.log_weights
        else:
            joint = self.log_weights.expand(len(codes), -1)
        return joint if reals is None or not len(self.means) else joint + self.of_reals(reals)

    def components_of_one_hot(self, one_hot: Tensor, reals: Tensor) -> Tensor:
        """`components`, linear in the one-hot codes (N, F) and so differentiable in them, shape (N, M)."""
        joint = linear_by_row(one_hot, self.log_probs.T) + self.log_weights
        return joint + self.of_reals(reals) if len(self.means) else joint

    def of_reals(self, reals: Tensor) -> Tensor:
        """Log-density of the observed reals of each row in each component, shape (N, M).

        Where values may be read, rows take the way that is fastest for what is missing; elsewhere one way for all.
        """
        if not may_read(reals):
            return self._of_observed(reals)
        missing = reals.isnan()
        if not bool(missing.any()):
            return self._of_whole(reals)
        if bool(missing.all()):
            return self.log_weights.new_zeros(len(reals), len(self.log_weights))
        precisions = (-self.log_sds).exp()
        parts = []
        for rows in reals.split(max(1, ENTRIES_AT_ONCE // max(1, self.means.numel()))):
            seen = ~rows.isnan()
            distances = (torch.where(seen, rows, 0)[:, :, None] - self.means) * precisions  # (n, D, M)
            log_densities = -0.5 * distances.square() - self.log_sds - HALF_LOG_TWO_PI
            parts.append(torch.where(seen[:, :, None], log_densities, 0).sum(dim=1))
        return torch.cat(parts)

    def _of_whole(self, reals: Tensor) -> Tensor:
        """`of_reals` of rows without missing entries, by a product of matrices in float64: squares cancel."""
        means, rows, precisions = self.means.double(), reals.double(), (-2 * self.log_sds.double()).exp()
        constant = (0.5 * means.square() * precisions + self.log_sds + HALF_LOG_TWO_PI).sum(dim=0)
        both, weights = torch.cat([rows.square(), rows], dim=1), torch.cat([-0.5 * precisions, means * precisions])
        return (linear_by_row(both, weights.T) - constant).to(self.means.dtype)

    def _of_observed(self, reals: Tensor) -> Tensor:
        """`of_reals` of any rows by one product of matrices, as `_of_whole`; a missing entry is zero in all its terms."""
        means, log_sds = self.means.double(), self.log_sds.double()
        precisions = (-2 * log_sds).exp()
        constants = 0.5 * means.square() * precisions + log_sds + HALF_LOG_TWO_PI
        seen = ~reals.isnan()
        rows = torch.where(seen, reals, 0).double()
        terms = torch.cat([rows.square(), rows, seen.double()], dim=1)
        weights = torch.cat([-0.5 * precisions, means * precisions, -constants])
        return linear_by_row(terms, weights.T).to(self.means.dtype)

    def of_classes(self, components: Tensor, column: int) -> Tensor:
        """log p(c_j = k, what `components` has seen) for every class k of column j, shape (N, K_j).

        Args:
            components: of `components`, with column j left out (-1), shape (N, M).
            column: j.
        """
        peak = components.amax(dim=1, keepdim=True)
        probs = linear_by_row((components - peak).exp(), self.of_column(column).exp())  # (N, K_j)
        return probs.log() + peak

    def of_column(self, column: int) -> Tensor:
        """log theta of one column, shape (K_j, M)."""
        return self.log_probs[self.offsets[column] : self.offsets[column + 1]]

    def given(self, rows: MixedRows, constraints: Constraints) -> Tensor:
        """Log-density of each component, the observed entries and what is known about the missing ones, shape (N, M)."""
        components, missing = self.components(*rows), rows.codes < 0
        for column, weights in enumerate(constraints.log_weights):
            if weights is not None:
                total = self._of_evidence(column, weights)  # (M,) or (N, M)
                components = components + torch.where(missing[:, column, None], total, 0)
        if constraints.bounds is not None:
            low, high = (self._standardised(bound) for bound in constraints.bounds)
            of_interval = log_mass(low, high).to(components)  # (1 or N, D, M)
            components = components + torch.where(rows.reals.isnan()[:, :, None], of_interval, 0).sum(dim=1)
        return components

    def draw(self, codes: Tensor, generator: Generator, *, evidence: Sequence[Tensor | None] | None = None) -> Tensor:
        """Draws the missing codes of each row from their exact joint conditional given the observed ones.

        Args:
            codes: shape (N, V). Reals are missing, and marginalised.
            generator: source of V + 1 choices per row.
            evidence: per column, log-weights of its classes by which the mixture is multiplied, shape (K_j,) or (N, K_j), or
                None. They concern missing entries only.

        Returns:
            Completed codes, shape (N, V).
        """
        constraints = Constraints(tuple(evidence or [None] * len(self.num_classes)), None)
        reals = self.means.new_full((len(codes), len(self.means)), torch.nan)
        return self._draw_codes(MixedRows(codes, reals), constraints, generator)[0]

    def drawn(
        self, codes: Tensor, generator: Generator, *, evidence: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """`draw`, and the log-probability of what was drawn given the observed codes and the evidence.

        Args:
            codes: shape (N, V).
            generator: source of V + 1 choices per row.
            evidence: as of `draw`.

        Returns:
            Completed codes, shape (N, V), and their log-probabilities, shape (N,), nats.
        """
        drawn = self.draw(codes, generator, evidence=evidence)
        return drawn, self.log_conditional(drawn, codes < 0, evidence)

    def log_conditional(self, codes: Tensor, free: Tensor, evidence: Sequence[Tensor | None] | None = None) -> Tensor:
        """Log-probability with which `draw` completes the free codes given all others, shape (N,), nats.

        Args:
            codes: shape (N, V); those that are missing are summed out.
            free: shape (N, V), bool.
            evidence: as `draw` had it.
        """
        constraints = Constraints(tuple(evidence or [None] * len(self.num_classes)), None)
        reals = self.means.new_full((len(codes), len(self.means)), torch.nan)
        known = self.given(MixedRows(codes.masked_fill(free, -1), reals), constraints).logsumexp(dim=1)
        return self(codes) + evidence_of_codes(codes, free, evidence) - known

    def draw_rows(self, rows: MixedRows, constraints: Constraints, generator: Generator) -> MixedRows:
        """Draws the missing codes and reals of each row from their exact joint conditional given all that is known.

        Args:
            rows: what is observed.
            constraints: what is known about missing entries.
            generator: source of V + 1 choices and D normals per row.
        """
        codes, chosen = self._draw_codes(rows, constraints, generator)
        if not len(self.means):
            return MixedRows(codes, rows.reals)
        means, sds = self.means.T[chosen], self.log_sds.T[chosen].exp()  # (N, D)
        drawn = draw_gaussians(means, sds, constraints.bounds, generator)
        return MixedRows(codes, torch.where(rows.reals.isnan(), drawn, rows.reals))

    def _draw_codes(self, rows: MixedRows, constraints: Constraints, generator: Generator) -> tuple[Tensor, Tensor]:
        """Completed codes, and the component of each row."""
        chosen = draws.choose(self.given(rows, constraints), generator)  # (N,)
        if not self.num_classes:
            return rows.codes, chosen
        drawn = []
        for column, weights in enumerate(constraints.log_weights):
            table = self.of_column(column)
            if weights is not None and weights.ndim == 1:
                table = table + weights[:, None]
            log_probs = table.T[chosen]  # (N, K_j)
            if weights is not None and weights.ndim == 2:
                log_probs = log_probs + weights
            drawn.append(draws.choose(log_probs, generator))
        return torch.where(rows.codes < 0, torch.stack(drawn, dim=1), rows.codes), chosen

    def _of_evidence(self, column: int, weights: Tensor) -> Tensor:
        """log sum_k exp(weights_k) theta_jm(k), shape (M,) or (N, M)."""
        table = self.of_column(column)
        if weights.ndim == 1:
            return (table + weights[:, None]).logsumexp(dim=0)
        peak = weights.amax(dim=1, keepdim=True)
        return linear_by_row((weights - peak).exp(), table.exp().T).log() + peak

    def _standardised(self, bound: Tensor) -> Tensor:
        """A bound (D,) or (N, D) in standard deviations of each component, shape (1 or N, D, M)."""
        return (bound.reshape(-1, len(self.means), 1) - self.means) * (-self.log_sds).exp()


def linear_by_row(rows: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear`, with the same bits for a row in every batch, shape (..., K) to (..., M).

    On some processors the products of rows inside a batch and at its end are summed in different orders, and those
    of a few rows in yet another one. Zeros behind the last axis up to whole vectors, and further rows, prevent that.

    Args:
        rows: shape (..., K).
        weights: shape (M, K).
        bias: shape (M,), or None.

    Example:
        >>> rows, weights = torch.ones(5, 15), torch.ones(2, 15)
        >>> torch.equal(linear_by_row(rows[:1], weights), linear_by_row(rows, weights)[:1])
        True
    """
    num = rows.shape[:-1].numel()
    behind, below = -rows.shape[-1] % VECTOR, max(0, MIN_ROWS - num)
    if behind:
        rows, weights = pad(rows, (0, behind)), pad(weights, (0, behind))
    if not below:
        return linear(rows, weights, bias)
    flat = pad(rows.reshape(num, rows.shape[-1]), (0, 0, 0, below))
    return linear(flat, weights, bias)[:num].reshape(*rows.shape[:-1], len(weights))


def features(codes: Tensor, offsets: Sequence[int]) -> Tensor:
    """Number of the feature (column and class) of each code, shape (N, V); F for a missing one."""
    first = torch.tensor(offsets[:-1], device=codes.device, dtype=torch.int64)
    return torch.where(codes < 0, offsets[-1], codes.to(torch.int64) + first)
