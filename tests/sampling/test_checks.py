"""Specification of the check that f of a row depends on that row alone."""

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Continuous, Space, TrainConfig, Trainer, kernels, sample
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


class Normalised(nn.Module):
    """Batch normalisation that is no layer of torch."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden if not self.training else (hidden - hidden.mean(dim=0)) / hidden.std(dim=0, correction=0)


class Dropping(nn.Module):
    """Dropout that is no layer of torch."""

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.dropout(hidden, 0.5, self.training)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Dropout(0.5), nn.AlphaDropout(1e-3)])
@pytest.mark.parametrize("num_chains", [1, 2, 101])
def test_batch_normalisation_and_dropout_in_training_mode_are_refused_by_name(
    layer: nn.Module, num_chains: int
) -> None:
    """However small their effect, and of a single chain too."""
    torch.manual_seed(0)
    network = Network(layer).train()
    with pytest.raises(ValueError, match=rf"layer 'net\.1' \({type(layer).__name__}\) is in training mode"):
        run(network, num_chains)
    run(network.eval(), num_chains)


def test_layers_that_drop_nothing_pass_and_batch_normalisation_without_statistics_never_does() -> None:
    run(Network(nn.Dropout(0.0)).train())
    with pytest.raises(ValueError, match="has no running statistics"):
        run(Network(nn.BatchNorm1d(16, track_running_stats=False)).eval())


@pytest.mark.parametrize("layer", [Normalised(), Dropping()])
@pytest.mark.parametrize("num_chains", [2, 3, 8, 101])
def test_what_does_the_same_without_such_a_layer_is_seen_by_its_values(layer: nn.Module, num_chains: int) -> None:
    torch.manual_seed(0)
    network = Network(layer).train()
    with pytest.raises(ValueError, match=r"depending on the other rows or on chance\. Call \.eval\(\)"):
        run(network, num_chains)
    run(network.eval(), num_chains)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(16), nn.Dropout(0.5)])
def test_training_refuses_such_layers_at_the_start(layer: nn.Module) -> None:
    rows = {"x": torch.zeros(8, 3), "y": torch.zeros(8)}
    config = TrainConfig(num_iterations=1, batch_size=8, num_steps=1, learning_rate=1e-3, buffer_size=8)

    def trainer(module: nn.Module) -> Trainer:
        kernel = kernels.Cycle((kernels.Gibbs(SPACE), kernels.MALA("x", 0.1)))
        return Trainer(module, SPACE, lambda num, generator: rows, kernel=kernel, config=config, seed=0)  # noqa: ARG005

    with pytest.raises(ValueError, match=r"layer 'net\.1' .* is in training mode"):
        trainer(Network(layer).train())
    trainer(Network(layer).eval())


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
