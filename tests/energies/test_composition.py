"""Specification of composed energies: sums are products of densities, and conditions combine as Bayes' rule says."""

import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, kernels
from jointebm.energies import ConditionalEnergy, WeightedSum
from jointebm.spaces.space import Position
from jointebm.testing import stationarity_residual, target_probs, transition_matrix

SPACE = Space(x=Binary(3), a=Categorical(2), b=Categorical(3))
X = Space(x=SPACE["x"])


class Table(nn.Module):
    """f(x, a, b), any numbers at all, as a polynomial in x, so that there is a gradient."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values  # (8, 2, 3)

    def forward(self, position: Position) -> Tensor:
        bits = torch.stack([1 - position["x"], position["x"]], dim=2)  # (N, 3, 2)
        x = torch.einsum("ni,nj,nk->nijk", *bits.unbind(dim=1)).flatten(1)  # (N, 8)
        return torch.einsum("nx,xab,na,nb->n", x, self.values, position["a"], position["b"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DEPENDENT = normal(8, 2, 3)
INDEPENDENT = normal(8, 2, 1, seed=1) + normal(8, 1, 3, seed=2)  # a and b are independent given x
STATES = X.configurations(dtype=torch.float64)


def together(values: Tensor, a: int, b: int) -> WeightedSum:
    """log p(x | a) + log p(x | b) - log p(x), up to a constant."""
    table = Table(values)
    given_a = ConditionalEnergy(table, SPACE, {"a": a}, summed_out=("b",))
    given_b = ConditionalEnergy(table, SPACE, {"b": b}, summed_out=("a",))
    return WeightedSum((given_a, given_b, ConditionalEnergy(table, SPACE, summed_out=("a", "b"))), (1.0, 1.0, -1.0))


# Sums.


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 2.0), (1.0, -1.0), (0.0, 0.1)], ids=str)
def test_a_weighted_sum_is_a_product_of_powers_of_the_densities(weights: tuple[float, float]) -> None:
    one, two = (ConditionalEnergy(Table(values), SPACE, {"a": 0, "b": 2}) for values in (DEPENDENT, INDEPENDENT))
    product = one(STATES).softmax(dim=0) ** weights[0] * two(STATES).softmax(dim=0) ** weights[1]
    found = WeightedSum((one, two), weights)(STATES).softmax(dim=0)
    torch.testing.assert_close(found, product / product.sum(), rtol=0, atol=1e-14)


def test_weights_default_to_one() -> None:
    terms = [ConditionalEnergy(Table(values), SPACE, {"a": 0, "b": 2}) for values in (DEPENDENT, INDEPENDENT)]
    torch.testing.assert_close(WeightedSum(terms)(STATES), WeightedSum(terms, (1, 1))(STATES), rtol=0, atol=0)


def test_the_score_and_the_gradients_of_parameters_are_weighted_too() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, position: Position) -> Tensor:
            return self.scale * position["x"].square()

    total = WeightedSum((Scaled(), Scaled()), (3.0, -0.5))
    chain = kernels.evaluate(total, {"x": torch.tensor([1.0, 2.0])})
    torch.testing.assert_close(chain.score["x"], torch.tensor([10.0, 20.0]))
    total({"x": torch.tensor([2.0])}).sum().backward()
    assert [float(p.grad) for p in total.parameters()] == [12.0, -2.0]


# Conditions.


def test_given_and_summed_out_are_the_enumerated_conditional() -> None:
    density = DEPENDENT.exp()
    for a in range(2):
        found = ConditionalEnergy(Table(DEPENDENT), SPACE, {"a": a}, summed_out=("b",))(STATES).exp()
        torch.testing.assert_close(found, density[:, a].sum(dim=1), rtol=1e-12, atol=0)
    everything = ConditionalEnergy(Table(DEPENDENT), SPACE, summed_out=("b", "a"))(STATES).exp()
    torch.testing.assert_close(everything, density.sum(dim=(1, 2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 2)])
def test_conditions_given_apart_combine_to_the_conditional_given_both(a: int, b: int) -> None:
    found = together(INDEPENDENT, a, b)(STATES).softmax(dim=0)
    torch.testing.assert_close(found, INDEPENDENT[:, a, b].softmax(dim=0), rtol=0, atol=1e-14)


def test_conditions_on_dependent_labels_do_not_combine() -> None:
    """As the docstring warns: the sum is then another density."""
    found, density = together(DEPENDENT, 1, 2)(STATES).softmax(dim=0), DEPENDENT.exp()
    formula = density[:, 1].sum(dim=1) * density[:, :, 2].sum(dim=1) / density.sum(dim=(1, 2))
    torch.testing.assert_close(found, formula / formula.sum(), rtol=0, atol=1e-14)
    assert (found - DEPENDENT[:, 1, 2].softmax(dim=0)).abs().max() > 0.01


@pytest.mark.parametrize("kind", [kernels.GibbsWithGradients, kernels.Gibbs])
def test_kernels_sample_conditions_that_were_never_given_together(kind: type) -> None:
    energy = together(INDEPENDENT, 1, 0)
    moved, positions = transition_matrix(kind(X), energy, X)
    torch.testing.assert_close(target_probs(energy, positions), INDEPENDENT[:, 1, 0].softmax(dim=0), rtol=0, atol=1e-12)
    assert stationarity_residual(moved, target_probs(energy, positions)) < 1e-12


# Errors.


def test_an_invalid_sum_is_refused() -> None:
    term = ConditionalEnergy(Table(DEPENDENT), SPACE, {"a": 0, "b": 0})
    with pytest.raises(ValueError, match="got 0 terms and 0 weights; give at least one term"):
        WeightedSum(())
    with pytest.raises(ValueError, match="got 1 terms and 2 weights"):
        WeightedSum((term,), (1.0, 2.0))
    with pytest.raises(ValueError, match=r"weights must be finite, got \(nan,\)"):
        WeightedSum((term,), (math.nan,))


def test_invalid_conditions_are_refused() -> None:
    table, mixed = Table(DEPENDENT), Space(x=Continuous(2), y=Binary())
    with pytest.raises(ValueError, match="no block 'c'"):
        ConditionalEnergy(table, SPACE, {"c": 0})
    with pytest.raises(ValueError, match="block 'a' is both given and summed out"):
        ConditionalEnergy(table, SPACE, {"a": 0}, summed_out=("a",))
    with pytest.raises(ValueError, match="no discrete block 'x'"):
        ConditionalEnergy(table, mixed, summed_out=("x",))
    with pytest.raises(ValueError, match="block 'x' has missing entries; give all of it, or sum it out"):
        ConditionalEnergy(table, mixed, {"x": [0.0, math.nan]})
    with pytest.raises(ValueError, match="block 'a'"):
        ConditionalEnergy(table, SPACE, {"a": 2})


@pytest.mark.parametrize("block", ["a", "b"])
def test_a_block_that_is_given_or_summed_out_is_refused_in_the_position(block: str) -> None:
    energy = ConditionalEnergy(Table(DEPENDENT), SPACE, {"a": 0}, summed_out=("b",))
    rows = SPACE.configurations(dtype=torch.float64)
    with pytest.raises(ValueError, match=f"block {block!r} is given or summed out already; leave it out"):
        energy({name: rows[name] for name in ("x", block)})
