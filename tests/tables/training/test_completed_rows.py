"""Completed rows of a table: clamped where observed, and draws of the model where not."""

import pytest
import torch

from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.training.completed_rows import CompletedRows
from support.tiny_tables import ALL, energy, energy_with_network, enumerated, generator, matches


def test_completions_start_as_draws_of_the_base_and_keep_what_is_observed() -> None:
    made = energy()
    codes = torch.tensor([[0, -1, 2], [-1, -1, -1], [1, 2, 3]])
    kept = CompletedRows(codes, made.reference, generator())
    expected = made.reference.draw(codes, generator())
    assert torch.equal(kept.rows(torch.arange(3)), expected)
    numbers = torch.tensor([0, 2])
    moved = kept.moved(made, numbers, generator=generator(1))
    assert torch.equal(kept.rows(torch.arange(3)), expected)  # nothing lasts of an attempt
    kept.keep(numbers, moved)
    assert torch.equal(moved[codes[[0, 2]] >= 0], codes[[0, 2]][codes[[0, 2]] >= 0])
    assert torch.equal(kept.rows(torch.tensor([0, 2])), moved)
    assert torch.equal(kept.rows(torch.tensor([1])), expected[[1]])


@pytest.mark.parametrize("made", [energy(), energy_with_network()])
def test_persistent_completions_become_draws_of_the_model(made: TableEnergy) -> None:
    """20,000 rows, 40 visits; every share within 5.5 standard errors: false alarm below 1e-6 (fixed seed)."""
    num = 20_000
    codes = torch.tensor([[-1, 1, -1]]).expand(num, -1)
    kept, drawn, rows = CompletedRows(codes, made.reference, generator()), generator(1), torch.arange(num)
    for _ in range(40):
        moved = kept.moved(made, rows, generator=drawn)
        kept.keep(rows, moved)
    probs = enumerated(made).masked_fill(~matches(codes[:1])[0], -torch.inf).softmax(dim=0)
    shares = (moved[:, None] == ALL).all(dim=2).double().mean(dim=0)
    assert ((shares - probs).abs() <= 5.5 * (probs * (1 - probs) / num).sqrt() + 1e-12).all()


def test_completions_cross_between_groups_by_draws_of_the_proposal() -> None:
    """Two columns agree but for one row in exp(12): sweeps alone stay in the group where the completion began."""
    twins = ProductMixture((2, 2), 2)
    twins.log_probs.copy_(torch.tensor([[0.0, -12.0], [-12.0, 0.0]]).repeat(2, 1).log_softmax(dim=0))
    residual, known = Residual((2, 2), width=4, num_layers=1), torch.full((400, 2), -1)
    shares = []
    for network in (None, MaskedNetwork(twins, width=32, num_layers=1)):
        made = TableEnergy(twins, residual, network)
        kept, numbers = CompletedRows(known, twins, generator()), torch.arange(400)
        start = kept.rows(numbers)
        shares.append(float((kept.moved(made, numbers, generator=generator(1)) != start).double().mean()))
    assert shares[0] < 0.01 and 0.4 < shares[1] < 0.6


def test_memory_is_two_bytes_per_entry_or_four_for_very_many_classes() -> None:
    for classes, dtype in (((2, 3), torch.int16), ((2, 40_000), torch.int32)):
        kept = CompletedRows(torch.zeros(5, 2, dtype=torch.int64), ProductMixture(classes), generator())
        assert kept.codes.dtype == dtype
