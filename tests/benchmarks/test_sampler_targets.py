"""Specification of the targets of the sampler benchmark: one density for all libraries, and its exact means."""

from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "samplers"


@pytest.fixture(autouse=True)
def scripts_import_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def targets() -> ModuleType:
    return import_module("sampler_targets")


@pytest.fixture
def truths() -> ModuleType:
    return import_module("sampler_truths")


def test_means_by_elimination_are_those_of_enumeration(targets: ModuleType, truths: ModuleType) -> None:
    for target in (
        targets.boltzmann(8, 0, 1.0, "dense"),
        targets.boltzmann(6, 3, 1.0, "layers"),
        targets.potts_in_fields(3, 2, 3),
        targets.hidden_markov(4, 2),
    ):
        states = np.array(list(product(*(range(count) for count in target.num_classes))))[:, None]
        f = targets.f_of(target, states)[:, 0]
        weight = np.exp(f - f.max(), dtype=float)
        weight /= weight.sum()
        found = targets.quantities(target, targets.States(states, np.zeros((len(states), 1, 0))))
        for name, mean in truths.truth_of(target).items():
            assert mean == pytest.approx(float(weight @ found[name][:, 0]), abs=1e-5), (target.name, name)


def test_ours_and_the_formula_are_one_density(targets: ModuleType) -> None:
    ours = import_module("our_samplers")
    for key, make in targets.TARGETS.items():
        target = make()
        if isinstance(target, targets.Mixed):
            continue
        space = ours.space_of(target)
        position, _ = space.clamp(None, num_chains=5, generator=torch.Generator().manual_seed(0))
        labels = space.decode(position)["y"].reshape(5, -1).numpy()
        difference = ours.energy_of(target)(position).detach().numpy() - targets.f_of(target, labels)
        assert np.ptp(difference) < 1e-3, key


def test_no_two_variables_of_one_colour_interact(targets: ModuleType) -> None:
    for key, make in targets.TARGETS.items():
        target = make()
        if not isinstance(target, targets.Mixed):
            colours = target.colours[target.pairs]
            assert (colours[:, 0] != colours[:, 1]).all(), key


def test_the_joint_density_is_the_row_of_all_configurations(targets: ModuleType) -> None:
    for key in ("gaussians-overlapping", "conditional"):
        target = targets.TARGETS[key]()
        arrays = {name: torch.tensor(value) for name, value in targets.full_arrays(target).items()}
        x = torch.randn(3, target.num_reals, generator=torch.Generator().manual_seed(0))
        table = targets.log_densities(target, torch, arrays, x)
        assert table.shape == (3, len(arrays["configs"]))
        one = targets.log_density(target, torch, arrays, x, arrays["one_hot"][[1, 2, 3]])
        assert torch.allclose(one, table[range(3), [1, 2, 3]], rtol=1e-5)


def test_the_table_names_the_best_sampler_that_is_not_stuck() -> None:
    compare = import_module("compare")
    row = {"target": "t", "ready": 1.0, "error": 0.0}
    rows = [
        row | {"library": "jointebm", "sampler": "a", "rates": [10.0, 12.0, 14.0], "r_hat": 1.0},
        row | {"library": "jointebm", "sampler": "b", "rates": [1.0, 2.0, 3.0], "r_hat": 1.0},
        row | {"library": "peer", "sampler": "c", "rates": [4.0, 6.0, 8.0], "r_hat": 1.0},
        row | {"library": "peer", "sampler": "d", "rates": [90.0, 90.0, 90.0], "r_hat": 2.0},
        row | {"library": "peer", "sampler": "e", "failure": "failed"},
    ]
    assert compare.table(rows).splitlines()[-1] == "| t | a | 12 | peer, c | 6 | 2.00 (1.75-2.50) |"
    rows.pop(2)
    assert "peer, d, stuck | 90" in compare.table(rows)
