"""Specification of the check that f of a row depends on that row alone."""

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Continuous, Space, kernels, sample
from jointebm.kernels import evaluate
from jointebm.sampling.checks import check_rows
from jointebm.spaces.space import Position

SPACE = Space(x=Continuous(3), y=Binary())


class Network(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), layer, nn.SiLU(), nn.Linear(16, 1))

    def forward(self, position: Position) -> Tensor:
        return self.net(torch.cat([position["x"], position["y"][:, None]], dim=1)).squeeze(1)


def run(module: nn.Module, num_chains: int = 8) -> None:
    generator = torch.Generator().manual_seed(0)
    sample(module, SPACE, kernels.MALA("x", 0.1), num_chains=num_chains, num_steps=1, generator=generator)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Dropout(0.5)])
@pytest.mark.parametrize("num_chains", [2, 3, 8, 101])
def test_batch_normalisation_and_dropout_in_training_mode_are_refused(layer: nn.Module, num_chains: int) -> None:
    torch.manual_seed(0)
    network = Network(layer).train()
    with pytest.raises(ValueError, match=r"depending on the other rows or on chance\. Call \.eval\(\)"):
        run(network, num_chains)
    run(network.eval(), num_chains)


@pytest.mark.parametrize("num_chains", [1, 2, 7])
def test_functions_of_single_rows_pass_even_with_constants_per_row(num_chains: int) -> None:
    torch.manual_seed(0)
    run(Network(nn.LayerNorm(16)), num_chains)
    constants = torch.arange(float(num_chains))  # one for each chain: f of a row by its place, not by other rows
    position = {"x": torch.randn(num_chains, 3)}

    def f(position: Position) -> Tensor:
        return -(position["x"].sum(dim=1) - constants).square()

    check_rows(f, evaluate(f, position))


def test_half_precision_is_no_dependence() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(300, 64), torch.randn(50, 300)

    def f(position: Position) -> Tensor:
        return (position["x"].bfloat16() @ weight.bfloat16()).tanh().float().sum(dim=1)

    check_rows(f, evaluate(f, {"x": x}))
