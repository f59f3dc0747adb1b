"""Masses and draws of normals between bounds are right in the middle and far into both tails."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from jointebm.references.gaussians import log_mass, normals_between

INF = math.inf
INTERVALS = [(-INF, INF), (-1.0, 2.0), (-INF, -3.0), (0.5, 0.6), (4.0, INF), (-7.0, -6.9), (6.0, 6.5), (-2.0, INF)]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_the_mass_of_an_interval_is_its_integral(low: float, high: float) -> None:
    expected = integrate.quad(stats.norm.pdf, low, high, epsabs=0, epsrel=1e-12)[0]
    low_, high_ = torch.tensor([low, high], dtype=torch.float64)
    assert log_mass(low_, high_).item() == pytest.approx(math.log(expected), abs=1e-10)


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_draws_are_quantiles_of_the_truncated_normal(low: float, high: float) -> None:
    """Their distribution function, from the end where probabilities are small, is that of the normals they come from."""
    normals = torch.linspace(-5, 5, 41, dtype=torch.float64)
    drawn = normals_between(normals, torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64))
    sign = -1 if low > -high else 1  # mirrored intervals
    ends = (-high, -low) if sign < 0 else (low, high)
    below = special.ndtr(sign * drawn.numpy()) - special.ndtr(ends[0])
    share = below / (special.ndtr(ends[1]) - special.ndtr(ends[0]))
    assert np.abs(share - special.ndtr(normals.numpy())).max() < 1e-9
    assert bool(((drawn >= low) & (drawn <= high)).all())


@pytest.mark.parametrize("bound", [9.0, 36.0, 200.0, 1e4])
def test_draws_far_in_a_tail_have_the_right_survival_function(bound: float) -> None:
    normals = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    drawn = normals_between(normals, torch.tensor(bound, dtype=torch.float64), torch.tensor(INF))
    log_survival = special.log_ndtr(-drawn.numpy()) - special.log_ndtr(-bound)
    rounding = 1e-15 * bound**2 + 1e-12  # of log-probabilities as large as bound^2 / 2
    assert np.abs(log_survival - special.log_ndtr(normals.numpy())).max() < 10 * rounding
    mirrored = normals_between(normals, torch.tensor(-INF), torch.tensor(-bound, dtype=torch.float64))
    assert torch.equal(mirrored, -drawn)
