"""Specification of `Lazy`: exactly (1 - rate) I + rate P; skipped chains keep their bits."""

import math

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, Space, kernels, predict
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import MALA, Cycle, Gibbs, GibbsWithGradients, Kernel, Lazy
from jointebm.spaces.space import Position
from jointebm.testing import transition_matrix
from support.block_models import small_config
from support.mutants import altered

SPACE = Space(bits=Binary((2,)), group=Categorical((2, 3)))


def log_density(position: Position) -> Tensor:
    bits, group = position["bits"], position["group"]
    return bits[:, 0] * (1 - 2 * bits[:, 1]) + group @ group.new_tensor([0.3, -0.2, 0.5, 0.1, -0.7]) * (1 + bits[:, 1])


@pytest.mark.parametrize("kernel", [Gibbs(SPACE), Gibbs(SPACE, scan="systematic"), GibbsWithGradients(SPACE)], ids=str)
@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_its_transition_matrix_is_a_mixture_with_the_identity(kernel: Kernel, rate: float) -> None:
    matrix, _ = transition_matrix(kernel, log_density, SPACE)
    lazy, _ = transition_matrix(Lazy(kernel, rate), log_density, SPACE)
    expected = (1 - rate) * torch.eye(len(matrix), dtype=matrix.dtype) + rate * matrix
    torch.testing.assert_close(lazy, expected, rtol=0, atol=1e-14)


FAULTS = {
    "rate of the others": {"math.log(self.rate)": "math.log1p(-self.rate)"},
    "rate squared": {"math.log(self.rate)": "2 * math.log(self.rate)"},
    "never skips": {"mask & chosen": "mask | chosen"},
    "moves what is clamped": {"mask & chosen": "torch.ones_like(mask) & chosen"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    free = {"bits": torch.tensor([[True, False]]).expand(24, 2), "group": torch.ones(24, 2, dtype=torch.bool)}
    matrix, _ = transition_matrix(Gibbs(SPACE), log_density, SPACE, free=free)
    expected = 0.7 * torch.eye(len(matrix), dtype=matrix.dtype) + 0.3 * matrix
    kernel = altered(Lazy, FAULTS[fault])(Gibbs(SPACE), 0.3)
    try:
        lazy, _ = transition_matrix(kernel, log_density, SPACE, free=free)
    except AssertionError:
        return
    assert float((lazy - expected).abs().max()) > 0.01


def test_skipped_chains_keep_every_bit_and_masks_still_hold() -> None:
    space = Space(x=Continuous(3))
    start = {"x": torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))}
    chain = kernels.evaluate(lambda position: -position["x"].square().sum(dim=1), start)
    free = {"x": torch.tensor([[True, False, True]])}
    generator = torch.Generator().manual_seed(1)
    moved, _ = Lazy(MALA("x", 0.1), 0.25).step(
        lambda position: -position["x"].square().sum(dim=1), chain, free=free, generator=generator
    )
    changed = (moved.position["x"] != start["x"]).any(dim=1)
    # MALA accepts nearly all at this step; five standard errors of a share of a quarter: one false alarm in a million.
    assert abs(float(changed.double().mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 1000)
    assert torch.equal(moved.position["x"][:, 1], start["x"][:, 1]) and space.continuous == ("x",)


@pytest.mark.parametrize("mask", [torch.tensor(True), torch.tensor([True, False, True])], ids=["scalar", "one row"])
def test_a_mask_without_an_axis_of_chains_is_refused(mask: torch.Tensor) -> None:
    chain = kernels.evaluate(lambda position: -position["x"].square().sum(dim=1), {"x": torch.zeros(5, 3)})
    with pytest.raises(ValueError, match="Lazy: mask of block 'x' has shape"):
        Lazy(MALA("x", 0.1), 0.5).step(
            lambda position: -position["x"].square().sum(dim=1), chain, free={"x": mask}, generator=torch.Generator()
        )


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"Lazy: rate must lie in \(0, 1\]"):
        Lazy(Gibbs(SPACE), rate)


def test_a_spec_makes_each_move_of_y_lazy_and_nothing_else() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    spec = KernelSpec(discrete="gibbs", discrete_moves=2, continuous="mala", step_size=0.1)
    assert spec.build(space) == Cycle((Gibbs(space), Gibbs(space), MALA("x", 0.1)))
    lazy = spec.model_copy(update={"discrete_rate": 0.1})
    assert lazy.build(space) == Cycle((Lazy(Gibbs(space), 0.1), Lazy(Gibbs(space), 0.1), MALA("x", 0.1)))
    assert lazy.build_discrete(space) == (Gibbs(space), Gibbs(space))


def test_prediction_ignores_laziness() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    awake = KernelSpec(discrete="gibbs", step_size=0.1)
    config = small_config(space, kernel=awake, num_steps=3)
    energy = ConcatEnergy(space, MLP(5, (4,)))
    model = Model(config, energy=energy)
    lazy = Model(config.model_copy(update={"kernel": awake.model_copy(update={"discrete_rate": 1e-9})}), energy=energy)
    values = {"x": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}
    first, second = (
        predict(each, values, ["y"], method="sample", generator=torch.Generator().manual_seed(1))
        for each in (model, lazy)
    )
    assert torch.equal(first.probs["y"], second.probs["y"])
