"""Specification of temperature scaling: the factor minimises the loss, and leaves the chains of x unchanged."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, KernelSpec, Space
from jointebm.energies import ConcatSpec, JEMSpec, MLPSpec
from jointebm.runs.temperature_scaling import MAX_FACTOR, fit_inverse_temperature, rescaled
from jointebm.spaces.space import Position
from support.block_models import small_config

SPACE = Space(x=Continuous(3), y=Categorical(3), bit=Binary())
WEIGHTS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def log_density(position: Position) -> Tensor:
    y = torch.cat([position["y"], position["bit"][:, None]], dim=1)
    return ((position["x"] @ WEIGHTS) * y).sum(dim=1) + 7 * position["x"].sum(dim=1)


def rows(num: int, sharpness: float) -> dict[str, Tensor]:
    """Rows whose labels are drawn from p(y | x) proportional to exp(sharpness f)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num, 3, generator=generator, dtype=torch.float64)
    y = (sharpness * (x @ WEIGHTS[:, :3])).softmax(dim=1).multinomial(1, generator=generator)[:, 0]
    bit = torch.rand(num, generator=generator, dtype=torch.float64) < (sharpness * (x @ WEIGHTS[:, 3])).sigmoid()
    return {"x": x, "y": torch.eye(3, dtype=torch.float64)[y], "bit": bit.double()}


def loss(position: Position, c: float) -> float:
    """The mean of -log p_c(y | x), written out."""
    class_logits, bit_logits = c * (position["x"] @ WEIGHTS[:, :3]), c * (position["x"] @ WEIGHTS[:, 3])
    of_class = -(class_logits.log_softmax(dim=1) * position["y"]).sum(dim=1)
    of_bit = torch.nn.functional.binary_cross_entropy_with_logits(bit_logits, position["bit"], reduction="none")
    return float((of_class + of_bit).mean())


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_no_other_factor_has_a_smaller_loss(sharpness: float) -> None:
    position = rows(333, sharpness)
    best = fit_inverse_temperature(log_density, SPACE, position)
    for other in (0.5 * best, 0.999 * best, 1.001 * best, 2 * best):
        assert loss(position, best) < loss(position, other)


def test_labels_all_correct_or_all_wrong_give_an_end_of_the_range() -> None:
    position = rows(50, 1e6)
    assert fit_inverse_temperature(log_density, SPACE, position) == pytest.approx(MAX_FACTOR)
    assert fit_inverse_temperature(lambda at: -log_density(at), SPACE, position) == pytest.approx(1 / MAX_FACTOR)


def test_rescaling_multiplies_f_and_keeps_the_drift_of_x() -> None:
    kernel = KernelSpec(step_size=0.1, temperature=0.5)
    config = small_config(SPACE, energy=ConcatSpec(net=MLPSpec(hidden=(8,)), output_scale=2.0), kernel=kernel)
    other = rescaled(config, 3.0)
    assert (other.energy.output_scale, other.kernel.temperature) == (6.0, 1.5)  # type: ignore[union-attr]
    first, second = config.energy.build(SPACE), other.energy.build(SPACE)
    second.load_state_dict(first.state_dict())
    position = {name: value.float().requires_grad_(name == "x") for name, value in rows(5, 1.0).items()}
    torch.testing.assert_close(second(position), 3 * first(position))
    drifts = [
        torch.autograd.grad(energy(position).sum(), position["x"])[0] / each.kernel.temperature
        for energy, each in ((first, config), (second, other))
    ]
    torch.testing.assert_close(drifts[0], drifts[1])


def test_an_energy_without_a_scale_is_refused() -> None:
    config = small_config(SPACE, energy=JEMSpec(net=MLPSpec(hidden=(8,))))
    with pytest.raises(ValueError, match=r"its energy \(jem\) has no output_scale"):
        rescaled(config, 2.0)
