"""Fits of block models and their answers on another device: nothing is made elsewhere, answers come to the CPU."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import jointebm
from jointebm import Binary, Categorical, Continuous, Model, Space, TrainConfig, log_normalizer, predict
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.inference import fit_report, fit_scores
from jointebm.inference.model_loading import load_model
from jointebm.randomness.devices import Device
from jointebm.randomness.waiting import unread_values
from jointebm.sampling import annealing
from jointebm.sampling.enumeration import log_partition
from jointebm.sampling.sample import sample_trajectory
from support.answer_leaves import assert_alike
from support.pretend_device import PLACE, away, pretended

fit_module = import_module("jointebm.inference.fit")  # the package names the function so
SPACE = Space(x=Continuous(2), y=Categorical((2, 3)), b=Binary(2))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of seconds."""
    sizes = {"num_iterations": 3, "buffer_size": 32, "batch_size": 8}
    monkeypatch.setattr(fit_module, "TrainConfig", lambda **fields: TrainConfig(**fields | sizes))
    for module, name, value in (
        (fit_module, "NORMALIZER_DRAWS", 200),
        (fit_module, "NUM_LOOKS", 2),
        (fit_module, "FEW_STEPS", 4),
        (fit_module, "MANY_STEPS", 4),
        (fit_scores, "NORMALIZER_DRAWS", 200),
        (fit_scores, "ANNEALED_PATHS", 10),
        (fit_scores, "ROWS_BACK", 20),
        (fit_scores, "DRAWS_OF_ROW", 4),
        (fit_scores, "STEPS_OF_ROWS", 2),
        (fit_report, "CHAINS_OF_REPORT", 20),
        (fit_report, "STEPS_OF_REPORT", 4),
        (fit_report, "MAX_COLUMNS", 3),
        (fit_report, "MAX_CALIBRATED", 5),
        (annealing, "MAX_RUNGS", 4),
        (annealing, "TUNING_STEPS", 1),
        (annealing, "DOUBLINGS", 1),
    ):
        monkeypatch.setattr(module, name, value)


def values(num: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = [torch.randint(0, 2, (num, 2), generator=generator) for _ in range(2)]
    found = {"x": torch.randn(num, 2, generator=generator), "y": labels[0], "b": labels[1]}
    found["x"][:6, 0], found["y"][2:5, 1] = torch.nan, -1
    return found


def answers(model: Model) -> dict[str, Any]:
    some = {name: value[:7] for name, value in values(60).items()}
    known = {name: some[name] for name in ("x", "y")}

    def generator() -> torch.Generator:
        return torch.Generator(model.device).manual_seed(0)

    chains = {"num_chains": 4, "num_steps": 8, "thin": 2, "init": model.noise, "generator": generator()}
    return {
        "log_density": model.log_density(some, diagnostics=True),
        "sample": model.sample(20, {"y": [1, -1]}, diagnostics=True),
        "sample in an interval": model.sample(5, {"x": [(0.0, None), 0.3], "y": [{0, 1}, -1]}),
        "predict": model.predict(some, "b", diagnostics=True),
        "impute": model.impute(some, 2, diagnostics=True),
        "enumerated": predict(model, {"x": some["x"].nan_to_num()}, "b", diagnostics=True),
        "gibbs": predict(model, known, "b", method="gibbs", num_steps=4, generator=generator(), diagnostics=True),
        "vote": predict(
            model, known, "b", method="sample", num_steps=4, num_chains=3, generator=generator(), diagnostics=True
        ),
        "trajectory": sample_trajectory(model, model.space, model.kernel, **chains)[:2],  # type: ignore[arg-type]
        "log Z": log_normalizer(model, model.reference, num_draws=50, generator=generator()),  # type: ignore[arg-type]
        "report": str(model.report),
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jointebm.ConvergenceWarning")
def test_a_fit_stays_on_its_device_and_its_model_answers_as_on_the_cpu(tmp_path: Path) -> None:
    with unread_values():  # as on an accelerator, so that draws are the same
        on_cpu = jointebm.fit(SPACE, values(60), device="cpu")
    with pretended():
        model = jointebm.fit(SPACE, values(60), device=PLACE)
        assert model.device == PLACE
        assert all(away(tensor) for tensor in model.state_dict().values())
        found = answers(model)
        model.save(tmp_path / "model")
    same = load_model(tmp_path / "model")
    for name, tensor in on_cpu.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    with unread_values():
        assert_alike(found, answers(same))


@pytest.mark.slow
def test_a_model_of_any_subset_answers_on_its_device_as_on_the_cpu() -> None:
    def asked(place: Device) -> list[Any]:
        model = load_model(PRETRAINED / "toy_any", device=place)
        rows = {"point": torch.tensor([[0.5, torch.nan], [-1.0, 2.0]]), "left": torch.tensor([-1, 1])}
        return [
            model.log_density(rows),
            model.predict(rows, "bottom", diagnostics=True),
            model.impute(rows, 2, num_steps=1, diagnostics=True),
            predict(model, rows, "bottom"),
        ]

    with unread_values():
        expected = asked("cpu")
    with pretended():
        assert_alike(asked(PLACE), expected)


PRETRAINED = Path(jointebm.__file__).parent / "pretrained"


@pytest.mark.slow
def test_a_model_without_a_reference_needs_no_float64() -> None:
    def asked(place: Device) -> list[Any]:
        model = load_model(PRETRAINED / "mnist", device=place)
        generator, images = torch.Generator(model.device).manual_seed(0), {"image": torch.zeros(1, 28, 28)}
        return [
            model.sample(2, {"digit": 1}, num_steps=2),
            predict(model, images, "digit", method="sample", num_steps=2, num_chains=2, generator=generator),
        ]

    with unread_values():
        expected = asked("cpu")
    with pretended(has_float64=False):
        assert_alike(asked(PLACE), expected)


def test_enumeration_and_evaluation_follow_the_model() -> None:
    def asked(place: Device) -> list[Any]:
        model = load_model(PRETRAINED / "toy", device=place)
        labels = Space(**{name: model.space[name] for name in model.space.discrete})
        point = torch.zeros(1, 2, device=model.device)

        def given(position: dict[str, Tensor]) -> Tensor:
            return model({"point": point.expand(len(position["left"]), 2), **position})

        rows = {"point": torch.tensor([[-3.0, 0.0], [3.0, 0.0]]), **{name: torch.tensor([1, 0]) for name in labels}}
        log_z = log_partition(given, labels, device=model.device)
        found = evaluate_model(model, rows, methods=("exact",), generator=torch.Generator().manual_seed(0))
        return [float(log_z), [each._asdict() for each in found[0].values()], found[1]._asdict()]

    with unread_values():
        expected = asked("cpu")
    with pretended():
        assert_alike(asked(PLACE), expected)
