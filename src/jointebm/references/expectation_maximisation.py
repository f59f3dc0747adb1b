"""Expectation maximisation of a mixture of products, with missing entries marginalised and a weak prior.

Legend: N rows, V columns of codes, F classes of all columns, D columns of reals, M components.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.references.layout import MixedRows
from jointebm.references.product_mixture import ENTRIES_AT_ONCE, ProductMixture, features

__all__ = ["Prior", "best_gaussians", "em_step", "fit_product_mixture", "prior_of", "spread_rows"]

MEAN_SHARE = 1e-3  # pseudo-rows of a component's mean, as a share of those of its classes and variance
MIN_VARIANCE = 1e-5  # of a component, as a share of the variance of the data
MAX_ROWS_OF_START = 20_000  # that starting rows are chosen among
NUM_CANDIDATES = 4  # for each starting row


class Prior(NamedTuple):
    """The prior of every component, as pseudo-rows.

    Args:
        classes: probability of each class, shape (F,); positive, and sums to one in each column.
        means: shape (D,).
        variances: of the data, shape (D,); the prior variance of a component is this over M^2.
        strength: s, in rows per component.
    """

    classes: Tensor
    means: Tensor
    variances: Tensor
    strength: float


def prior_of(rows: MixedRows, num_classes: Sequence[int], strength: float) -> Prior:
    """The prior around the columns' own marginals.

    Each class counts as if it had been seen half a time more. A column of reals without spread, or without any observed
    entry, gets the mean variance of the other columns (1 without others), and mean 0 if it has no entry.
    """
    parts = [rows.reals.new_empty(0)]
    for column, count in enumerate(num_classes):
        seen = rows.codes[:, column]
        counts = torch.bincount(seen[seen >= 0].to(torch.int64), minlength=count).to(rows.reals) + 0.5
        parts.append(counts / counts.sum())
    reals = rows.reals.double()
    means = reals.nanmean(dim=0).nan_to_num(nan=0.0)
    variances = (reals - means).square().nanmean(dim=0).nan_to_num(nan=0.0)
    has_spread = variances > 1e-12 * means.square()  # the rest is rounding
    usual = variances[has_spread].mean() if bool(has_spread.any()) else torch.ones_like(variances).mean()
    return Prior(torch.cat(parts), means, torch.where(has_spread, variances, usual), strength)


def em_step(mixture: ProductMixture, rows: MixedRows, prior: Prior) -> tuple[ProductMixture, float]:
    """One step of expectation maximisation.

        r_im = p(m | row i),   theta_jm(k) = (sum_i r_im [c_ij = k] + s prior_jk) / (sum_i r_im [c_ij observed] + s)
        mu_dm = (sum_i r_im x_id + t mu_d) / (sum_i r_im + t),   t = s / 1000, sums over rows with x_id observed
        sigma_dm^2 = (sum_i r_im (x_id - mu_dm)^2 + s v_d / M^2 + t (mu_dm - mu_d)^2) / (sum_i r_im + s)

    and at least `MIN_VARIANCE` v_d. Never decreases log-likelihood + log-prior, where the log-prior is, up to a constant,
    s sum_jmk prior_jk log theta_jm(k) - sum_dm [s log sigma_dm + (s v_d / M^2 + t (mu_dm - mu_d)^2) / (2 sigma_dm^2)].

    Args:
        mixture: where to start; not changed.
        rows: missing entries are marginalised.
        prior: of every component.

    Returns:
        (mixture, objective): the next mixture, and log-likelihood + log-prior of the one given, in nats.
    """
    dtype, num_features = mixture.log_probs.dtype, mixture.offsets[-1]
    num_reals, num_components = mixture.means.shape
    counts = mixture.log_probs.new_zeros(num_features, num_components)
    weights = torch.zeros_like(mixture.log_weights)
    moments = torch.zeros(3, num_reals, num_components, dtype=torch.float64, device=weights.device)
    likelihood = 0.0
    size = max(1, ENTRIES_AT_ONCE // max(num_features, mixture.means.numel()))
    for codes, reals in zip(rows.codes.split(size), rows.reals.split(size), strict=True):
        joint = mixture.components(codes, reals)  # (n, M)
        total = joint.logsumexp(dim=1, keepdim=True)
        likelihood += float(total.sum(dtype=torch.float64))
        responsibilities = (joint - total).exp_()
        weights += responsibilities.sum(dim=0)
        is_class = torch.zeros(len(codes), num_features + 1, dtype=dtype, device=codes.device)
        is_class.scatter_(1, features(codes, mixture.offsets), 1.0)
        counts.addmm_(is_class[:, :-1].T, responsibilities)
        if num_reals:
            moments += _moments(reals, responsibilities, prior)
    objective = likelihood + _log_prior(mixture, prior)
    following = ProductMixture(mixture.num_classes, num_components, num_reals=num_reals).to(weights)
    if mixture.num_classes:
        counts += prior.strength * prior.classes[:, None]
        totals = [part.sum(dim=0, keepdim=True).expand_as(part) for part in counts.split(list(mixture.num_classes))]
        following.log_probs.copy_((counts / torch.cat(totals)).log())
    following.log_weights.copy_((weights / weights.sum()).clamp(min=torch.finfo(dtype).tiny).log())
    if num_reals:
        means, variances = best_gaussians(moments, prior.strength, MIN_VARIANCE)
        sds = prior.variances.sqrt()[:, None]
        following.means.copy_(prior.means[:, None] + sds * means)
        following.log_sds.copy_(0.5 * variances.log() + sds.log())
    return following, objective


def best_gaussians(moments: Tensor, strength: float, min_variance: float | Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of M Gaussians at the maximum of the objective, in units of the data's mean and deviation.

    Args:
        moments: sums over rows of responsibility times 1, z and z^2, shape (3, D, M).
        strength: s, in rows per component.
        min_variance: of a component.

    Returns:
        (means, variances), each (D, M).
    """
    num, first, second = moments
    share = MEAN_SHARE * strength
    means = first / (num + share)
    squares = second - 2 * means * first + means.square() * (num + share)
    variances = (squares + strength / moments.shape[2] ** 2) / (num + strength)
    return means, torch.maximum(variances, torch.as_tensor(min_variance).to(variances))


