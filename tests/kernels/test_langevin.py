"""Specification of `Langevin`: Eq. 3 to the letter, with the bias that a discretised diffusion has.

On f(x) = -x^2 / (2 s^2) a step is x' = a x + eps z with a = 1 - eps^2 / (2 lambda s^2): an AR(1) chain, so the mean and
variance after t steps are known exactly, a^t x_0 and eps^2 (1 - a^(2t)) / (1 - a^2).
"""

import pytest
import torch
from torch import Tensor

from jointebm.kernels import MALA, Kernel, Langevin, evaluate
from jointebm.spaces.space import Position
from support.mutants import FAULTS, mutant
from support.oracles import (
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    Script,
)

SCALE, START, NUM_STEPS = 1.3, 2.0, 12
FREE = {"x": torch.tensor(True)}


def gaussian(position: Position) -> Tensor:
    return -0.5 * (position["x"] / SCALE).square()


def decay(step_size: float, temperature: float) -> float:
    return 1 - step_size**2 / (2 * temperature * SCALE**2)


def response(kernel: Kernel) -> tuple[float, float]:
    """Mean and variance of the chain after NUM_STEPS, exactly, by its response to one unit of noise at a time.

    The chain is linear in its noise: row i gets z = 1 at step i and row NUM_STEPS gets none.
    """
    chain = evaluate(gaussian, {"x": torch.full((NUM_STEPS + 1,), START, dtype=torch.float64)})
    script = Script(normals=torch.eye(NUM_STEPS + 1)[:NUM_STEPS])
    for _ in range(NUM_STEPS):
        chain, _ = kernel.step(gaussian, chain, free=FREE, generator=script)
    x = chain.position["x"]
    return float(x[-1]), float((x[:-1] - x[-1]).square().sum())


def closed_form(step_size: float, temperature: float) -> tuple[float, float]:
    a = decay(step_size, temperature)
    return a**NUM_STEPS * START, step_size**2 * (1 - a ** (2 * NUM_STEPS)) / (1 - a**2)


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("step_size", [0.01, 0.4, 0.9])
def test_has_the_exact_mean_and_variance_of_the_discretised_chain(step_size: float, temperature: float) -> None:
    kernel = Langevin("x", step_size, temperature)
    assert response(kernel) == pytest.approx(closed_form(step_size, temperature), rel=1e-12)


@pytest.mark.parametrize("fault", FAULTS[Langevin])
def test_mutants_are_rejected(fault: str) -> None:
    """A mutant fails the closed form of its step size and temperature, or moves what is clamped."""
    kernel = mutant(Langevin, fault)("x", 0.4, 0.6)
    wrong = response(kernel) != pytest.approx(closed_form(0.4, 0.6), rel=1e-6)
    start = {"x": torch.zeros(3, dtype=torch.float64)}
    moved, _ = kernel.step(
        gaussian,
        evaluate(gaussian, start),
        free={"x": torch.tensor([True, False, True])},
        generator=torch.Generator().manual_seed(0),
    )
    assert wrong or moved.position["x"][1] != 0


def test_one_step_is_equation_3_entry_by_entry() -> None:
    space = SMALL_SPACES[-1].space
    f, generator = RandomLogDensity(space, 0), torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=20, generator=generator, dtype=torch.float64)
    chain = evaluate(f, position)
    assert chain.score is not None
    noise = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    moved, _ = Langevin("x", 0.3, 0.7).step(f, chain, free=free, generator=Script(normals=[noise]))
    expected = position["x"] + 0.3**2 / (2 * 0.7) * chain.score["x"] + 0.3 * noise
    torch.testing.assert_close(moved.position["x"], expected, rtol=1e-14, atol=1e-14)
    assert all(moved.position[name] is position[name] for name in space if name != "x")
    torch.testing.assert_close(moved.f, f(moved.position), rtol=1e-12, atol=1e-12)


# With MALA.


@pytest.mark.parametrize("kind", [Langevin, MALA])
def test_costs_one_evaluation_a_step_and_none_when_its_block_is_clamped(kind: type[Langevin] | type[MALA]) -> None:
    counted = Counted(gaussian, Passes())
    chain = evaluate(counted, {"x": torch.zeros(5)})
    counted.passes.take()
    moved, _ = kind("x", 0.1).step(counted, chain, free=FREE, generator=torch.Generator())
    assert counted.passes.take() == (1, 1)
    for free in ({}, {"x": torch.zeros(5, dtype=torch.bool)}):
        same, _ = kind("x", 0.1).step(counted, moved, free=free, generator=torch.Generator())
        assert same is moved
    assert counted.passes.take() == (0, 0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Langevin, MALA])
def test_refuses_a_step_size_or_temperature_that_is_not_positive(
    kind: type[Langevin] | type[MALA], value: float
) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: step_size must be a positive number"):
        kind("x", value)
    with pytest.raises(ValueError, match=f"{kind.__name__}: temperature must be a positive number"):
        kind("x", 1.0, value)
