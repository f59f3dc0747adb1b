"""The prior of networks: what fresh weights are drawn from, and what training adds to the gradient."""

import pytest
import torch
from torch.distributions import Normal

from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.references.network_prior import prior_groups
from jointebm.tables.density.energy import Residual
from jointebm.tables.training.smoothing import Curves

SD = {
    "embedding": 0.5,
    "vectors": 0.5,
    "bias": 0.5,
    "weights": 0.25,
    "biases": 0.5,
    "readout": 32**-0.5,
    "readout_bias": 0.5,
}
CLASSES = (300, 300, 300, 300)


def networks() -> list[torch.nn.Module]:
    residual = Residual(CLASSES, width=32, num_layers=3)
    masked = MaskedNetwork(ProductMixture(CLASSES), width=32, num_layers=3)
    for network in (residual, masked):
        network.initialise(torch.Generator().manual_seed(0))
    curves = Curves(residual, (None,) * 4, torch.zeros(9, 4, dtype=torch.int64))
    return [masked, curves]


@pytest.mark.parametrize("network", networks(), ids=["masked", "curves"])
def test_a_step_follows_the_gradient_of_minus_the_log_prior(network: torch.nn.Module) -> None:
    """With no gradient of a loss, plain descent moves by s / N times the gradient of log N(weights; 0, variances)."""
    named = {name: each for name, each in network.named_parameters() if name != "residual.embedding"}
    for each in named.values():
        each.data.copy_(torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
        each.grad = torch.zeros_like(each)
    prior = sum(
        Normal(0.0, next(SD[part] for part in name.split(".") if part in SD)).log_prob(each).sum()
        for name, each in named.items()
    )
    gradients = torch.autograd.grad(prior, list(named.values()))
    expected = [each.detach() + 0.01 * gradient for each, gradient in zip(named.values(), gradients, strict=True)]
    groups = prior_groups(named.items(), num_columns=4, width=32, strength=0.01)
    torch.optim.SGD(groups, lr=1.0).step()  # its weight_decay is that of Adam
    for each, want in zip(named.values(), expected, strict=True):
        assert torch.allclose(each, want, atol=1e-6)


@pytest.mark.parametrize("network", networks(), ids=["masked", "curves"])
def test_fresh_weights_are_draws_of_the_prior(network: torch.nn.Module) -> None:
    """Sums of squares of n normals: within five standard errors, a false alarm in 10^6 for each."""
    for name, each in network.named_parameters():
        if name == "residual.embedding":  # made of the vectors
            continue
        kind = next(part for part in name.split(".") if part in SD)
        if kind in ("embedding", "vectors", "bias", "weights"):
            share = float((each.detach() / SD[kind]).square().mean())
            assert abs(share - 1) < 5 * (2 / each.numel()) ** 0.5, name
        else:
            assert not each.any(), name


def test_a_parameter_without_a_variance_is_an_error() -> None:
    with pytest.raises(KeyError, match="scale"):
        prior_groups([("scale", torch.nn.Parameter(torch.zeros(2)))], num_columns=4, width=32, strength=0.01)
