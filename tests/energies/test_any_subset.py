"""Specification of `AnySubsetEnergy`: one function of every part of a row, continuous where a real goes missing."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, kernels, testing
from jointebm.energies import AnySubsetEnergy, AnySubsetSpec, LevelConvSpec, LevelMLPSpec

F64 = torch.float64
SPACE = Space(x=Continuous(2), bit=Binary(), group=Categorical((2, 3)))
INF = torch.inf


def energy_of(space: Space = SPACE, *, spread: float = 0.4) -> AnySubsetEnergy:
    """A random network in double precision."""
    torch.manual_seed(0)
    energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(8, 8)), min_noise=0.1, max_noise=10.0).build(space).double()
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=spread)
    return energy


def normal_log_prob(x: Tensor, sd: Tensor) -> Tensor:
    return -0.5 * (x / sd).square() - (sd * math.sqrt(2 * math.pi)).log()


@pytest.mark.parametrize("noise", [(0.1, 0.1), (0.3, INF), (INF, 2.0), (INF, INF)])
def test_untrained_it_is_the_normal_density_of_what_is_visible(noise: tuple[float, float]) -> None:
    energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(8,)), min_noise=0.1, max_noise=10.0).build(SPACE)
    x, s = torch.tensor([[0.7, -1.2]]), torch.tensor([noise])
    visible = s.isfinite()
    total = torch.where(visible, normal_log_prob(x, (1 + s.square()).sqrt()), 0.0)
    table = energy.table(torch.where(visible, x, 0.0), s)
    torch.testing.assert_close(table.logsumexp(dim=1), total.sum(dim=1))
    torch.testing.assert_close(table.softmax(dim=1), torch.full((1, 12), 1 / 12))


def test_the_density_of_nothing_is_one() -> None:
    energy = energy_of()
    nothing = energy.table(torch.zeros(1, 2, dtype=F64), torch.full((1, 2), INF, dtype=F64))
    assert float(nothing.detach().logsumexp(dim=1)) == pytest.approx(0.0, abs=1e-12)


def test_a_real_under_growing_noise_becomes_a_missing_one() -> None:
    energy, x = energy_of(), torch.tensor([[0.7, -1.2]], dtype=F64)
    missing = energy.table(x, torch.tensor([[0.3, INF]], dtype=F64))
    gaps = []
    for s in (1e2, 1e4, 1e6):
        noisy = x + torch.tensor([[0.0, s * 0.8]], dtype=F64)
        f = energy.table(noisy, torch.tensor([[0.3, s]], dtype=F64))
        gaps.append(
            float(
                (f.detach() - normal_log_prob(noisy[0, 1], torch.tensor(s, dtype=F64)) - missing.detach()).abs().max()
            )
        )
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-4


def test_what_stands_in_a_missing_place_does_not_matter() -> None:
    energy, s = energy_of(), torch.tensor([[0.3, INF]], dtype=F64)
    one, other = (energy.table(torch.tensor([[0.7, value]], dtype=F64), s) for value in (0.0, 55.0))
    assert torch.equal(one, other)


def test_derivatives_are_those_of_finite_differences() -> None:
    energy = energy_of()
    x = torch.tensor([[0.7, -1.2]], dtype=F64, requires_grad=True)
    log_s = torch.tensor([[-1.0, 0.5]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: energy.table(a, b.exp()), (x, log_s))


def test_all_reals_at_the_lowest_noise_are_the_density_of_the_model() -> None:
    energy, configurations = energy_of(), SPACE.configurations(dtype=F64)
    x = torch.tensor([[0.7, -1.2]], dtype=F64)
    position = {"x": x.expand(12, 2), **configurations}
    expected = energy.table(x, torch.full((1, 2), 0.1, dtype=F64))[0]
    torch.testing.assert_close(energy(position), expected)
    torch.testing.assert_close(energy.head(energy.encode(position), position), expected)


def test_the_label_table_marks_the_configurations_that_agree() -> None:
    energy, configurations = energy_of(), SPACE.configurations(dtype=F64)
    assert torch.equal(energy.label_table(configurations), torch.eye(12, dtype=F64))
    position, _ = SPACE.encode({"bit": [1, -1], "group": [[-1, 2], [0, -1]]}, dtype=F64)
    labels = SPACE.decode(configurations)
    agree = [(labels["bit"] == 1) & (labels["group"][:, 1] == 2), labels["group"][:, 0] == 0]
    assert torch.equal(energy.label_table(position), torch.stack(agree).to(F64))


def test_every_kernel_of_labels_leaves_it_invariant() -> None:
    """With x clamped: the transition matrix of the real step, by enumeration."""
    energy, given = energy_of(), {"x": [0.7, -1.2]}
    for kernel in (kernels.Gibbs(SPACE), kernels.GibbsWithGradients(SPACE)):
        matrix, positions = testing.transition_matrix(kernel, energy, SPACE, given=given)
        p = energy({name: value.to(F64) for name, value in positions.items()}).softmax(dim=0).detach()
        torch.testing.assert_close(p @ matrix, p, rtol=0, atol=1e-10)


def test_the_base_has_the_moments_and_frequencies_of_the_known_entries() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    energy = energy_of(space)
    x = torch.tensor([[1.0, 5.0], [3.0, math.nan], [math.nan, 5.0], [2.0, 8.0]], dtype=F64)
    position, _ = space.encode({"x": x, "y": [0, 0, 1, -1]}, dtype=F64)
    energy.fit_base(position)
    torch.testing.assert_close(energy.mean, torch.tensor([2.0, 6.0], dtype=F64))
    variance = torch.tensor([2 / 3, 2.0], dtype=F64)
    torch.testing.assert_close(energy.variance, variance + 1e-3 * variance.mean())
    counts = torch.tensor([2 + 1 / 3, 1 + 1 / 3, 0.5], dtype=F64)  # a missing label is each class in part
    torch.testing.assert_close(energy.log_prior.exp(), counts / counts.sum())


def test_blocks_are_the_inverse_of_reals() -> None:
    space = Space(a=Continuous((2, 3)), y=Categorical(2), b=Continuous())
    energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(4,)), min_noise=0.1, max_noise=1.0).build(space)
    position = {"a": torch.randn(4, 2, 3), "b": torch.randn(4), "y": torch.eye(2)[[0, 1, 0, 1]]}
    blocks = energy.blocks(energy.reals(position))
    assert blocks["a"].equal(position["a"]) and blocks["b"].equal(position["b"])


def test_convolutions_see_every_pixel_and_its_noise() -> None:
    space = Space(image=Continuous((8, 8)), y=Categorical(3))
    spec = AnySubsetSpec(net=LevelConvSpec(channels=(4, 8), hidden=(16,)), min_noise=0.1, max_noise=10.0)
    torch.manual_seed(0)
    energy = spec.build(space).double()
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 64, dtype=F64, requires_grad=True)
    log_s = torch.full((1, 64), -1.0, dtype=F64, requires_grad=True)
    f = energy.table(x, log_s.exp())[0, 0]
    for gradient in torch.autograd.grad(f, [x, log_s]):
        assert int((gradient != 0).sum()) == 64


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Space(x=Continuous()), "needs continuous and discrete blocks"),
        (Space(x=Continuous(), y=Categorical(10, (4,))), "at most 4096, but this space has 10000"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(space: Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnySubsetSpec(net=LevelMLPSpec(hidden=(4,)), min_noise=0.1, max_noise=1.0).build(space)


def test_levels_out_of_order_and_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs 0 < min_noise < max_noise, got min_noise 2\.0 and max_noise 1\.0"):
        AnySubsetSpec(net=LevelMLPSpec(hidden=(4,)), min_noise=2.0, max_noise=1.0).build(SPACE)
    spec = AnySubsetSpec(net=LevelConvSpec(channels=(4,), hidden=(4,)), min_noise=0.1, max_noise=1.0)
    with pytest.raises(ValueError, match="level-conv: needs one continuous block of square images"):
        spec.build(Space(image=Continuous((4, 6)), y=Binary()))


def test_a_spec_is_plain_data() -> None:
    spec = AnySubsetSpec(net=LevelConvSpec(channels=(4,), hidden=(4,)), min_noise=0.1, max_noise=1.0)
    assert AnySubsetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert list(itertools.chain(spec.net.channels, spec.net.hidden)) == [4, 4]
