"""Specification of energies of sets: the formula, and that the order of items does not matter."""

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, kernels
from jointebm.energies import MLP, DeepSetEnergy, PerItem

SPACE = Space(points=Continuous((5, 2)), kinds=Categorical(3, (5,)), members=Binary(5))


def energy() -> DeepSetEnergy:
    torch.manual_seed(0)
    return DeepSetEnergy(SPACE, MLP(6, (8,), 4), MLP(4, (8,))).double()


def position(num: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = {
        "points": torch.randn(num, 5, 2, generator=generator),
        "kinds": torch.randint(3, (num, 5), generator=generator),
        "members": torch.randint(2, (num, 5), generator=generator),
    }
    return SPACE.encode(values, dtype=torch.float64)[0]


def test_f_is_rho_of_the_sum_of_phi_over_items_one_by_one() -> None:
    f, rows = energy(), position()
    for row in range(3):
        total = torch.zeros(4, dtype=torch.float64)
        for item in range(5):
            parts = [rows["points"][row, item], rows["kinds"][row, item], rows["members"][row, item][None]]
            total = total + f.phi(torch.cat(parts)[None])[0]
        torch.testing.assert_close(f(rows)[row], f.rho(total[None])[0, 0], rtol=0, atol=1e-12)


def test_permuting_items_leaves_f_and_permutes_the_score() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    rows = position()
    permuted = {name: value[:, order] for name, value in rows.items()}
    one, two = kernels.evaluate(energy(), rows), kernels.evaluate(energy(), permuted)
    torch.testing.assert_close(one.f, two.f, rtol=0, atol=1e-12)
    for name in SPACE:
        torch.testing.assert_close(one.score[name][:, order], two.score[name], rtol=0, atol=1e-12)
    only_points = energy()({**rows, "points": permuted["points"]})  # one block alone is another position
    assert (only_points - one.f).abs().min() > 1e-6


def test_differences_of_f_are_not_rounded_to_bfloat16_under_autocast() -> None:
    f, rows = energy().float(), {name: value.float() for name, value in position().items()}
    with torch.autocast("cpu", torch.bfloat16):
        found, summed = f(rows), f.phi(torch.cat([rows["points"], rows["kinds"], rows["members"][..., None]], dim=2))
    assert found.dtype == torch.float32 and summed.dtype == torch.bfloat16  # phi alone is coarse
    torch.testing.assert_close(found, f.rho(summed.float().sum(dim=1)).squeeze(1), rtol=0, atol=1e-7)


def test_a_classifier_of_items_permutes_with_them() -> None:
    torch.manual_seed(0)
    net, order = PerItem(MLP(2, (8,), 4), MLP(6, (8,))).double(), torch.tensor([3, 0, 4, 1, 2])
    points = position()["points"]
    torch.testing.assert_close(net(points)[:, order], net(points[:, order]), rtol=0, atol=1e-12)
    context = net.phi(points[0]).sum(dim=0)
    expected = net.rho(torch.cat([points[0, 2], context])[None])[0, 0]
    torch.testing.assert_close(net(points)[0, 2], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "space", [Space(x=Continuous((4, 2)), y=Binary(5)), Space(x=Continuous()), Space(y=Binary())], ids=str
)
def test_blocks_without_one_number_of_items_are_refused(space: Space) -> None:
    with pytest.raises(ValueError, match="DeepSetEnergy: every block needs the same first axis"):
        DeepSetEnergy(space, nn.Identity(), nn.Identity())
