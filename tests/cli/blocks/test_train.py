"""`jointebm train`: a run folder, a report, and resumed runs."""

import json
from pathlib import Path

import pytest

from jointebm.data import Toy
from support.command_line import NUM_TEST, TINY, Trained, assert_refused, interrupt_after, run


def test_train_prints_its_report_and_writes_it_into_the_run(toy: Trained) -> None:
    report = toy.report
    assert list(report) == ["run", "model", "data", "rows", "accuracy", "calibration", "seconds"]
    assert (report["run"], report["model"]) == (str(toy.run), str(toy.run / "model"))
    assert (report["data"], report["rows"]) == ("toy", NUM_TEST)
    assert list(report["accuracy"]) == ["sample", "gibbs", "exact"]
    for accuracy in report["accuracy"].values():
        assert accuracy.keys() == {"mean", "exact_match", "per_attribute"}
        assert accuracy["per_attribute"].keys() == set(Toy().space.discrete)
        assert accuracy["mean"] == pytest.approx(sum(accuracy["per_attribute"].values()) / 3)
    assert report["calibration"].keys() == {"ece", "brier"}
    assert json.loads((toy.run / "evaluation.json").read_text()) == report
    assert {"recipe.json", "run.json", "metrics.jsonl", "model"} <= {path.name for path in toy.run.iterdir()}
    recipe = json.loads((toy.run / "recipe.json").read_text())
    assert recipe["train"]["num_iterations"] == 3 and recipe["energy"]["net"]["hidden"] == [8]
    assert json.loads((toy.run / "run.json").read_text())["seed"] == 3


def test_train_goes_to_a_folder_named_after_recipe_and_seed(here: Path) -> None:
    result = run("train", "toy", *TINY, "--seed", 7)
    assert result.code == 0 and (here / "runs" / "toy-7" / "model").is_dir()
    for text in ("mean", "exact match", "sample-based", "Rao-Blackwellised", "energy-based", "acceptance", "training:"):
        assert text in result.out
    assert "no kernel ran, q was drawn from" in result.out and "ECE" in result.out and str(NUM_TEST) in result.out


def test_a_resumed_run_ends_like_an_uninterrupted_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*TINY, "--set", "num_iterations=6", "--set", "checkpoint_every=2", "--seed", 5)
    whole = run("train", "toy", *settings, "--out", "whole", "--json")
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        stopped = run("train", "toy", *settings, "--out", "stopped")
    assert stopped.code == 130 and "resume with: jointebm train --resume stopped" in stopped.err
    resumed = run("train", "--resume", "stopped", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["accuracy"] == whole.json["accuracy"]
    files = [(here / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train", "name a RECIPE"),
        ("train --resume missing", "missing/recipe.json: no such file"),
        (
            "train --resume run --seed 5",
            "--resume continues a run with the settings it was started with; leave out --seed",
        ),
        ("train toy --resume run --set warmup=1", "leave out RECIPE, --set"),
    ],
)
def test_resume_takes_a_run_and_nothing_that_defines_it(words: str, message: str, here: Path) -> None:
    assert_refused(run(*words.split()), message)
    assert not list(here.iterdir())


def test_divergence_is_one_line_and_exit_code_1(here: Path) -> None:
    result = run("train", "toy", *TINY, "--set", "num_iterations=20", "--set", "learning_rate=1e30", "--json")
    assert (result.code, result.out) == (1, "")
    *interventions, last = result.err.splitlines()
    assert len(interventions) >= 5 and all(line.startswith("jointebm: iteration ") for line in interventions)
    assert sum("rolled back" in line for line in interventions) == 5  # TrainConfig's default
    assert last.startswith("jointebm: error: ") and "of iteration" in last and "5 rollbacks, down to 0.03125" in last
    assert "Likely cause and fix: " in last and "Traceback" not in result.err
    assert not (here / "runs" / "toy-0" / "model").exists()


def test_a_model_without_continuous_blocks_is_trained_and_reports_no_accuracy(tmp_path: Path) -> None:
    options = ("--set", "num_iterations=2", "--set", "batch_size=8", "--out", tmp_path / "ising")
    result = run("train", "ising", *options, "--json")
    assert result.code == 0 and "accuracy" not in result.json and result.json["rows"] == 1000
    assert "evaluation:" in run("evaluate", tmp_path / "ising").out
    assert "continuous and discrete blocks" in run("evaluate", tmp_path / "ising", "--methods", "exact").err