def fit_product_mixture(
    rows: MixedRows,
    num_classes: Sequence[int],
    *,
    start: Tensor,
    prior_strength: float = 1.0,
    num_iterations: int = 100,
    tolerance: float = 1e-3,
) -> ProductMixture:
    """Fits a mixture to rows with missing entries by EM, started around some of the rows, such as `spread_rows`.

    Args:
        rows: codes and reals; the reals' dtype is that of the mixture.
        num_classes: K_j of each column.
        start: numbers of the M rows to start from, shape (M,), int64; a single one, whichever it is, gives independent
            columns.
        prior_strength: s, in pseudo-rows per component; see `em_step`.
        num_iterations: of EM, at most.
        tolerance: stops when an iteration improves the objective by less than this, in nats per row.

    Example:
        >>> codes = torch.tensor([[0, 0], [1, 1], [1, -1]]).repeat(50, 1)
        >>> mixture = fit_product_mixture(MixedRows(codes, torch.empty(150, 0)), (2, 2), start=torch.tensor([0, 1]))
        >>> mixture(torch.tensor([[1, 1]])).exp() > 3 * mixture(torch.tensor([[0, 1]])).exp()
        tensor([True])
    """
    prior = prior_of(rows, num_classes, prior_strength)
    mixture = _around(MixedRows(rows.codes[start], rows.reals[start]), rows, num_classes, prior)
    before = -math.inf
    for _ in range(num_iterations if len(start) > 1 else 1):
        mixture, objective = em_step(mixture, rows, prior)
        if objective - before < tolerance * len(rows.codes):
            break
        before = objective
    return mixture


