"""Specification of `MALA`: the exact acceptance probability, and the target left invariant at any step size."""

import math

import pytest
import torch
from torch import Tensor

from jointebm import Continuous, Space
from jointebm.kernels import MALA, Kernel, evaluate
from jointebm.spaces.space import Mask, Position
from jointebm.testing import Invariance, invariance_test
from support.mutants import FAULTS, mutant
from support.oracles import (
    SMALL_SPACES,
    RandomLogDensity,
    Script,
)

# A Gaussian in the plane with correlation 0.8, at temperature T: exp(f / T) = N(0, T * COVARIANCE).
COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
PRECISION = COVARIANCE.inverse()
PLANE = Space(x=Continuous(2))


def gaussian(position: Position) -> Tensor:
    return -0.5 * ((position["x"] @ PRECISION) * position["x"]).sum(dim=1)


def run_in_the_plane(kernel: Kernel, temperature: float, *, clamped: bool, num_steps: int = 6) -> Invariance:
    """Exact draws through a kernel; with `clamped`, one of the two entries of each row is held, at random."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8000, 2, generator=generator, dtype=torch.float64)
    draws = {"x": math.sqrt(temperature) * noise @ torch.linalg.cholesky(COVARIANCE).T}
    held = torch.randint(2, (8000,), generator=generator)
    free: Mask | None = {"x": torch.arange(2) != held[:, None]} if clamped else None
    statistics = {
        "first": lambda p: p["x"][:, 0],
        "first^2": lambda p: p["x"][:, 0].square(),
        "first given second": lambda p: (p["x"][:, 0] - 0.8 * p["x"][:, 1]).abs(),
        "second given first": lambda p: (p["x"][:, 1] - 0.8 * p["x"][:, 0]).abs(),
        "f": gaussian,
    }
    return invariance_test(
        kernel,
        gaussian,
        PLANE,
        draws,
        num_steps=num_steps,
        statistics=statistics,
        generator=generator,
        alpha=1e-4,
        free=free,
    )


def log_normal(x: float, mean: float, scale: float) -> float:
    return -0.5 * ((x - mean) / scale) ** 2 - math.log(scale)


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("eps", [0.3, 1.1])
def test_accepts_with_the_probability_of_the_closed_form(eps: float, temperature: float) -> None:
    """One dimension, f = -x^2 / 2, every number by hand."""
    starts, noises = [-2.0, -0.3, 0.0, 1.7], [1.2, -0.4, 2.0, -0.9]
    drift = eps**2 / (2 * temperature)
    script = Script(normals=[torch.tensor(noises, dtype=torch.float64)], accepts=[True])
    chain = evaluate(lambda p: -0.5 * p["x"].square(), {"x": torch.tensor(starts, dtype=torch.float64)})
    moved, info = MALA("x", eps, temperature).step(
        lambda p: -0.5 * p["x"].square(), chain, free={"x": torch.tensor(True)}, generator=script
    )
    for row, (x, z) in enumerate(zip(starts, noises, strict=True)):
        y = x - drift * x + eps * z
        log_ratio = (
            (x**2 - y**2) / (2 * temperature) + log_normal(x, y - drift * y, eps) - log_normal(y, x - drift * x, eps)
        )
        assert float(moved.position["x"][row]) == pytest.approx(y, rel=1e-12)
        assert float(script.log_ratios[0][row]) == pytest.approx(log_ratio, rel=1e-10, abs=1e-12)
        assert float(info.accept_prob[row]) == pytest.approx(min(1.0, math.exp(log_ratio)), rel=1e-10)


@pytest.mark.parametrize("clamped", [False, True])
def test_the_flow_from_x_to_y_is_the_flow_from_y_to_x(clamped: bool) -> None:
    """Detailed balance point by point: the way back, scripted, has minus the log-ratio of the way there."""
    space = SMALL_SPACES[-1].space
    f, generator = RandomLogDensity(space, 0), torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=50, generator=generator, dtype=torch.float64)
    if clamped:
        free["x"] = torch.rand(50, 2, generator=generator) < 0.6
    kernel, eps, temperature = MALA("x", 0.7, 0.6), 0.7, 0.6
    noise = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    there = Script(normals=[noise], accepts=[True])
    start = evaluate(f, position)
    end, _ = kernel.step(f, start, free=free, generator=there)
    assert end.score is not None
    needed = (start.position["x"] - end.position["x"]) / eps - eps / (2 * temperature) * end.score["x"]
    back = Script(normals=[needed], accepts=[True])
    again, _ = kernel.step(f, end, free=free, generator=back)
    torch.testing.assert_close(again.position["x"], position["x"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(back.log_ratios[0], -there.log_ratios[0], rtol=1e-10, atol=1e-11)
    assert float(there.log_ratios[0].abs().max()) > 0.1


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("eps", [0.4, 0.8])
def test_leaves_a_gaussian_invariant(eps: float, temperature: float, clamped: bool) -> None:
    """False-alarm rate 1e-4 each."""
    result = run_in_the_plane(MALA("x", eps, temperature), temperature, clamped=clamped)
    assert not result.rejected, result


@pytest.mark.parametrize("fault", FAULTS[MALA])
def test_mutants_are_rejected(fault: str) -> None:
    """The same test, at the same step size and temperature, must reject each of them."""
    kernel = mutant(MALA, fault)("x", 0.8, 0.6)
    assert any(run_in_the_plane(kernel, 0.6, clamped=clamped, num_steps=12).rejected for clamped in (False, True))


def test_a_proposal_where_the_log_density_is_not_a_number_is_never_accepted() -> None:
    def log_density(position: Position) -> Tensor:
        return (1 - position["x"]).log() - 0.5 * position["x"].square()  # a number only below 1

    chain, generator = evaluate(log_density, {"x": torch.zeros(500)}), torch.Generator().manual_seed(0)
    for _ in range(20):
        chain, _ = MALA("x", 1.0).step(log_density, chain, free={"x": torch.tensor(True)}, generator=generator)
    assert bool((chain.position["x"] < 1).all())
    assert bool(chain.f.isfinite().all())
