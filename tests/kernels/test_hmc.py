"""Specification of `HMC`: leapfrog steps by hand, a reversible path, and the target left invariant at any step size."""

import math

import pytest
import torch

from jointebm import Continuous, Space
from jointebm.kernels import HMC, MALA, Chain, Kernel, evaluate
from jointebm.spaces.space import Mask, Position
from jointebm.testing import Invariance, invariance_test
from support.mutants import FAULTS, mutant
from support.oracles import SMALL_SPACES, Counted, Passes, RandomLogDensity, Script

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
PRECISION = COVARIANCE.inverse()


def gaussian(position: Position) -> torch.Tensor:
    return -0.5 * ((position["x"] @ PRECISION) * position["x"]).sum(dim=1)


def mixed_start(clamped: bool) -> tuple[RandomLogDensity, Chain, Mask, torch.Tensor]:
    space = SMALL_SPACES[-1].space
    f, generator = RandomLogDensity(space, 0), torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=50, generator=generator, dtype=torch.float64)
    if clamped:
        free["x"] = torch.rand(50, 2, generator=generator) < 0.6
    return f, evaluate(f, position), free, torch.randn(50, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_three_leapfrog_steps_by_hand(temperature: float) -> None:
    """One dimension, f = -x^4 / 4, every number by hand."""

    def f(position: Position) -> torch.Tensor:
        return -0.25 * position["x"] ** 4

    starts, noises, eps = [-1.0, 0.3, 0.8], [0.7, -0.4, 1.1], 0.3
    script = Script(normals=[torch.tensor(noises, dtype=torch.float64)], accepts=[True])
    chain = evaluate(f, {"x": torch.tensor(starts, dtype=torch.float64)})
    kernel = HMC("x", eps, temperature, num_leapfrog=3)
    moved, info = kernel.step(f, chain, free={"x": torch.tensor(True)}, generator=script)
    for row, (x, p) in enumerate(zip(starts, noises, strict=True)):
        start = -(x**4) / 4 / temperature - p**2 / 2
        for _ in range(3):
            p -= eps / 2 * x**3 / temperature
            x += eps * p
            p -= eps / 2 * x**3 / temperature
        log_ratio = -(x**4) / 4 / temperature - p**2 / 2 - start
        assert float(moved.position["x"][row]) == pytest.approx(x, rel=1e-12)
        assert float(script.log_ratios[0][row]) == pytest.approx(log_ratio, rel=1e-9, abs=1e-12)
        assert float(info.accept_prob[row]) == pytest.approx(min(1.0, math.exp(log_ratio)), rel=1e-9)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_one_leapfrog_step_is_mala(clamped: bool, temperature: float) -> None:
    f, start, free, noise = mixed_start(clamped)
    ends, ratios = [], []
    for kernel in (HMC("x", 0.7, temperature, num_leapfrog=1), MALA("x", 0.7, temperature)):
        script = Script(normals=[noise], accepts=[True])
        ends.append(kernel.step(f, start, free=free, generator=script)[0])
        ratios.append(script.log_ratios[0])
    torch.testing.assert_close(ends[0].position["x"], ends[1].position["x"], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ratios[0], ratios[1], rtol=1e-10, atol=1e-11)
    assert float(ratios[0].abs().max()) > 0.1


@pytest.mark.parametrize("clamped", [False, True])
def test_the_path_back_has_minus_the_log_ratio(clamped: bool) -> None:
    """Detailed balance point by point: the end, with its momentum reversed, leads to the start."""
    f, start, free, noise = mixed_start(clamped)
    kernel = HMC("x", torch.tensor([0.3, 0.5], dtype=torch.float64), 0.7, num_leapfrog=5)
    there = Script(normals=[noise], accepts=[True])
    end, _ = kernel.step(f, start, free=free, generator=there)
    _, momentum = kernel.trajectory(f, start, torch.where(free["x"], noise, 0), free["x"])
    back = Script(normals=[-momentum], accepts=[True])
    again, _ = kernel.step(f, end, free=free, generator=back)
    torch.testing.assert_close(again.position["x"], start.position["x"], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(back.log_ratios[0], -there.log_ratios[0], rtol=1e-9, atol=1e-10)
    assert float(there.log_ratios[0].abs().max()) > 0.1
    held = ~free["x"]
    assert torch.equal(end.position["x"].masked_select(held), start.position["x"].masked_select(held))


def run_in_the_plane(kernel: Kernel, temperature: float, *, clamped: bool) -> Invariance:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8000, 2, generator=generator, dtype=torch.float64)
    held = torch.randint(2, (8000,), generator=generator)
    return invariance_test(
        kernel,
        gaussian,
        Space(x=Continuous(2)),
        {"x": math.sqrt(temperature) * noise @ torch.linalg.cholesky(COVARIANCE).T},
        num_steps=8,
        statistics={
            "first": lambda p: p["x"][:, 0],
            "first^2": lambda p: p["x"][:, 0].square(),
            "first given second": lambda p: (p["x"][:, 0] - 0.8 * p["x"][:, 1]).abs(),
            "second given first": lambda p: (p["x"][:, 1] - 0.8 * p["x"][:, 0]).abs(),
            "f": gaussian,
        },
        generator=generator,
        alpha=1e-4,
        free={"x": torch.arange(2) != held[:, None]} if clamped else None,
    )


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_leaves_a_gaussian_invariant(temperature: float, clamped: bool) -> None:
    """False-alarm rate 1e-4 each."""
    kernel = HMC("x", torch.tensor([0.7, 0.9], dtype=torch.float64), temperature, num_leapfrog=3)
    result = run_in_the_plane(kernel, temperature, clamped=clamped)
    assert not result.rejected, result


@pytest.mark.parametrize("fault", FAULTS[HMC])
def test_mutants_are_rejected(fault: str) -> None:
    """The same test at a similar step size must reject each of them."""
    kernel = mutant(HMC, fault)("x", 0.7, 0.6, num_leapfrog=3)
    assert any(run_in_the_plane(kernel, 0.6, clamped=clamped).rejected for clamped in (False, True))


def test_costs_one_evaluation_per_leapfrog_step_and_none_if_clamped() -> None:
    counted = Counted(gaussian, Passes())
    chain = evaluate(counted, {"x": torch.zeros(4, 2, dtype=torch.float64)})
    counted.passes.take()
    kernel, generator = HMC("x", 0.1, num_leapfrog=7), torch.Generator().manual_seed(0)
    chain, _ = kernel.step(counted, chain, free={"x": torch.tensor(True)}, generator=generator)
    assert counted.passes.take() == (7, 7)
    same, info = kernel.step(counted, chain, free={}, generator=generator)
    assert same is chain and counted.passes.take() == (0, 0) and not bool(info.accepted.any())


def test_refuses_a_path_without_steps() -> None:
    with pytest.raises(ValueError, match="HMC: num_leapfrog is a whole number >= 1, got 0"):
        HMC("x", 0.1, num_leapfrog=0)
