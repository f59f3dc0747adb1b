"""Without reals, the mixture of products has the bits of the mixture of tables. Goes when tables use this one."""

import pytest
import torch

from jointebm.randomness.row_streams import RowStream
from jointebm.references.expectation_maximisation import fit_product_mixture
from jointebm.references.layout import MixedRows
from jointebm.references.product_mixture import ProductMixture
from jointebm.tables.density.mixture import Mixture, fit_mixture
from references.small_spaces import generator

CLASSES = (2, 7, 20, 3)


@pytest.mark.parametrize("num_components", [1, 5, 24])
def test_fits_and_answers_have_the_same_bits(num_components: int) -> None:
    drawn = torch.stack([torch.randint(count, (500,), generator=generator(count)) for count in CLASSES], dim=1)
    drawn[:, 1] = (drawn[:, 2] + drawn[:, 3]) % 7
    codes = drawn.masked_fill(torch.rand(500, 4, generator=generator(2)) < 0.2, -1)
    arguments = {"num_components": num_components, "prior_strength": 2.0}
    old = fit_mixture(codes, CLASSES, generator=generator(), **arguments)
    new = fit_product_mixture(MixedRows(codes, torch.empty(500, 0)), CLASSES, generator=generator(), **arguments)
    same_answers(old, new, codes)


def same_answers(old: Mixture, new: ProductMixture, codes: torch.Tensor) -> None:
    assert torch.equal(new.log_weights, old.log_weights) and torch.equal(new.log_probs, old.log_probs)
    assert torch.equal(new(codes), old(codes)) and torch.equal(new.components(codes), old.components(codes))
    others = codes.clone()
    others[:, 2] = -1
    components = old.components(others)
    assert torch.equal(new.of_classes(components, 2), old.of_classes(components, 2))
    assert torch.equal(new.of_column(2), old.of_column(2))
    evidence = [None, torch.randn(7, generator=generator(3)), None, torch.tensor([0.0, -torch.inf, 1.0])]
    for each in (None, evidence):
        keys = torch.arange(len(codes))
        drawn = old.draw(codes, RowStream(keys, seed=1), evidence=each)
        assert torch.equal(new.draw(codes, RowStream(keys, seed=1), evidence=each), drawn)
        drawn = old.draw(codes, generator(4), evidence=each)
        assert torch.equal(new.draw(codes, generator(4), evidence=each), drawn)
