"""Specification of total variance, nearest distances and the Frechet distance, against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm.evaluation.distances import frechet_distance, nearest_distances, total_variance
from support.generators import seeded


def test_total_variance_is_the_sum_over_all_entries() -> None:
    rows = torch.randn(50, 3, 4, generator=seeded(), dtype=torch.float64)
    assert total_variance(rows) == pytest.approx(float(np.trace(np.cov(rows.flatten(1).numpy().T))), rel=1e-12)


def test_nearest_distances_agree_with_all_pairs_across_batches() -> None:
    rows = torch.randn(600, 2, 3, generator=seeded())
    pairs = (rows.flatten(1).double()[:, None] - rows.flatten(1).double()).norm(dim=2)
    torch.testing.assert_close(nearest_distances(rows, rows[:70]), pairs[:, :70].amin(dim=1), rtol=0, atol=1e-6)
    pairs.fill_diagonal_(torch.inf)
    torch.testing.assert_close(nearest_distances(rows), pairs.amin(dim=1), rtol=0, atol=1e-6)
    assert nearest_distances(torch.ones(2, 2)).tolist() == [0.0, 0.0]  # a duplicate is not the row itself


def with_moments(mean: Tensor, covariance: Tensor, num: int, seed: int) -> Tensor:
    """Rows with exactly this sample mean and covariance."""
    rows = torch.randn(num, len(mean), generator=seeded(seed), dtype=torch.float64)
    rows = torch.linalg.qr(rows - rows.mean(dim=0)).Q * math.sqrt(num - 1)  # zero mean, identity
    values, vectors = torch.linalg.eigh(covariance)
    return rows @ (vectors * values.clamp(min=0).sqrt()).T + mean


DIAGONALS = {
    "regular": ([1.0, 4.0, 9.0], [4.0, 1.0, 0.25]),
    "one singular": ([1.0, 4.0, 0.0], [4.0, 1.0, 0.25]),
    "both singular, in different directions": ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    "nothing varies": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("case", DIAGONALS)
def test_frechet_distance_of_commuting_covariances_is_that_of_their_roots(case: str) -> None:
    """In a common basis it is |m - n|^2 + sum (sqrt a_i - sqrt b_i)^2, also where an eigenvalue is zero."""
    a, b = (torch.tensor(values, dtype=torch.float64) for values in DIAGONALS[case])
    basis = torch.linalg.qr(torch.randn(3, 3, generator=seeded(), dtype=torch.float64)).Q
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    rows = [
        with_moments(mean, basis @ values.diag() @ basis.T, 40, seed)
        for seed, (mean, values) in enumerate([(torch.zeros_like(shift), a), (shift, b)])
    ]
    expected = float(shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(*rows) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(*reversed(rows)) == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    """For 2 x 2, tr (A B)^1/2 = sqrt(tr(A B) + 2 sqrt(det A det B))."""
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    cross = float(((a @ b).trace() + 2 * (a.det() * b.det()).sqrt()).sqrt())
    expected = float(a.trace() + b.trace()) - 2 * cross
    assert frechet_distance(with_moments(zero, a, 30, 0), with_moments(zero, b, 20, 1)) == pytest.approx(expected)


def test_frechet_distance_with_fewer_rows_than_entries_is_zero_to_itself() -> None:
    rows = torch.randn(5, 30, generator=seeded())
    assert frechet_distance(rows, rows) == pytest.approx(0.0, abs=1e-5)
    assert frechet_distance(rows, rows.flip(0) + 1) == pytest.approx(30.0, abs=1e-4)
