"""Whole runs on another device, from the weights to the model folder, and their way back to the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jointebm import recipes
from jointebm.data.toy import Toy
from jointebm.inference import fit_report, fit_scores
from jointebm.inference.model_loading import load_model
from jointebm.recipes import Recipe
from jointebm.recipes.recipe import override
from jointebm.runs import subset_model, training_run
from jointebm.runs.training_run import resume, train
from jointebm.sampling import annealing
from support.pretend_device import PLACE, away, pretended

TINY = ["num_iterations=2", "batch_size=8", "num_steps=1", "buffer_size=16", "checkpoint_every=1", "warmup=0"]
RECIPES: dict[str, tuple[Recipe, list[str]]] = {
    "with a reference": (recipes.toy(), ["reference.num_components=[1]"]),
    "any subset": (recipes.toy_any(), ["energy.num_levels=4"]),
    "scaled to labels": (recipes.toy_paper(), ["calibration_rows=20"]),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of seconds."""
    for module, name, value in (
        (fit_scores, "NORMALIZER_DRAWS", 100),
        (fit_scores, "ROWS_BACK", 20),
        (fit_report, "CHAINS_OF_REPORT", 10),
        (fit_report, "STEPS_OF_REPORT", 4),
        (fit_report, "MAX_COLUMNS", 2),
        (fit_report, "MAX_CALIBRATED", 4),
        (annealing, "MAX_RUNGS", 3),
        (subset_model, "PATHS", (4, 4)),
    ):
        monkeypatch.setattr(module, name, value)


def recipe_of_case(case: str) -> Recipe:
    recipe, changes = RECIPES[case]
    return override(recipe, [*TINY, *changes])


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs take place at `PLACE`, whatever their recipe says."""
    monkeypatch.setattr(training_run, "place_of", lambda *_, **__: PLACE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jointebm.ConvergenceWarning")
@pytest.mark.parametrize("case", RECIPES)
def test_a_run_stays_on_its_device_and_its_model_is_read_on_the_cpu(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with pretended():
        run = train(recipe_of_case(case), tmp_path / "run")
        assert all(away(tensor) for tensor in run.model.state_dict().values())
    model = load_model(tmp_path / "run" / "model")
    assert bool(model(Toy().batch(3, generator=torch.Generator().manual_seed(0))).isfinite().all())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jointebm.ConvergenceWarning")
def test_a_run_resumes_on_the_cpu_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def stop(metrics: Any) -> None:
        if metrics.iteration == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        elsewhere(patch)
        patch.setattr(training_run, "environment", lambda *_: {"device": "a GPU"})
        with pretended(), pytest.raises(KeyboardInterrupt):
            train(recipe_of_case("with a reference"), tmp_path / "run", on_metrics=stop)
    run = resume(tmp_path / "run", device="cpu", on_damage=told.append)
    assert run.metrics.iteration == 2
    assert len(told) == 1
    assert "started with device a GPU, now cpu: the bits will differ" in told[0]
