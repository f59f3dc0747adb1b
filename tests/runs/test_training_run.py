"""Specification of a run: a complete folder, and the same bits from the same seed."""

import json
from pathlib import Path

import pytest
import torch

from jointebm import load
from jointebm.data import Toy
from jointebm.recipes import Recipe, override
from jointebm.recipes.catalogue import find
from jointebm.runs.temperature_scaling import fit_inverse_temperature, rescaled
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.training.trainer import Metrics, Trainer
from support.resumed_runs import stops_after

TINY = override(
    find("toy"),
    ["num_iterations=7", "batch_size=16", "buffer_size=32", "num_steps=2", "hidden=[8]", "log_every=3", "warmup=2"],
)


def bits(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_run_folder_holds_recipe_facts_metrics_and_model(tmp_path: Path) -> None:
    run = train(TINY, tmp_path / "runs" / "one", seed=5)
    assert run.path == tmp_path / "runs" / "one"
    assert {"recipe.json", "run.json", "metrics.jsonl", "model"} <= {path.name for path in run.path.iterdir()}
    assert Recipe.model_validate_json((run.path / "recipe.json").read_text()) == TINY
    facts = json.loads((run.path / "run.json").read_text())
    assert (facts["recipe"], facts["seed"]) == ("toy", 5) and facts["seconds"] >= 0
    assert facts["torch"] == torch.__version__ and facts["threads"] == torch.get_num_threads()
    assert {"jointebm", "python", "machine"} <= facts.keys()


def test_metrics_have_one_line_per_interval_and_one_for_the_last_iteration(tmp_path: Path) -> None:
    seen: list[Metrics] = []
    run = train(TINY, tmp_path / "run", on_metrics=seen.append)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [3, 6, 7]
    assert [metrics.iteration for metrics in seen] == [1, 2, 3, 4, 5, 6, 7] and seen[-1] == run.metrics
    for line in lines:
        metrics = seen[line["iteration"] - 1]._asdict()
        assert line.keys() == metrics.keys()
        assert line == {**metrics, "accept_rate": list(metrics["accept_rate"])}
        assert line["energy_gap"] == pytest.approx(line["f_positive"] - line["f_negative"])


def test_the_saved_model_is_the_trained_one(tmp_path: Path) -> None:
    run = train(TINY, tmp_path / "run")
    loaded = load(run.path / "model")
    assert loaded.config == run.model.config and not run.model.training
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert loaded.space == Toy().space and loaded.config.num_chains == TINY.num_test_chains
    untrained = initial_model(TINY, Toy(), seed=0).state_dict()
    changed = [name for name, value in loaded.state_dict().items() if not torch.equal(value, untrained[name])]
    assert len(changed) >= 4  # every weight, and the noise fitted to the data


def test_a_run_saves_the_averaged_parameters(tmp_path: Path) -> None:
    run, model, data = train(TINY, tmp_path / "run", seed=3), initial_model(TINY, Toy(), seed=3), Toy()
    trainer = Trainer(model.energy, data.space, data.batch, kernel=model.kernel, config=TINY.train, seed=3)
    list(trainer.run())
    for name, value in trainer.average.state_dict().items():
        assert torch.equal(run.model.energy.state_dict()[name], value)
    assert all(torch.equal(value, trainer.noise.parameters[name]) for name, value in run.model.noise.parameters.items())


def test_temperature_scaling_multiplies_f_by_the_factor_of_its_training_rows(tmp_path: Path) -> None:
    bare = override(TINY, ["reference=null"])
    plain, run = train(bare, tmp_path / "plain"), train(override(bare, ["calibration_rows=300"]), tmp_path / "run")
    rows = Toy().batch(300, generator=torch.Generator().manual_seed(0))
    factor = fit_inverse_temperature(plain.model.energy, Toy().space, rows)
    config = load(run.path / "model").config
    assert config == rescaled(plain.model.config, factor) and config.energy != plain.model.config.energy
    torch.testing.assert_close(run.model.energy(rows), factor * plain.model.energy(rows))
    assert json.loads((run.path / "run.json").read_text())["inverse_temperature"] == factor
    assert f"times {factor:.3f}" in (run.path / "model" / "README.md").read_text()
    with pytest.raises(
        ValueError, match=r"calibration_rows: got '5'; calibration_rows 5 scales f by energy\.output_scale"
    ):
        override(find("mnist_jem"), ["calibration_rows=5"])


def test_the_card_names_command_seed_and_iterations(tmp_path: Path) -> None:
    card = (train(TINY, tmp_path / "run", seed=5).path / "model" / "README.md").read_text()
    front_matter, text = card.removeprefix("---\n").split("---\n", maxsplit=1)
    assert "library_name: jointebm" in front_matter.splitlines()
    assert text.startswith("# toy\n") and "jointebm train toy --seed 5" in text and "| iterations | 7 |" in text
    assert "Fields of the recipe were changed" in card


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = train(TINY, tmp_path / "one", seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    two = train(TINY, tmp_path / "two", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    other = train(TINY, tmp_path / "other", seed=4)
    assert bits(one.path) == bits(two.path) != bits(other.path)
    assert one.metrics._replace(seconds=0) == two.metrics._replace(seconds=0)


# Interrupted and resumed; test_resuming.py has the interrupts.


@pytest.mark.parametrize("num_damaged", [1, 2])
def test_damaged_checkpoints_are_skipped_with_a_warning_and_replaced(num_damaged: int, tmp_path: Path) -> None:
    recipe = override(TINY, ["checkpoint_every=1", "keep_checkpoints=3"])
    straight = train(recipe, tmp_path / "straight", seed=3)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", seed=3, on_metrics=stops_after(5))
    for folder in sorted((tmp_path / "resumed" / "checkpoints").iterdir())[-num_damaged:]:
        content = bytearray((folder / "state.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "state.safetensors").write_bytes(content)
    with pytest.warns(UserWarning, match=r"state.safetensors: damaged: .*; resuming from the checkpoint before it"):
        resumed = resume(tmp_path / "resumed")
    assert bits(resumed.path) == bits(straight.path)
    kept = [path.name for path in sorted((resumed.path / "checkpoints").iterdir())]
    assert kept == ["000000004", "000000005", "000000006"]


def test_a_finished_run_and_a_missing_folder_are_not_resumed(tmp_path: Path) -> None:
    run = train(TINY, tmp_path / "run")
    with pytest.raises(FileExistsError, match="run: the run is finished; its model is in"):
        resume(run.path)
    with pytest.raises(FileNotFoundError, match=r"nowhere/recipe.json: no such file"):
        resume(tmp_path / "nowhere")


# Refused.


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_existing_path_is_refused_and_unchanged(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(FileExistsError, match="run: exists; choose another folder, remove it, or resume"):
        train(TINY, path)
    assert path.read_text() == "precious" if kind == "file" else list(path.iterdir()) == []


def test_a_diverged_run_keeps_its_metrics_and_has_no_model(tmp_path: Path) -> None:
    without = ["reference=null", "continuous=langevin", "step_size=3"]
    reckless = override(TINY, ["learning_rate=1e30", "warmup=0", "log_every=1", *without])
    with pytest.raises(FloatingPointError, match=r"iteration \d"):
        train(reckless, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) >= 1 and json.loads(lines[0])["iteration"] == 1
    assert Recipe.model_validate_json((tmp_path / "run" / "recipe.json").read_text()) == reckless


def test_unknown_data_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown data 'nothing'; available: toy"):
        train(TINY.model_copy(update={"data": "nothing"}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
