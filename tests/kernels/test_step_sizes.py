"""Specification of step sizes: one number or one per entry, checked, and learned from rows."""

import pytest
import torch

from jointebm import Continuous, Space, sample
from jointebm.kernels import HMC, MALA, Langevin, evaluate
from jointebm.spaces.space import Position
from support.oracles import Script

SCALES = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
FREE = {"x": torch.tensor(True)}


def stretched(position: Position) -> torch.Tensor:
    return unit({"x": position["x"] / SCALES})


def unit(position: Position) -> torch.Tensor:
    x = position["x"]
    return -0.5 * x.square().sum(dim=1) + (x[:, 0] * x[:, 1]).tanh()


@pytest.mark.parametrize("kind", [Langevin, MALA, HMC])
def test_a_step_size_per_entry_is_one_step_size_in_rescaled_entries(kind: type) -> None:
    generator = torch.Generator().manual_seed(0)
    noise, x = torch.randn(2, 20, 3, generator=generator, dtype=torch.float64)
    scripts = [Script(normals=[noise], accepts=[True]) for _ in range(2)]
    starts = evaluate(unit, {"x": x}), evaluate(stretched, {"x": x * SCALES})
    one, _ = kind("x", 0.4).step(unit, starts[0], free=FREE, generator=scripts[0])
    each, _ = kind("x", 0.4 * SCALES).step(stretched, starts[1], free=FREE, generator=scripts[1])
    torch.testing.assert_close(each.position["x"], one.position["x"] * SCALES, rtol=1e-12, atol=1e-12)
    for ratio, other in zip(scripts[0].log_ratios, scripts[1].log_ratios, strict=True):
        torch.testing.assert_close(ratio, other, rtol=1e-11, atol=1e-11)


def test_equal_entries_give_the_bits_of_one_number() -> None:
    start = evaluate(unit, {"x": torch.randn(50, 3, generator=torch.Generator().manual_seed(1))})
    ends = []
    for size in (0.5, torch.full((3,), 0.5)):
        chain, _ = MALA("x", size).step(unit, start, free=FREE, generator=torch.Generator().manual_seed(0))
        ends.append(chain.position["x"])
    assert torch.equal(*ends)


def test_learned_step_sizes_are_those_of_the_formula() -> None:
    """Five rows: log standard deviations count half. The third entry never varies and keeps its step size."""
    x = torch.tensor([[0.0, 0.0, 3.0], [1.0, 10.0, 3.0], [2.0, 20.0, 3.0], [3.0, 30.0, 3.0], [4.0, torch.nan, 3.0]])
    kernel = MALA("x", 0.2).learned({"x": x})
    log_sd = torch.stack([x[:, 0].var(), x[:4, 1].var()]).log() / 2
    shrunk = torch.tensor([5 / 10, 4 / 9]) * (log_sd - log_sd.mean())
    expected = 0.2 * (shrunk - shrunk.mean()).exp()
    torch.testing.assert_close(kernel.step_size, torch.tensor([*expected, 0.2]), rtol=1e-6, atol=1e-7)
    assert float(expected.log().mean()) == pytest.approx(torch.tensor(0.2).log().item())


def test_scores_give_the_scale_of_a_gaussian_wherever_the_rows_are() -> None:
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 7
    kernel = HMC("x", 0.2).learned({"x": x}, {"x": -(x - 2) / SCALES.square()})
    expected = SCALES / SCALES.log().mean().exp() * 0.2
    torch.testing.assert_close(kernel.step_size, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("rows", [torch.zeros(5, 3), torch.full((5, 3), torch.nan), torch.ones(1, 3)])
def test_rows_that_say_nothing_change_nothing(rows: torch.Tensor) -> None:
    kernel = HMC("x", 0.2, num_leapfrog=4)
    assert kernel.learned({"x": rows}) is kernel


def test_kernels_with_equal_step_sizes_are_equal() -> None:
    assert MALA("x", 0.1) == MALA("x", 0.1) != MALA("x", 0.2)
    assert MALA("x", torch.ones(2)) == MALA("x", torch.ones(2)) != MALA("x", torch.ones(3))
    assert MALA("x", torch.ones(2)) != MALA("x", 1.0) != Langevin("x", 1.0)
    assert HMC("x", 0.1, num_leapfrog=2) != HMC("x", 0.1, num_leapfrog=3)
    assert hash(MALA("x", torch.ones(2))) == hash(MALA("x", torch.ones(2)))


@pytest.mark.parametrize("size", [torch.tensor([0.1, 0.0]), torch.tensor([1, 2]), torch.tensor([torch.nan, 1.0])])
def test_refuses_step_sizes_that_are_not_positive_numbers(size: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="MALA: step_size must hold positive, finite numbers"):
        MALA("x", size)


def test_refuses_step_sizes_of_another_shape() -> None:
    def run(kernel: MALA) -> None:
        generator = torch.Generator().manual_seed(0)
        sample(unit, Space(x=Continuous(3)), kernel, num_chains=2, num_steps=1, generator=generator)

    for right in (torch.ones(3), torch.ones(1), torch.tensor(1.0)):
        run(MALA("x", right))
    for wrong in (torch.ones(2), torch.ones(1, 3)):
        with pytest.raises(ValueError, match=r"MALA: step_size has shape \(.*\), which does not broadcast"):
            run(MALA("x", wrong))
    with pytest.raises(TypeError, match="MALA: step_size must be a positive number, got 'small'"):
        MALA("x", "small")  # type: ignore[arg-type]