def spread_rows(rows: MixedRows, prior: Prior, num: int, generator: Generator) -> Tensor:
    """Chooses rows far from one another.

    Each is the best of four (the one that leaves the smallest sum of squared distances), drawn with probability proportional
    to the squared distance to the rows before it. The squared distance is that of reals in standard deviations of the data
    plus the number of codes that differ; an entry missing in either row adds nothing.

    Args:
        rows: to choose among; at most 20,000 of them, at equal steps.
        prior: of `prior_of`.
        num: how many.
        generator: source of the choices.

    Returns:
        Numbers of rows, shape (num,), int64.

    References:
        Arthur & Vassilvitskii 2007 (greedy k-means++).
    """
    step = -(-len(rows.codes) // MAX_ROWS_OF_START)
    some = MixedRows(rows.codes[::step], rows.reals[::step])
    nearest, chosen = torch.full((len(some.codes),), torch.inf, dtype=torch.float64, device=rows.codes.device), []
    for _ in range(num):
        weights = nearest.nan_to_num(posinf=1.0).clamp(min=1e-12).log()  # duplicates if no row is far
        candidates = draws.choose(weights.expand(NUM_CANDIDATES, -1), generator)
        left = torch.stack([torch.minimum(nearest, _squared_distances(some, row, prior)) for row in candidates])
        best = left.sum(dim=1).argmin()
        nearest = left[best]
        chosen.append(candidates[best])
    return torch.stack(chosen) * step


def _squared_distances(rows: MixedRows, row: Tensor, prior: Prior) -> Tensor:
    """Of all rows to the row of that number, shape (N,)."""
    codes, reals = rows.codes[row], rows.reals[row]
    differs = (rows.codes != codes) & (rows.codes >= 0) & (codes >= 0)
    return differs.sum(dim=1) + ((rows.reals - reals).square() / prior.variances).nansum(dim=1)


def _around(around: MixedRows, rows: MixedRows, num_classes: Sequence[int], prior: Prior) -> ProductMixture:
    """A mixture with one component around each of M rows; the marginals where these have missing entries."""
    num_components, num_reals = around.reals.shape
    mixture = ProductMixture(num_classes, num_components, num_reals=num_reals).to(rows.reals)
    if num_components == 1:  # one step of EM, from anywhere, gives the marginals
        return mixture
    if mixture.num_classes:
        is_at = rows.reals.new_zeros(num_components, mixture.offsets[-1] + 1)
        is_at = is_at.scatter_(1, features(around.codes, mixture.offsets), 1.0)[:, :-1]  # (M, F)
        observed = torch.cat(
            [(around.codes[:, [j]] >= 0).expand(-1, count) for j, count in enumerate(mixture.num_classes)], dim=1
        )
        mixture.log_probs.copy_(torch.where(observed, 0.5 * prior.classes + 0.5 * is_at, prior.classes).log().T)
    if num_reals:
        means = torch.where(around.reals.isnan(), prior.means.to(around.reals), around.reals)  # (M, D)
        some = rows.reals[:: max(1, len(rows.reals) // 1000)].double()
        distances = torch.stack([((some - mean).square() / prior.variances).nanmean(dim=1) for mean in means])
        share = distances.amin(dim=0).nanmean().clamp(1e-3, 1.0).nan_to_num(nan=1.0)
        mixture.means.copy_(means.T)
        mixture.log_sds.copy_((0.5 * (share * prior.variances).log())[:, None].expand(-1, num_components))
    return mixture


def _moments(reals: Tensor, responsibilities: Tensor, prior: Prior) -> Tensor:
    """Sums of 1, z and z^2 over the observed reals, weighted by responsibility, shape (3, D, M).

    z are reals in standard deviations of the data around its mean: sums of squares lose nothing there.
    """
    z, r = (reals.double() - prior.means) / prior.variances.sqrt(), responsibilities.double()
    seen = ~z.isnan()
    z = torch.where(seen, z, 0)
    return torch.stack([seen.double().T @ r, z.T @ r, z.square().T @ r])


def _log_prior(mixture: ProductMixture, prior: Prior) -> float:
    strength, share = prior.strength, MEAN_SHARE * prior.strength
    total = strength * float((prior.classes[:, None] * mixture.log_probs).sum(dtype=torch.float64))
    if len(mixture.means):
        variances = prior.variances[:, None]
        spread = strength * variances / len(mixture.log_weights) ** 2
        shift = share * (mixture.means.double() - prior.means[:, None]).square()
        log_sds = mixture.log_sds.double()
        total -= float((strength * log_sds + (spread + shift) / (2 * (2 * log_sds).exp())).sum())
    return total
