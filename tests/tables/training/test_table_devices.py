"""Fits of tables and answers of their models on another device: nothing is made elsewhere, answers come to the CPU."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.randomness.devices import Device
from jointebm.storage.checkpoint import Checkpoint
from jointebm.tables.answers import code_questions, configurations
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.density import normalizer
from jointebm.tables.training import proposal_fit, table_fit, table_report, table_start, validation
from jointebm.tables.training.bootstrap import bootstrapped
from jointebm.tables.training.table_config import TableConfig
from jointebm.tables.training.table_fit import TableFit
from support.answer_leaves import assert_alike
from support.pretend_device import PLACE, away, pretended

COUNTS = (2, 3, 12, 3)
BINS = (None, None, tuple(code // 2 for code in range(12)), None)
ASKED = torch.tensor([[-1, 0, -1, 1], [1, -1, -1, -1], [0, -1, 3, 1], [-1, -1, -1, -1]])
EVIDENCE = [None, torch.tensor([0.0, -1.0, -torch.inf]), None, None]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a second, and rows that are answered by draws and chains."""
    for module, name, value in (
        (table_fit, "FINAL_GROUPS", 2),
        (table_fit, "DRAWN_GROUPS", 2),
        (table_fit, "MOVES_OF_DATA", 1),
        (table_start, "MIN_HELD_OUT", 2),
        (validation, "NUM_GROUPS", 2),
        (validation, "MAX_ASKED", 40),
        (normalizer, "RUNGS_AT_MOST", 3),
        (proposal_fit, "MOST_STEPS", 3),
        (configurations, "FEW_CONFIGURATIONS", 2),
        *((module, "GROUP", 16) for module in (table_fit, normalizer, table_report)),
    ):
        monkeypatch.setattr(module, name, value)
    few = configurations.few_configurations
    monkeypatch.setattr(code_questions, "few_configurations", lambda codes, counts, _: few(codes, counts, 2))


def rows() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    codes = torch.stack([torch.randint(0, count, (60,), generator=generator) for count in COUNTS], dim=1)
    codes[:, 1] = codes[:, 2] % 3
    codes[:12, 1], codes[6:16, 2], codes[3:9, 0] = -1, -1, -1
    return codes


def config(num_visits: int) -> TableConfig:
    return TableConfig(num_visits=num_visits, width=32, num_looks=2, precision="float32", batch_size=20)


def fitted(place: Device, num_visits: int) -> TableModel:
    spreads = [None, None, torch.eye(12), None]
    weights = torch.ones(60)
    return TableModel.fit(
        rows(), COUNTS, bins=BINS, spreads=spreads, config=config(num_visits), seed=3, weights=weights, device=place
    )


def answers(model: TableModel) -> dict[str, Any]:
    draws, whole = {"num_draws": 3, "seed": 0}, rows()[20:24]
    readout = torch.ones(12, 1, dtype=torch.float64)
    return {
        "log_prob": model.log_prob_answer(ASKED, **draws),
        "log_prob given": model.log_prob_answer(ASKED, log_weights=EVIDENCE, **draws),
        "complete": model.complete_answer(ASKED, num_sweeps=4, log_weights=EVIDENCE, **draws),
        "predictive": model.predictive_answer(ASKED, 1, num_sweeps=4, **draws),
        "predictive given": model.predictive_answer(
            ASKED, 2, num_sweeps=2, readout=readout, log_weights=EVIDENCE, **draws
        ),
        "conditional": model.conditional(whole, 2),
        "log_density": model.log_density(whole),
        "log_marginals": model.log_marginals(),
        "report": model.report and model.report.model_dump(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_visits", [0, 2], ids=["reference", "network"])
def test_a_fit_stays_on_its_device_and_answers_as_on_the_cpu(num_visits: int) -> None:
    """Equal but for the rounding of products; drawn codes are equal."""
    expected = answers(fitted("cpu", num_visits))
    with pretended():
        model = fitted(PLACE, num_visits)
        assert all(away(tensor) for tensor in model.state_dict().values())
        found = answers(model)
        member = bootstrapped(
            model.energy,
            rows(),
            bins=BINS,
            config=config(num_visits),
            prior_strength=model.prior_strength,
            seed=3,
            number=0,
        )
        assert all(away(tensor) for tensor in member.state_dict().values())
    assert_alike(found, expected)


def tensors_on_cpu(state: Checkpoint) -> Checkpoint:
    return state._replace(tensors={name: tensor.cpu() for name, tensor in state.tensors.items()})


@pytest.mark.slow
def test_the_state_of_a_fit_moves_between_devices_which_is_said() -> None:
    with pretended():
        fits = [
            TableFit(rows().to(place), COUNTS, bins=BINS, config=config(2), seed=3) for place in (PLACE, "cpu", PLACE)
        ]
        fits[0].step()
        for fit, is_another in zip(fits[1:], (True, False), strict=True):
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                fit.restore(tensors_on_cpu(fits[0].state()))
            assert ["another kind of device" in str(each.message) for each in told] == [True] * is_another
            assert all(each.filename == __file__ for each in told)
            fit.step()
            assert fit.iteration == 2
