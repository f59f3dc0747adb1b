"""Specification of the Ising model: its formula, its closed forms against enumeration, and kernels on it."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Continuous, Space, recipes
from jointebm.energies import IsingEnergy
from jointebm.runs.training_run import train
from jointebm.sampling import enumeration as exact
from jointebm.testing import (
    CRITICAL_COUPLING,
    ising_critical_square,
    ising_interaction,
    ising_log_partition,
    ising_magnetization,
)

FOUR = Space(spins=Binary((4, 4)))
COUPLINGS = [0.05, 0.3, CRITICAL_COUPLING, 0.6, 1.5]


def ising(shape: tuple[int, int], coupling: float, field: float = 0.0) -> IsingEnergy:
    energy = IsingEnergy(Space(spins=Binary(shape)), coupling=coupling, field=field).double()
    with torch.no_grad():  # in double precision from the start
        energy.coupling.fill_(coupling)
        energy.field.fill_(field)
    return energy


def matrix(rows: int, columns: int) -> Tensor:
    """How often two spins are neighbours, above or to the left, one by one."""
    weights = torch.zeros(rows * columns, rows * columns, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            for other in ((row - 1) % rows, column), (row, (column - 1) % columns):
                weights[row * columns + column, other[0] * columns + other[1]] += 1
    return weights


@pytest.mark.parametrize("shape", [(4, 4), (2, 3), (3, 2), (2, 2), (3, 5)], ids=str)
def test_f_is_the_quadratic_form_of_section_2_2_in_every_state(shape: tuple[int, int]) -> None:
    energy = ising(shape, 0.7, -0.3)
    states = Space(spins=Binary(shape)).configurations(dtype=torch.float64)
    spins = 2 * states["spins"].flatten(1) - 1
    expected = 0.7 * torch.einsum("ni,ij,nj->n", spins, matrix(*shape), spins) - 0.3 * spins.sum(dim=1)
    torch.testing.assert_close(energy(states), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (2, 3), (3, 2), (2, 7), (3, 4)], ids=str)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_closed_form_of_log_z_is_the_enumerated_one(shape: tuple[int, int], coupling: float) -> None:
    enumerated = exact.log_partition(ising(shape, coupling), Space(spins=Binary(shape)), dtype=torch.float64)
    closed = ising_log_partition(torch.tensor(coupling, dtype=torch.float64), *shape)
    torch.testing.assert_close(closed, enumerated, rtol=0, atol=1e-9)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_closed_form_of_the_interaction_is_the_enumerated_mean(coupling: float) -> None:
    states = FOUR.configurations(dtype=torch.float64)
    pairs = ising((4, 4), 1.0)(states).detach()
    expected = float((coupling * pairs).softmax(dim=0) @ pairs) / 16
    assert abs(ising_interaction(coupling, 4, 4) - expected) < 1e-9


def test_large_grids_behave_as_onsager_found() -> None:
    """At the critical coupling the energy is sqrt 2 up to 1 / side, and the specific heat keeps growing with the side."""
    critical = [ising_interaction(CRITICAL_COUPLING, side, side) for side in (64, 128)]
    assert abs(critical[0] - math.sqrt(2)) < 1 / 64 and abs(critical[1] - math.sqrt(2)) < 1 / 128

    def heat(side: int) -> float:
        low, high = (ising_interaction(CRITICAL_COUPLING + d, side, side) for d in (-1e-4, 1e-4))
        return (high - low) / 2e-4

    growth = [heat(64) - heat(32), heat(128) - heat(64)]  # logarithmic: equal steps for doubled sides
    assert growth[0] > 0 and abs(growth[1] / growth[0] - 1) < 0.05


def test_the_magnetisation_vanishes_at_the_critical_coupling_and_only_there() -> None:
    assert ising_magnetization(CRITICAL_COUPLING) == ising_magnetization(0.1) == 0
    assert 0 < ising_magnetization(CRITICAL_COUPLING + 1e-6) < 0.3 and ising_magnetization(3.0) > 0.99999


def test_enumerated_critical_grids_approach_the_square_magnetisation_of_the_torus() -> None:
    """By a correction of order 1 / side^2, the same for both; without the torus's own G it is far off."""
    missing = []
    for side in (3, 4):
        states = Space(spins=Binary((side, side))).configurations(dtype=torch.float64)
        probs = ising((side, side), CRITICAL_COUPLING)(states).softmax(dim=0).detach()
        square = float(probs @ (2 * states["spins"] - 1).mean(dim=(1, 2)).square())
        missing.append((ising_critical_square(side) - square) * side**2.25)
    assert abs(missing[0] - missing[1]) < 0.01 and abs(missing[1] - 0.24) < 0.01


@pytest.mark.slow
def test_the_recipe_learns_the_parameters_that_its_grids_were_drawn_with(tmp_path: Path) -> None:
    """With seed 0 it found .2987 and .0989 (docs/structured.md)."""
    energy = train(recipes.ising(), tmp_path / "run").model.energy
    found = (float(energy.coupling.detach()), float(energy.field.detach()))  # type: ignore[arg-type, union-attr]
    assert abs(found[0] - 0.3) < 0.01 and abs(found[1] - 0.1) < 0.01


@pytest.mark.parametrize(
    "space",
    [
        Space(spins=Binary(4)),
        Space(spins=Binary((1, 4))),
        Space(spins=Binary((4, 4)), x=Continuous()),
        Space(x=Continuous((4, 4))),
    ],
    ids=str,
)
def test_a_space_other_than_a_grid_of_spins_is_refused(space: Space) -> None:
    with pytest.raises(ValueError, match="IsingEnergy: needs one binary block of shape"):
        IsingEnergy(space, coupling=1.0)


def test_nonfinite_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="coupling must be finite, got nan"):
        IsingEnergy(FOUR, coupling=math.nan)
    with pytest.raises(ValueError, match="field must be finite, got inf"):
        IsingEnergy(FOUR, coupling=1.0, field=math.inf)
    with pytest.raises(ValueError, match=r"needs coupling > 0 and sides >= 2, got 0.0 and \(4, 4\)"):
        ising_log_partition(torch.tensor(0.0), 4, 4)
    with pytest.raises(ValueError, match="needs coupling > 0, got -1"):
        ising_magnetization(-1)
