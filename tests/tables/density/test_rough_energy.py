"""Rough F is near F, and that of a row does not depend on other rows."""

import pytest
import torch

from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.density.rough_energy import RoughEnergy, rough_precision
from support.tiny_tables import ALL, energy, energy_with_network, rebased_energy

CLASSES = (40, 3, 70)


def of_default_width() -> TableEnergy:
    """A density in float32 whose networks have their usual size and differ from the mixture by nats."""
    generator = torch.Generator().manual_seed(0)
    residual, mixture = Residual(CLASSES, width=384, num_layers=2), ProductMixture(CLASSES)
    network = MaskedNetwork(mixture, width=256, num_layers=3)
    for each in (residual, network):
        each.initialise(generator)
        each.readout.data.normal_(std=0.1, generator=generator)
    return TableEnergy(mixture, Rebased(residual, ProductMixture(CLASSES), mixture), network)


def rows(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(count, (num,), generator=generator) for count in CLASSES], dim=1)


@torch.no_grad()
def test_in_float64_it_is_f_and_the_proposal() -> None:
    for made in (energy(), rebased_energy(), energy_with_network()):
        assert RoughEnergy(made).log_density(ALL) == pytest.approx(made(ALL), abs=1e-12)
    made = energy_with_network()
    known = ALL.clone()
    known[:, 1] = -1
    assert made.network is not None
    assert RoughEnergy(made).conditional(known, 1) == pytest.approx(made.network.conditional(known, 1), abs=1e-12)
    assert RoughEnergy(energy()).conditional(known, 1) is None


@torch.no_grad()
def test_in_float32_it_is_near_f() -> None:
    made, codes = of_default_width(), rows(512)
    error = RoughEnergy(made).log_density(codes) - made(codes)
    assert float(made(codes).std()) > 0.5 and float(error.abs().max()) < 0.1
    assert bool((error != 0).any()) == (rough_precision(made.reference.log_weights) == torch.bfloat16)


@torch.no_grad()
def test_a_row_has_the_same_bits_in_every_batch() -> None:
    made, codes = RoughEnergy(of_default_width()), rows(512)
    of_all = made.log_density(codes)
    conditionals = {column: made.conditional(codes, column) for column in (0, 1)}
    for num in (16, 48, 256):
        for start in (0, 5, 200):
            some = slice(start, start + num)
            assert torch.equal(made.log_density(codes[some]), of_all[some])
            for column, known in conditionals.items():
                found = made.conditional(codes[some], column)
                assert found is not None and known is not None and torch.equal(found, known[some])


@torch.no_grad()
def test_rows_that_are_completed_have_the_sums_of_whole_rows() -> None:
    """Rows that lack three, one and no entries, and prefixes that still lack one."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 0.1)):
        made, codes = RoughEnergy(of_default_width().to(dtype)), rows(64)
        asked = codes[:4].clone()
        asked[0] = -1
        asked[1, 2] = asked[2, 0] = -1
        known, origin = made.known(asked), torch.arange(64) % 4
        completed = torch.where(asked[origin] < 0, codes, asked[origin])
        expected = made.log_density(completed)
        assert made.log_density(completed, known.at(origin)) == pytest.approx(expected, abs=tolerance)
        assert float(expected.std()) > 0.5
        prefixes = completed.clone()
        prefixes[:, 2] = torch.where(asked[origin, 2] < 0, -1, prefixes[:, 2])
        found, whole = made.conditional(prefixes, 2, known.at(origin)), made.conditional(prefixes, 2)
        assert found is not None and whole is not None and found == pytest.approx(whole, abs=tolerance)


def test_f_on_the_way_from_the_reference_is_refused() -> None:
    made = rebased_energy()
    with pytest.raises(ValueError, match=r"got 0.5 F.*on the way from q to F"):
        RoughEnergy(TableEnergy(made.reference, made.residual.scaled(0.5)))
