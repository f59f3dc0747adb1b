"""Specification of gradients without autograd: those of autograd up to rounding, which has those of other layers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy
from jointebm.energies.layer_gradients import differentiated
from jointebm.kernels import Chain, evaluate
from jointebm.spaces.space import Position

SPACES = {
    "narrow": Space(x=Continuous(2), y=Categorical(2, (3,)), bits=Binary((2, 2))),
    "with an encoder": Space(x=Continuous((6, 7)), y=Categorical(3), z=Continuous()),
    "reals": Space(x=Continuous(3)),
    "many reals": Space(x=Continuous(40)),
    "labels": Space(y=Categorical((2, 3)), bits=Binary(3)),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def make(
    space: Space, activation: Any = "elu", *, scaled: bool = False, kind: type[ConcatEnergy] = ConcatEnergy
) -> ConcatEnergy:
    torch.manual_seed(0)
    width = sum(math.prod(space[name].position_shape) for name in space)
    scale = {name: 0.7 + 0.5 * place for place, name in enumerate(space)} if scaled else None
    net = MLP(width, (16, 12), activation=activation)
    return kind(space, net, scale=scale, output_scale=3.0 if scaled else 1.0).double()


def rows_of(space: Space, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return space.clamp(None, num_chains=9, generator=torch.Generator().manual_seed(1), dtype=dtype)[0]


def by_autograd(energy: nn.Module, position: Position) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {name: value.clone().requires_grad_() for name, value in position.items()}
    f = energy(leaves)
    found = torch.autograd.grad(f.sum(), tuple(leaves.values()))
    return f.detach(), dict(zip(leaves, found, strict=True))


def assert_right(chain: Chain, energy: nn.Module, position: Position) -> None:
    f, score = by_autograd(energy, position)
    torch.testing.assert_close(chain.f, f, rtol=1e-13, atol=1e-13)
    assert chain.score is not None and set(chain.score) == set(position) and not chain.score.constant
    for name, value in score.items():
        torch.testing.assert_close(chain.score[name], value, rtol=1e-12, atol=1e-12)
        assert not chain.score[name].requires_grad
    assert not chain.f.requires_grad


@every_space
@pytest.mark.parametrize("activation", ["elu", "silu"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_score_is_that_of_autograd(space: Space, activation: str, scaled: bool) -> None:
    energy, position = make(space, activation, scaled=scaled), rows_of(space)
    assert_right(evaluate(energy, position), energy, position)


@pytest.mark.parametrize("name", ["narrow", "labels"])
def test_autograd_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:  # noqa: ARG001
        raise AssertionError("autograd ran")

    monkeypatch.setattr(torch.autograd, "grad", refused)
    evaluate(make(SPACES[name]), rows_of(SPACES[name]))
    with pytest.raises(AssertionError, match="autograd ran"):
        evaluate(make(SPACES[name]).forward, rows_of(SPACES[name]))


class Doubled(ConcatEnergy):
    """Another function of the same layers."""

    def forward(self, position: Position) -> Tensor:
        return 2 * super().forward(position)

    def head(self, features: Tensor, position: Position) -> Tensor:
        return 2 * super().head(features, position)


@pytest.mark.parametrize("name", ["narrow", "with an encoder"])
def test_what_is_not_plain_is_left_to_autograd(name: str) -> None:
    space = SPACES[name]
    position = rows_of(space)
    other_layer = make(space)
    other_layer.net[3] = nn.Tanh()
    hooked = make(space)
    hooked.net[2].register_forward_hook(lambda layer, inputs, output: 2 * output)  # noqa: ARG005
    before = make(space)
    before.net[2].register_forward_pre_hook(lambda layer, inputs: (2 * inputs[0],))  # noqa: ARG005
    normed = make(space)
    nn.utils.parametrizations.weight_norm(normed.net[2])  # type: ignore[arg-type]
    for energy in (other_layer, hooked, before, normed):
        assert_right(evaluate(energy, position), energy, position)
        assert differentiated(list(energy.net), torch.zeros(2, energy.net[0].in_features, dtype=torch.float64)) is None
    replaced = make(space)
    replaced.forward = replaced.head = lambda *arguments: arguments[-1]["y"].flatten(1)[:, 0]  # type: ignore[method-assign]
    of_labels = evaluate(replaced, position)
    assert torch.equal(of_labels.f, position["y"].flatten(1)[:, 0])
    assert of_labels.score is not None and of_labels.score["y"].sum() == 9
    doubled = make(space, kind=Doubled)
    f, score = by_autograd(make(space), position)
    chain = evaluate(doubled, position)
    torch.testing.assert_close(chain.f, 2 * f)
    assert chain.score is not None
    for block, value in score.items():
        torch.testing.assert_close(chain.score[block], 2 * value)


def test_a_block_that_the_energy_does_not_read_has_a_constant_score() -> None:
    energy, position = make(SPACES["narrow"]), rows_of(SPACES["narrow"])
    chain = evaluate(energy, {**position, "other": torch.ones(9)})
    assert chain.score is not None and chain.score.constant == {"other"}
    assert not bool(chain.score["other"].any())


@pytest.mark.parametrize("name", ["narrow", "with an encoder"])
def test_autocast_is_left_to_autograd(name: str) -> None:
    """The bits of what `autograd` finds for the same function."""
    space = SPACES[name]
    energy, position = make(space).float(), rows_of(space, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        chain, other = evaluate(energy, position), evaluate(make(space, kind=Doubled).float(), position)
    assert chain.score is not None and other.score is not None
    assert torch.equal(2 * chain.f, other.f)
    for block in space:
        assert torch.equal(2 * chain.score[block].float(), other.score[block].float())
