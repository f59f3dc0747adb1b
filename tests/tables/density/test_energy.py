"""F of a table: classes of a column agree with whole rows, and a new network is zero."""

import pytest
import torch

from jointebm.tables.density.energy import Residual, TableEnergy
from support.tiny_tables import ALL, CLASSES, energy_with_table, generator, mixture, rebased_energy, tables_of


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("column", range(3))
def test_all_classes_of_a_column_are_those_of_whole_rows(column: int, dtype: torch.dtype, tolerance: float) -> None:
    made = energy_with_table(dtype=dtype)
    found = made.of_classes(ALL, column)
    assert found.shape == (24, CLASSES[column])
    for code in range(CLASSES[column]):
        rows = ALL.clone()
        rows[:, column] = code
        assert (found[:, code] - made(rows)).abs().max() < tolerance


def test_a_rebased_residual_leaves_the_density_alone() -> None:
    trained, rebased = energy_with_table(), rebased_energy()
    assert (rebased(ALL) - trained(ALL)).abs().max() < 1e-13
    for column in range(3):
        assert (rebased.of_classes(ALL, column) - trained.of_classes(ALL, column)).abs().max() < 1e-13
    assert (rebased.reference(ALL) - trained.reference(ALL)).abs().max() > 0.5
    expected = rebased.reference(ALL) + 0.3 * (trained(ALL) - rebased.reference(ALL))
    scaled = TableEnergy(rebased.reference, rebased.residual.scaled(0.6).scaled(0.5))
    assert (scaled(ALL) - expected).abs().max() < 1e-13


@pytest.mark.parametrize("width", range(1, 20))
def test_the_network_of_a_row_does_not_depend_on_its_place(width: int) -> None:
    residual = Residual((3, 8), width=width, num_layers=2)
    residual.initialise(generator())
    rows = torch.stack([torch.randint(count, (512,), generator=generator(count)) for count in (3, 8)], dim=1)
    shuffled = torch.randperm(512, generator=generator())
    with torch.no_grad():
        residual.readout.fill_(1.0)
        assert torch.equal(residual(rows[shuffled]), residual(rows)[shuffled])


def test_a_new_network_is_zero() -> None:
    residual = Residual(CLASSES, width=8, num_layers=3)
    residual.initialise(generator())
    made = TableEnergy(mixture(dtype=torch.float32), residual)
    assert torch.equal(made(ALL), made.reference(ALL))
    assert made.residual.readout.requires_grad


def test_the_first_layer_is_a_sum_over_observed_columns() -> None:
    residual = energy_with_table().residual
    rows = torch.tensor([[1, 2, 3], [1, -1, 3]])
    vectors = [residual.of_column(column) for column in range(3)]
    expected = torch.stack([vectors[0][1] + vectors[1][2] + vectors[2][3], vectors[0][1] + vectors[2][3]])
    bias = torch.cat([residual.bias, torch.zeros(4)])  # one of the tables there is not
    assert (residual.summed(rows) - expected - bias).abs().max() < 1e-14


def test_a_table_adds_its_entry_of_both_codes() -> None:
    table = torch.randn(2, 4, generator=generator(8))
    residual = Residual(CLASSES, width=8, num_layers=2, num_table_rows=2)
    residual.initialise(generator())
    residual.tables.copy_(tables_of(table))
    expected = table[ALL[:, 0], ALL[:, 2]]
    assert torch.equal(residual(ALL), expected) and torch.equal(residual.of_tables(ALL), expected)
    assert torch.equal(residual.scaled(0.5)(ALL), expected / 2)
    unknown = torch.tensor([[-1, 0, 3], [1, 0, -1]])
    assert torch.equal(residual.of_tables(unknown), torch.zeros(2))
