"""Specification of the command line: what each command prints and writes, and one line for everything that is wrong."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import jointebm
from jointebm import Categorical, Continuous, Space, load, predict, recipes
from jointebm.cli.progress import StepProgress
from jointebm.data import ArrayDataset, Dataset, Toy, digits
from jointebm.data.dsprites import chosen_latents, halved, render
from jointebm.data.registry import DATASETS
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.evaluation import ImageClassifier
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.storage import checkpoint
from jointebm.storage.atomic import lock, new_file
from jointebm.storage.checkpoint import Checkpoint
from support.command_line import Result, run

TINY = (
    *("--set", "num_iterations=3", "--set", "batch_size=16", "--set", "buffer_size=32", "--set", "num_steps=2"),
    *("--set", "hidden=[8]", "--set", "num_test_chains=3", "--set", "num_test_steps=4", "--set", "warmup=1"),
)
NUM_TEST = 60  # test rows of the toy data in these tests


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with size and time of change."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def few_test_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "toy", lambda data_dir: Toy(num_test=NUM_TEST))  # noqa: ARG005
        yield


class Trained(NamedTuple):
    run: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, few_test_rows: None) -> Trained:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("cli") / "toy"
    result = run("train", "toy", *TINY, "--out", folder, "--seed", 3, "--json")
    assert result.code == 0, result.err
    return Trained(folder, result.json)


@pytest.fixture(scope="module")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "digits"
    assert run("train", "digits", *TINY, "--set", "num_test_steps=2", "--out", folder).code == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# recipes


def test_recipes_lists_every_recipe_with_its_summary() -> None:
    expected = [make() for make in recipes.RECIPES.values()]
    listed = run("recipes", "--json").json["recipes"]
    assert listed == [{"name": r.name, "summary": r.summary, "data": r.data} for r in expected]
    assert all(recipe.name in run("recipes").out for recipe in expected)


def test_recipes_name_gives_every_field_with_value_and_meaning() -> None:
    recipe = recipes.find("toy_paper")
    shown = run("recipes", "toy_paper", "--json").json
    assert (shown["name"], shown["data"]) == ("toy_paper", "toy")
    expected = {
        field.path: {"value": json.loads(json.dumps(field.value)), "meaning": field.description}
        for field in recipes.recipe_fields(recipe)
    }
    assert shown["fields"] == expected and all(field["meaning"] for field in shown["fields"].values())
    table = run("recipes", "toy_paper").out
    assert "5500" in table and "[256, 256, 256]" in table and "parameter updates" in table


# train and evaluate


def test_train_prints_one_json_object_and_writes_it_beside_the_run(toy: Trained) -> None:
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


def test_train_takes_set_and_seed(toy: Trained) -> None:
    recipe = json.loads((toy.run / "recipe.json").read_text())
    assert recipe["train"]["num_iterations"] == 3 and recipe["energy"]["net"]["hidden"] == [8]
    assert json.loads((toy.run / "run.json").read_text())["seed"] == 3


def test_train_goes_to_a_folder_named_after_recipe_and_seed(here: Path) -> None:
    result = run("train", "toy", *TINY, "--seed", 7)
    assert result.code == 0 and (here / "runs" / "toy-7" / "model").is_dir()
    for text in ("mean", "exact match", "sample-based", "Rao-Blackwellised", "energy-based", "acceptance", "training:"):
        assert text in result.out
    assert "MALA(point)" in result.out and "ECE" in result.out and str(NUM_TEST) in result.out


def test_train_resume_goes_on_with_an_interrupted_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*TINY, "--set", "num_iterations=6", "--set", "checkpoint_every=2", "--seed", 5)
    whole = run("train", "toy", *settings, "--out", "whole", "--json")
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        stopped = run("train", "toy", *settings, "--out", "stopped")
    assert stopped.code == 130 and "go on with: jointebm train --resume stopped" in stopped.err
    resumed = run("train", "--resume", "stopped", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["accuracy"] == whole.json["accuracy"]
    files = [(here / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "name a RECIPE"),
        (("train", "--resume", "missing"), "missing/recipe.json: no such file"),
        (("train", "toy", "--resume", "run"), "leave out RECIPE"),
    ],
)
def test_train_says_what_resume_needs(arguments: tuple[str, ...], message: str, here: Path) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "") and message in result.err and result.err.count("\n") == 1
    assert not list(here.iterdir())


def test_evaluate_repeats_the_report_of_the_run(toy: Trained) -> None:
    report = run("evaluate", toy.run, "--seed", 3, "--json").json
    expected = {key: value for key, value in toy.report.items() if key not in ("run", "seconds")}
    assert {key: value for key, value in report.items() if key != "seconds"} == expected
    of_model = run("evaluate", toy.run / "model", "--seed", 3, "--json").json
    assert of_model["accuracy"] == report["accuracy"]


def test_evaluate_with_methods_and_rows_is_that_of_the_library(toy: Trained) -> None:
    report = run("evaluate", toy.run, "--methods", "exact,gibbs", "--rows", 17, "--seed", 1, "--json").json
    values = {name: value[:17] for name, value in Toy(num_test=NUM_TEST).test().items()}
    accuracies, calibration = evaluate_model(
        load(toy.run / "model"), values, methods=("gibbs", "exact"), generator=torch.Generator().manual_seed(1)
    )
    assert report["rows"] == 17 and list(report["accuracy"]) == ["gibbs", "exact"]
    assert report["accuracy"] == {method: accuracy._asdict() for method, accuracy in accuracies.items()}
    assert report["calibration"] == calibration._asdict()


def test_evaluate_leaves_exact_out_and_says_so_if_there_is_too_much_to_enumerate(
    toy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointebm.cli.commands.evaluate.MAX_CONFIGURATIONS", 7)
    result = run("evaluate", toy.run, "--json")
    assert list(result.json["accuracy"]) == ["sample", "gibbs"]
    assert "leaves out the decoder 'exact': 8 configurations" in result.err
    assert list(run("evaluate", toy.run, "--json", "--methods", "exact").json["accuracy"]) == ["exact"]


def test_evaluate_leaves_gibbs_out_too_where_y_has_many_classes(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointebm.cli.commands.evaluate.MAX_CONFIGURATIONS", 7)
    monkeypatch.setattr("jointebm.cli.blocks.evaluate.MAX_CLASSES", 5)
    result = run("evaluate", toy.run, "--json")
    assert list(result.json["accuracy"]) == ["sample"]
    assert "leaves out the decoder 'gibbs': a sweep evaluates all 6 classes of y, one by one" in result.err


def test_of_many_variables_only_the_means_are_shown(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("evaluate", toy.run, "--methods", "exact", "--rows", 5)
    assert "diagonal" in run(*options).out
    monkeypatch.setattr("jointebm.cli.blocks.evaluate.MAX_VARIABLES_SHOWN", 2)
    shown = run(*options).out
    assert "diagonal" not in shown and "mean" in shown and "exact match" in shown


def test_a_model_of_labels_alone_is_trained_and_its_labels_are_predicted_from_nothing(tmp_path: Path) -> None:
    """So no accuracy is told."""
    options = ("--set", "num_iterations=2", "--set", "batch_size=8", "--out", tmp_path / "ising")
    result = run("train", "ising", *options, "--json")
    assert result.code == 0 and "accuracy" not in result.json and result.json["rows"] == 1000
    assert "evaluation:" in run("evaluate", tmp_path / "ising").out
    assert "needs continuous and discrete blocks" in run("evaluate", tmp_path / "ising", "--methods", "exact").err


def test_evaluate_judges_samples_of_points(toy: Trained) -> None:
    samples = run("evaluate", toy.run, "--samples", 4, "--json").json["samples"]
    assert (samples["judge"], samples["num_per_condition"]) == ("nearest mode", 4)
    assert len(samples["per_condition"]) == 14 and samples["judge_accuracy"] > 0.98
    assert samples["agreement"] == pytest.approx(sum(samples["per_condition"].values()) / 14)
    assert set(samples["num_modes_data"].values()) == {4}
    table = run("evaluate", toy.run, "--samples", 4).out
    assert "bottom = 0, left = 1, diagonal = 0" in table and "judged by: nearest mode" in table


def test_evaluate_judges_samples_of_images_by_a_classifier(digits_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ImageClassifier.train
    monkeypatch.setattr(
        "jointebm.evaluation.ImageClassifier.train", lambda data, seed: train(data, seed=seed, num_iterations=30)
    )
    report = run("evaluate", digits_model, "--samples", 3, "--methods", "exact", "--json").json
    assert report["rows"] == 359 and report["samples"]["judge"] == "image classifier"
    assert list(report["samples"]["per_condition"]) == [f"digit = {label}" for label in range(10)]
    samples = report["samples"]
    assert all(ratio > 0 for ratio in samples["variance_ratio"].values())
    assert samples["nearest"]["num_rows"] == 30 and len(samples["nearest_per_condition"]) == 10
    assert samples["frechet"]["samples"] > 0 and "not FID" in samples["frechet"]["features"]
    assert samples["placement"] is None
    table = run("evaluate", digits_model, "--samples", 3, "--methods", "exact").out
    assert "to one another" in table and "Frechet distance in 64 features of our own small classifier" in table


def test_evaluate_places_the_samples_of_sprites(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = chosen_latents()[::97]
    rows = {"image": halved(render(latents)), "horizontal": latents[:, 4] // 2, "vertical": latents[:, 5] // 2}
    rows = {name: value.astype(np.uint8) for name, value in rows.items()}
    space = Space(image=Continuous((32, 32)), horizontal=Categorical(16), vertical=Categorical(16))
    noise = {"noise_width": 0.0, "noise_sd": 0.1}
    data = ArrayDataset("dsprites-some", space, rows, rows, white=4, judge="sprite centre", **noise)  # type: ignore[arg-type]
    monkeypatch.setitem(DATASETS, "dsprites-some", lambda data_dir: data)  # noqa: ARG005
    config = jointebm.ModelConfig(
        name="t",
        data="dsprites-some",
        space=space.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(4,))),
        kernel=jointebm.KernelSpec(discrete="gibbs", step_size=0.1),
        num_steps=1,
    )
    jointebm.Model(config).save(here / "model")
    command = ("evaluate", "model", "--methods", "exact", "--rows", 3, "--samples", 1)
    samples = run(*command, "--json").json["samples"]
    assert samples["placement"].keys() == samples["placement_data"].keys() == {"exact", "within_one"}
    assert samples["placement"]["exact"].keys() == {"horizontal", "vertical", "all"}
    assert samples["placement_data"]["within_one"]["all"] == 1.0 and samples["judge_accuracy"] > 0.99
    assert samples["frechet"] is None and len(samples["per_condition"]) == 32
    table = run(*command).out
    assert "judged by: centre of the sprite" in table and "within one" in table


def test_evaluate_tells_other_images_from_the_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((6, 28, 28), dtype=np.uint8)
    rows = {"image": images, "digit": np.zeros(6, dtype=np.uint8)}
    space = Space(image=Continuous((28, 28)), digit=Categorical(10))
    data = ArrayDataset("dark", space, rows, rows, white=255, noise_width=0.0, noise_sd=0.1)
    monkeypatch.setitem(DATASETS, "dark", lambda data_dir: data)  # noqa: ARG005
    monkeypatch.setattr("jointebm.evaluation.out_of_distribution.fashion_images", lambda data_dir: images + 9)  # noqa: ARG005
    config = jointebm.ModelConfig(
        name="t",
        data="dark",
        space=space.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(4,))),
        kernel=jointebm.KernelSpec(discrete="gibbs", step_size=0.1),
    )
    jointebm.Model(config).save(here / "model")
    command = ("evaluate", "model", "--methods", "exact", "--ood")
    areas = run(*command, "--json").json["ood_auroc"]
    assert list(areas) == ["log_marginal", "confidence"]
    assert all(0 <= area <= 1 for of in areas.values() for area in of.values())
    table = run(*command).out
    assert "AUROC of the test rows against other images" in table and "1: test rows always score higher" in table


def test_data_names_the_folder_that_data_sets_are_opened_with(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path | None] = []

    def opened(data_dir: Path | None) -> Dataset:
        seen.append(data_dir)
        return Toy(num_test=NUM_TEST)

    monkeypatch.setitem(DATASETS, "toy", opened)
    monkeypatch.delenv("JOINTEBM_DATA", raising=False)
    assert run("evaluate", toy.run, "--methods", "exact").code == 0
    assert run("evaluate", toy.run, "--methods", "exact", "--data", here).code == 0
    assert run("train", "toy", *TINY, "--data", here).code == 0
    monkeypatch.setenv("JOINTEBM_DATA", str(toy.run))
    assert run("evaluate", toy.run, "--methods", "exact").code == 0
    assert seen == [None, here, here, toy.run]


def test_threads_sets_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert run("train", "nothing", "--threads", before + 1).code == 2
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_model_of_other_data_is_not_evaluated_on_them(toy: Trained, here: Path) -> None:
    model = load(toy.run / "model")
    jointebm.Model(model.config.model_copy(update={"data": "digits"}), energy=model.energy).save(here / "model")
    assert_refused(run("evaluate", here), "the blocks", "'digits'", "trained on other data")
    jointebm.Model(model.config.model_copy(update={"data": "mine"}), energy=model.energy).save(here / "mine")
    assert_refused(run("figures", here / "mine"), "'mine'", "toy, ")


# sample


def test_sample_writes_values_per_block_and_a_picture(toy: Trained, here: Path) -> None:
    result = run("sample", toy.run, "--given", "bottom=1,point=[nan,0.25]", "--num", 9, "--out", "s.npz", "--json")
    assert result.code == 0, result.err
    with np.load("s.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == {
        "point": (9, 2),
        **dict.fromkeys(Toy().space.discrete, (9,)),
    }
    assert (arrays["bottom"] == 1).all() and (arrays["point"][:, 1] == np.float32(0.25)).all()
    assert len(np.unique(arrays["point"][:, 0])) == 9
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")
    summary = result.json
    assert (summary["out"], summary["picture"], summary["num"]) == ("s.npz", "s.png", 9)
    assert summary["counts"] == {n: np.bincount(arrays[n], minlength=2).tolist() for n in Toy().space.discrete}
    position, _ = Toy().space.encode(arrays)
    with torch.no_grad():
        assert summary["mean_f"] == pytest.approx(float(load(toy.run / "model")(position).mean()), rel=1e-5)
    assert summary["accept_rate"].keys() == {"GibbsWithGradients", "MALA(point)"}
    assert sorted(path.name for path in here.iterdir()) == ["s.npz", "s.png"]


def test_samples_are_those_of_the_library_with_the_same_seed(toy: Trained, here: Path) -> None:
    model = load(toy.run / "model")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run("sample", toy.run, "--num", 4, "--steps", 3, "--seed", seed, "--out", f"{name}.npz").code == 0
    expected = jointebm.sample(
        model,
        model.space,
        model.kernel,
        num_chains=4,
        num_steps=3,
        init=model.noise,
        generator=torch.Generator().manual_seed(5),
    ).values
    a, b, c = (np.load(here / f"{name}.npz")["point"] for name in "abc")
    assert (a == expected["point"].numpy()).all() and (a == b).all() and not (a == c).any()


def test_thin_keeps_states_on_the_way_and_ends_where_sampling_ends(toy: Trained, here: Path) -> None:
    ask = ("sample", toy.run, "--num", 3, "--steps", 6)
    assert run(*ask, "--out", "end.npz").code == 0
    assert run(*ask, "--out", "way.npz", "--thin", 2).code == 0
    end, way = np.load(here / "end.npz"), np.load(here / "way.npz")
    assert way["point"].shape == (3, 3, 2) and way["left"].shape == (3, 3)
    assert all((way[name][-1] == end[name]).all() for name in end.files)
    assert not (way["point"][0] == end["point"]).any()


def test_given_arrays_of_a_file_are_held_still_bit_for_bit_and_their_gaps_are_filled(
    digits_model: Path, here: Path
) -> None:
    image = digits().test()["image"][:5].numpy()
    holes = image.copy()
    holes[:, 3:] = np.nan
    np.savez("half.npz", image=holes)
    result = run("sample", digits_model, "--given", "image=@half.npz,digit=4", "--out", "full.npz", "--json")
    assert result.code == 0 and result.json["num"] == 5 and result.json["counts"]["digit"][4] == 5
    full = np.load("full.npz")
    assert (full["image"][:, :3] == image[:, :3]).all() and np.isfinite(full["image"]).all()
    assert not (full["image"][:, 3:] == image[:, 3:]).any()
    assert (here / "full.png").exists()
    # One row of a file goes to as many chains as are asked for.
    np.savez("one.npz", image=holes[:1])
    result = run("sample", digits_model, "--given", "image=@one.npz", "--num", 3, "--out", "three.npz")
    assert result.code == 0 and (np.load("three.npz")["image"][:, :3] == image[:1, :3]).all()


def test_given_lists_reach_the_variables_of_a_shaped_block(here: Path) -> None:
    space = jointebm.Space(x=jointebm.Continuous(3), bits=jointebm.Binary(3), group=jointebm.Categorical((2, 5)))
    energy = jointebm.energies.ConcatSpec(net=jointebm.energies.MLPSpec(hidden=(4,)))
    config = jointebm.ModelConfig(
        name="mixed", data="none", space=space.config, energy=energy, kernel=jointebm.KernelSpec(step_size=0.1)
    )
    jointebm.Model(config).save(here / "model")
    given = ("--given", "bits=[1,-1,0]", "--given", "group=[-1,4],x=[0.5,nan,-1e-3]")
    result = run("sample", here, *given, "--num", 64, "--steps", 5, "--out", "s.npz", "--json")
    counts = result.json["counts"]
    assert (counts["bits[0]"], counts["bits[2]"], counts["group[1]"]) == ([0, 64], [64, 0], [0, 0, 0, 0, 64])
    assert min(counts["bits[1]"]) > 0 and min(counts["group[0]"]) > 0
    x = np.load("s.npz")["x"]
    assert (x[:, [0, 2]] == np.float32([0.5, -1e-3])).all() and len(np.unique(x[:, 1])) == 64
    assert result.json["picture"] is None and "no picture: no block is an image" in result.err


def test_sample_without_out_prints_a_summary_and_writes_nothing(toy: Trained, here: Path) -> None:
    result = run("sample", toy.run, "--given", "left=0", "--num", 5)
    assert result.code == 0 and list(here.iterdir()) == []
    assert "5 samples after 4 steps" in result.out and "mean f" in result.out and "5 0" in result.out


def test_ctrl_c_without_out_prints_the_summary_of_the_steps_done(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(3, monkeypatch)
    result = run("sample", toy.run, "--num", 2, "--steps", 50, "--json")
    assert result.code == 130 and result.err == (
        "jointebm: interrupted after 3 of 50 steps; nothing was to be written\n"
    )
    assert result.json["interrupted"] and result.json["num_steps"] == 3 and list(here.iterdir()) == []


@pytest.fixture
def chains(toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a sampling run left when it was interrupted after 3 of 20 steps."""
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        result = run("sample", toy.run, "--num", 5, "--steps", 20, "--given", "left=1", "--out", "s.npz", "--json")
    assert (result.code, result.json["interrupted"], result.json["num_steps"]) == (130, True, 3)
    way_on = f"go on with: jointebm sample --resume s.chains --threads {torch.get_num_threads()}"
    assert result.err == f"jointebm: interrupted after 3 of 20 steps; {way_on}\n"
    assert [path.name for path in here.iterdir()] == ["s.chains"]
    return Path("s.chains")


@pytest.mark.parametrize("thin", [(), ("--thin", 3)])
@pytest.mark.parametrize("every", [1, 7, 0])
@pytest.mark.parametrize("stops", [(1,), (3, 4), (2, 6, 20)])
def test_sample_resume_writes_what_the_uninterrupted_run_would_have_written(
    stops: tuple[int, ...],
    every: int,
    thin: tuple[object, ...],
    toy: Trained,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = ("sample", toy.run, "--num", 5, "--steps", 20, "--seed", 4, "--given", "left=1", *thin)
    whole = run(*ask, "--out", "whole.npz", "--json")
    words: tuple[object, ...] = (*ask, "--out", "s.npz")
    for stop in stops:
        with monkeypatch.context() as patch:
            interrupt_after(stop, patch)
            assert run(*words, "--checkpoint-every", every).code == 130
        assert [path.name for path in (here / "s.chains").iterdir() if path.is_dir()] == [f"{stop:09d}"]
        words = ("sample", "--resume", "s.chains")
    resumed = run(*words, "--checkpoint-every", every, "--json")
    assert resumed.code == 0, resumed.err
    for ending in (".npz", ".png"):
        assert (here / f"s{ending}").read_bytes() == (here / f"whole{ending}").read_bytes()
    ignored = dict.fromkeys(("out", "picture", "model"))
    assert resumed.json | ignored == whole.json | ignored
    assert sorted(path.name for path in here.iterdir()) == ["s.npz", "s.png", "whole.npz", "whole.png"]


def test_a_sampling_run_that_is_killed_goes_on_from_its_last_checkpoint(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `kill -9` leaves: chains on disk, and nobody to hold the lock."""
    ask = ("sample", toy.run, "--num", 5, "--steps", 20, "--seed", 4)
    assert run(*ask, "--out", "whole.npz").code == 0
    show = StepProgress.show

    def dying(self: StepProgress, num_done: int, figures: str = "") -> None:
        show(self, num_done, figures)
        if num_done == 13:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(StepProgress, "show", dying)
        with pytest.raises(RuntimeError, match="killed"):
            run(*ask, "--out", "s.npz", "--checkpoint-every", 5)
    assert [path.name for path in (here / "s.chains").iterdir() if path.is_dir()] == ["000000010"]
    assert run("sample", "--resume", "s.chains").code == 0
    assert (here / "s.npz").read_bytes() == (here / "whole.npz").read_bytes()


@pytest.mark.parametrize(
    "words", ["TOY", "--seed 0", "--num 5", "--steps 20", "--given left=1", "--thin 1", "--out s.npz", "TOY --seed 3"]
)
def test_sample_resume_takes_nothing_that_defines_the_run(words: str, chains: Path) -> None:
    before = snapshot(chains)
    option = "MODEL" if "TOY" in words else words.split()[0]
    assert_refused(run("sample", "--resume", chains, *words.split()), f"leave out {option}")
    assert snapshot(chains) == before


def test_sample_resume_refuses_changed_weights_and_what_is_no_chains(
    toy: Trained, chains: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("jointebm.cli.commands.sample.weights_digest", lambda path: "0" * 64)  # noqa: ARG005
        assert_refused(run("sample", "--resume", chains), "model.safetensors: is not what the chains in s.chains were")
    assert_refused(run("sample", "--resume", "no.chains"), "no.chains: no such folder")
    (here / "empty.chains").mkdir()
    assert_refused(run("sample", "--resume", "empty.chains"), "empty.chains: holds no checkpoint", "sample anew")
    checkpoint.write(here / "empty.chains", Checkpoint(1, {}, {"model": "m"}), keep=1)
    assert_refused(run("sample", "--resume", "empty.chains"), "holds no chains of 'jointebm sample': ")
    assert_refused(run("sample", toy.run, "--out", "s.npz"), "s.chains: exists; go on with it", "--resume s.chains")
    assert_refused(run("sample"), "name a MODEL, or pass --resume FILE.chains")
    with lock(chains / "lock"):
        assert_refused(run("sample", "--resume", chains), "s.chains: another process is at work")
    (here / "s.npz").touch()
    assert_refused(run("sample", "--resume", chains), "s.npz: exists")


def test_chains_that_do_not_fit_the_model_are_refused_in_a_line(chains: Path) -> None:
    found = checkpoint.newest(chains).checkpoint
    assert found is not None
    for name, tensor in found.tensors.items():
        for wrong in ({}, {name: torch.zeros(3, 3, 3)}, {name: tensor, "more": tensor}, {name: tensor.short()}):
            tensors = {other: value for other, value in found.tensors.items() if other != name} | wrong
            checkpoint.write(chains, found._replace(tensors=tensors), keep=1)
            assert_refused(run("sample", "--resume", chains), "chains: ")


def test_a_damaged_checkpoint_of_chains_is_refused_in_a_line(chains: Path) -> None:
    file = chains / "000000003" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert_refused(run("sample", "--resume", chains), "state.safetensors: damaged", "nothing can be resumed")


def interrupt_after(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, at the moment when so many steps are shown as done."""
    show = StepProgress.show

    def interrupting(self: StepProgress, num_done: int, figures: str = "") -> None:
        show(self, num_done, figures)
        if num_done == num:
            raise KeyboardInterrupt

    monkeypatch.setattr(StepProgress, "show", interrupting)


def test_ctrl_c_in_training_leaves_the_metrics_and_no_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(2, monkeypatch)
    result = run("train", "toy", *TINY, "--set", "log_every=1", "--json")
    assert (result.code, result.out) == (130, "") and result.err.startswith("jointebm: interrupted after 2 of 3 ")
    assert result.err.count("\n") == 1
    assert len((here / "runs" / "toy-0" / "metrics.jsonl").read_text().splitlines()) == 2
    assert not (here / "runs" / "toy-0" / "model").exists()


def test_ctrl_c_anywhere_else_is_one_line_too(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jointebm.cli.commands.evaluate.evaluate_model", interrupted)
    assert run("evaluate", toy.run) == (130, "", "jointebm: interrupted\n")


# predict


@pytest.fixture
def rows(here: Path) -> dict[str, np.ndarray]:
    values = {name: value.numpy() for name, value in Toy(num_test=30).test().items()}
    np.savez("points.npz", point=values["point"])
    np.savez("all.npz", **values)  # type: ignore[arg-type]
    np.savez("some.npz", point=values["point"], bottom=values["bottom"], left=np.full(30, -1))
    assert here.exists()
    return values


@pytest.mark.parametrize("method", ["exact", "gibbs", "sample"])
def test_predictions_are_those_of_the_library(toy: Trained, rows: dict[str, np.ndarray], method: Any) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "points.npz", "--method", method, "--seed", 2, "--json").json
    generator = torch.Generator().manual_seed(2)
    expected = predict(model, {"point": rows["point"]}, Toy().space.discrete, method=method, generator=generator)
    assert (result["rows"], result["method"]) == (30, method)
    assert result["labels"] == {name: labels.tolist() for name, labels in expected.labels.items()}
    assert result["probs"] == {name: probs.tolist() for name, probs in expected.probs.items()}


def test_only_the_target_is_predicted_and_what_else_is_known_is_used(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "some.npz", "--json").json
    assert result["labels"].keys() == {"left", "diagonal"}  # bottom is known
    known = {"point": rows["point"], "bottom": rows["bottom"]}
    assert result["probs"]["left"] == predict(model, known, "left").probs["left"].tolist()
    assert run("predict", toy.run, "some.npz", "--target", "left", "--json").json["labels"].keys() == {"left"}


def test_answers_that_the_file_holds_are_not_used(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "all.npz", "--target", "left", "--json")
    assert result.err == "jointebm: block 'left': all.npz gives every label; they are not used\n"
    known = {name: value for name, value in rows.items() if name != "left"}
    assert result.json["probs"]["left"] == predict(model, known, "left").probs["left"].tolist()


def test_predictions_are_written_as_npz_and_as_csv(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    for name in ("p.npz", "p.csv"):
        assert run("predict", toy.run, "points.npz", "--out", name).code == 0
    expected = predict(load(toy.run / "model"), {"point": rows["point"]}, Toy().space.discrete)
    arrays = np.load("p.npz", allow_pickle=False)
    with open("p.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 30 and len(arrays.files) == 6
    for name in Toy().space.discrete:
        assert (arrays[f"labels_{name}"] == expected.labels[name].numpy()).all()
        assert (arrays[f"probs_{name}"] == expected.probs[name].numpy()).all()
        assert [int(row[name]) for row in table] == expected.labels[name].tolist()
        for label in (0, 1):
            column = [float(row[f"{name}={label}"]) for row in table]
            assert column == expected.probs[name][:, label].tolist()


def test_predict_prints_labels_with_their_probability(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    out = run("predict", toy.run, "points.npz", "--target", "left").out
    expected = predict(load(toy.run / "model"), {"point": rows["point"]}, "left")
    label = int(expected.labels["left"][0])
    assert f"{label} ({float(expected.probs['left'][0, label]):.3f})" in out and "10 more rows" in out


# figures, and the ways to name a model


def test_figures_writes_the_figures_of_the_data_into_a_new_folder(digits_model: Path, here: Path) -> None:
    result = run("figures", digits_model, "--out", "f", "--json").json
    names = ["classes-digit", "conditional-digit", "inpainting-left-half", "inpainting-top-half"]
    names = [f"{name}.png" for name in (*names, "labels-from-part", "unconditional")]
    assert sorted(path.name for path in (here / "f").iterdir()) == names
    assert sorted(result["figures"]) == [f"f/{name}" for name in names] and result["out"] == "f"


def test_figures_of_the_toy_data_go_to_a_folder_named_after_the_model(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jointebm import plots

    monkeypatch.setattr("jointebm.plots.figures.figures_of", lambda model, data, g: {model.config.name: plots.Figure()})  # noqa: ARG005
    result = run("figures", toy.run)
    assert result.out == "figures-toy/toy.png\n" and (here / "figures-toy" / "toy.png").exists()


def test_without_matplotlib_figures_are_refused_and_samples_written_without_a_picture(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jointebm.plots", None)
    monkeypatch.delattr("jointebm.plots", raising=False)
    assert_refused(run("figures", toy.run), "jointebm.plots")
    result = run("sample", toy.run, "--num", 2, "--out", "s.npz", "--json")
    assert result.code == 0 and result.json["picture"] is None and result.err.startswith("jointebm: no picture: ")
    assert [path.name for path in here.iterdir()] == ["s.npz"]


def test_pretrained_names_a_model_that_comes_with_the_package(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(toy.run / "model").save(here / "pretrained" / "small")
    monkeypatch.setattr("jointebm.inference.pretrained.files", lambda package: {"jointebm": here}[package])
    assert run("sample", "pretrained:small", "--num", 2, "--json").json["num"] == 2
    assert_refused(run("sample", "pretrained:large"), "pretrained:large", "available: small")
    assert_refused(run("sample", "pretrained:../small"), "pretrained:../small", "available: small")
    assert_refused(run("sample", "nothing"), "nothing: no such folder", "one of small")


# what is wrong


def assert_refused(result: Result, *fragments: str) -> None:
    """One line on standard error with these fragments, nothing on standard output, exit code 2."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("jointebm: error: ") and result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in result.err, result.err


WRONG: dict[str, tuple[str, list[str]]] = {
    "unknown command": ("trian toy", ["'trian'", "Did you mean 'train'?", "--help"]),
    "unknown option": ("train toy --sed 3", ["--sed", "--seed", "'jointebm train --help'"]),
    "no argument": ("evaluate", ["MODEL", "--help"]),
    "one argument too many": ("evaluate TOY again", ["again"]),
    "unknown recipe": ("train nope", ["'nope'", "toy, digits, mnist"]),
    "unknown recipe to show": ("recipes nope", ["'nope'", "toy, digits, mnist"]),
    "unknown key": ("train toy --set nope=1", ["nope", "num_iterations"]),
    "no value": ("train toy --set num_iterations", ["'num_iterations'", "key=value"]),
    "value of the wrong type": ("train toy --set num_iterations=many", ["num_iterations", "'many'", "integer"]),
    "value out of range": ("train toy --set num_iterations=0", ["num_iterations", "'0'", "greater than or equal to 1"]),
    "unknown block to scale": ("""train toy --set scale={"z":2}""", ["'z'", "'point'"]),
    "negative seed": ("train toy --seed -1", ["--seed", "'-1'", "from 0"]),
    "seed that is no number": ("train toy --seed one", ["--seed", "'one'", "whole number"]),
    "no threads": ("train toy --threads 0", ["--threads", "'0'", "from 1"]),
    "missing data folder": ("train toy --data nowhere", ["--data", "nowhere", "JOINTEBM_DATA"]),
    "run folder that exists": ("train toy --out TOY", ["TOY: exists", "choose another"]),
    "run folder below a file": ("train toy --out note.txt/run", ["note.txt", "choose another place"]),
    "missing model": ("evaluate nowhere", ["nowhere: no such folder", "model folder", "pretrained:NAME"]),
    "file instead of a model": ("evaluate note.txt", ["note.txt: is not a folder", "model folder"]),
    "folder without a model": ("evaluate .", [".: holds neither config.json nor model/config.json"]),
    "config.json that is none": ("evaluate bad_config", ["bad_config/config.json: not a model configuration"]),
    "weights that are none": ("evaluate bad_weights", ["bad_weights/model.safetensors: not a safetensors file"]),
    "unknown pretrained model": ("sample pretrained:nope", ["pretrained:nope", "available: "]),
    "unknown decoder": ("evaluate TOY --methods exact,best", ["'best'", "sample, gibbs, exact"]),
    "more rows than there are": ("evaluate TOY --rows 61", ["--rows 61", "60 test rows"]),
    "no images to compare with": ("evaluate TOY --ood", ["data 'toy'", "Fashion-MNIST", "28 x 28 pixels"]),
    "no samples": ("evaluate TOY --samples 0", ["--samples", "'0'", "from 1"]),
    "unknown block": ("sample TOY --given size=1", ["'size'", "'point', 'bottom', 'left', 'diagonal'"]),
    "label out of range": ("sample TOY --given left=2", ["'left'", "got label 2", "from 0 to 1"]),
    "label that is not whole": ("sample TOY --given left=0.5", ["'left'", "0.5", "whole numbers"]),
    "label that is no number": ("sample TOY --given left=yes", ["'left=yes'", "neither a number nor a list"]),
    "label that is a truth value": ("sample TOY --given left=true", ["'left=true'", "not made of numbers"]),
    "number too long": (f"sample TOY --given left={'9' * 30}", ["not made of numbers"]),
    "real that is infinite": ("sample TOY --given point=Infinity", ["'point'", "inf", "finite"]),
    "list that is not closed": ("sample TOY --given point=[1,2", ["'point=[1,2'", "neither a number nor a list"]),
    "list of lists of all lengths": ("sample TOY --given point=[1,[2]]", ["equal lengths"]),
    "list too deep": (f"sample TOY --given point={'[' * 9999}{']' * 9999}", ["neither a number nor a list"]),
    "pair without a value": ("sample TOY --given left=", ["'left='", "block=value"]),
    "no pair": ("sample TOY --given left", ["'left'", "block=value"]),
    "block given twice": ("sample TOY --given left=1 --given left=0", ["'left'", "twice"]),
    "wrong shape": ("sample TOY --given point=[1,2,3]", ["'point'", "(3,)", "(64, 2)"]),
    "missing file": ("sample TOY --given point=@no.npz", ["no.npz: no such file"]),
    "file without the block": ("sample TOY --given left=@points.npz", ["left=@points.npz", "it has 'point'"]),
    "rows that are not as many as samples": (
        "sample TOY --given point=@points.npz --num 7",
        ["--num 7", "holds 30 rows"],
    ),
    "files of different lengths": (
        "sample TOY --given point=@points.npz --given left=[0,1]",
        ["different numbers of rows, [2, 30]"],
    ),
    "existing output": ("sample TOY --out points.npz", ["points.npz: exists", "choose another name"]),
    "existing picture": ("sample TOY --out picture.npz", ["picture.png: exists"]),
    "output of another kind": ("sample TOY --out s.txt", ["s.txt", "'.txt'", ".npz"]),
    "output below a file": ("sample TOY --out note.txt/s.npz", ["note.txt", "choose another place"]),
    "samples beyond counting": (f"sample TOY --num {10**30}", ["--num", "1000000000"]),
    "no steps to keep": ("sample TOY --steps 5 --thin 6", ["--thin 6", "5 steps"]),
    "missing rows": ("predict TOY no.npz", ["no.npz: no such file"]),
    "text instead of npz": ("predict TOY note.txt", ["note.txt: not an npz file", "numpy.savez"]),
    "npy instead of npz": ("predict TOY one.npy", ["one.npy: not an npz file"]),
    "torn npz": ("predict TOY torn.npz", ["torn.npz: not an npz file"]),
    "npz with a flipped bit": ("predict TOY flipped.npz", ["flipped.npz: not an npz file of plain arrays"]),
    "npz of objects": ("predict TOY objects.npz", ["objects.npz", "allow_pickle=False"]),
    "npz of nothing": ("predict TOY empty.npz", ["empty.npz", "holds no named arrays"]),
    "npz of words": ("predict TOY words.npz", ["'point'", "cannot be read as numbers"]),
    "npz of no rows": ("predict TOY none.npz", ["at least one row"]),
    "rows of the wrong shape": ("predict TOY wide.npz", ["'point'", "(30, 3)", "(rows, 2)"]),
    "rows of an unknown block": ("predict TOY strange.npz", ["'strange'", "'point'"]),
    "unknown target": ("predict TOY points.npz --target size", ["'size'", "'bottom', 'left', 'diagonal'"]),
    "continuous target": ("predict TOY points.npz --target point", ["'point'", "'bottom', 'left', 'diagonal'"]),
    "nothing to predict": ("predict TOY all.npz", ["no label is missing", "--target"]),
    "nothing to predict from": ("predict TOY left.npz --target left", ["nothing but what is to be predicted"]),
    "missing real for exact": ("predict TOY gap.npz", ["'point'", "row 1", "'gibbs' or 'sample'"]),
    "unknown method": ("predict TOY points.npz --method best", ["--method", "'best'", "'exact', 'gibbs', 'sample'"]),
    "existing predictions": ("predict TOY points.npz --out all.npz", ["all.npz: exists"]),
    "predictions of another kind": ("predict TOY points.npz --out p.json", ["'.json'", ".npz or .csv"]),
    "figures folder that exists": ("figures TOY --out TOY", ["TOY: exists"]),
}


@pytest.fixture(scope="module")
def corner(toy: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the wrong commands mention."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "TOY").symlink_to(toy.run)
    (folder / "note.txt").write_text("nothing\n")
    (folder / "picture.png").write_text("nothing\n")
    values = {name: value.numpy() for name, value in Toy(num_test=30).test().items()}
    point = values["point"]
    np.savez(folder / "points.npz", point=point)
    np.savez(folder / "all.npz", **values)  # type: ignore[arg-type]
    np.savez(folder / "left.npz", left=values["left"])
    np.savez(folder / "gap.npz", point=np.where(np.arange(30)[:, None] == 1, np.nan, point))
    np.savez(folder / "wide.npz", point=np.zeros((30, 3)))
    np.savez(folder / "none.npz", point=np.zeros((0, 2)))
    np.savez(folder / "strange.npz", strange=point)
    np.savez(folder / "words.npz", point=np.array([["a", "b"]]))
    np.savez(folder / "objects.npz", point=np.array([[{}, {}]], dtype=object))
    np.savez(folder / "empty.npz")
    np.save(folder / "one.npy", point)
    content = (folder / "points.npz").read_bytes()
    (folder / "torn.npz").write_bytes(content[: len(content) // 2])
    middle = content.index(point.tobytes()) + 11
    (folder / "flipped.npz").write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    for name, file in (("bad_config", "config.json"), ("bad_weights", "model.safetensors")):
        load(toy.run / "model").save(folder / name)
        (folder / name / file).write_text("{}")
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_gives_one_line_and_changes_nothing(
    case: str, corner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, fragments = WRONG[case]
    monkeypatch.chdir(corner)
    before = snapshot(corner)
    assert_refused(run(*words.split()), *fragments)
    assert snapshot(corner) == before


def test_a_message_is_one_line_whatever_it_quotes(here: Path) -> None:
    assert_refused(run("evaluate", here / "no\nwhere"), "no where: no such folder")


def test_divergence_is_one_line_and_exit_code_1(here: Path) -> None:
    result = run("train", "toy", *TINY, "--set", "num_iterations=20", "--set", "learning_rate=1e30", "--json")
    assert (result.code, result.out) == (1, "")
    *interventions, last = result.err.splitlines()
    assert len(interventions) >= 5 and all(line.startswith("jointebm: iteration ") for line in interventions)
    assert sum("rolled back" in line for line in interventions) == 5  # TrainConfig's default
    assert last.startswith("jointebm: error: ") and "of iteration" in last and "5 rollbacks, down to 0.03125" in last
    assert "Likely cause and way out: " in last and "Traceback" not in result.err
    assert not (here / "runs" / "toy-0" / "model").exists()


def test_running_out_of_memory_is_one_line_and_a_bug_is_not_hidden(
    toy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    for error in (full, MemoryError()):
        monkeypatch.setattr("jointebm.cli.commands.sample.start", failing(error))
        result = run("sample", toy.run)
        assert result.code == 1 and result.err == (
            "jointebm: error: there is not enough memory; ask for fewer samples, chains or rows at once\n"
        )
    monkeypatch.setattr("jointebm.cli.commands.sample.start", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run("sample", toy.run)


def test_a_file_appears_whole_or_not_at_all(here: Path) -> None:
    def write(content: bytes, then: Callable[[], object]) -> None:
        with new_file(here / "a.npz") as file:
            file.write(content)
            then()

    def disk_full() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(b"half", disk_full)
    assert list(here.iterdir()) == []
    with pytest.raises(FileExistsError):
        write(b"mine", lambda: (here / "a.npz").write_text("theirs"))  # somebody else was faster
    assert (here / "a.npz").read_text() == "theirs" and len(list(here.iterdir())) == 1


def test_help_and_version_are_printed_to_standard_output() -> None:
    assert run("--version") == (0, f"jointebm {jointebm.__version__}\n", "")
    for arguments in ((), ("--help",)):
        result = run(*arguments)
        assert result.code == 0 and result.err == ""
        assert all(name in result.out for name in ("recipes", "train", "evaluate", "sample", "predict", "figures"))
    assert "--given" in run("sample", "--help").out


def test_progress_off_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr("jointebm.cli.progress.SECONDS_BETWEEN_LINES", 5)
    with StepProgress("counting", 8) as progress:
        for step in range(1, 9):
            progress.show(step, f"at {step}")
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and progress.num_done == 8
    assert 1 < len(lines) < 8 and all(line.startswith("jointebm: counting: ") for line in lines)


def test_the_installed_command_ends_with_its_exit_code_and_stops_at_ctrl_c(here: Path) -> None:
    command = [sys.executable, "-c", "import sys; from jointebm.cli import main; sys.exit(main())"]
    wrong = subprocess.run([*command, "train", "nope"], capture_output=True, text=True, check=False)
    assert_refused(Result(wrong.returncode, wrong.stdout, wrong.stderr), "'nope'")
    process = subprocess.Popen(
        [*command, "train", "toy", "--set", "log_every=1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = here / "runs" / "toy-0" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err
    assert err.splitlines()[-1].startswith("jointebm: interrupted after ")


def test_train_resume_refuses_what_defines_a_run(here: Path) -> None:
    assert_refused(
        run("train", "--resume", "runs/x", "--seed", 5), "--resume goes on with a run as it was begun", "--seed"
    )
    assert_refused(run("train", "toy", "--resume", "runs/x", "--set", "warmup=1"), "leave out RECIPE, --set")
    assert list(here.iterdir()) == []


def test_sampling_leaves_a_folder_of_chains_alone_that_is_not_its_own(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process with the same --out wrote its chains while this one was at work."""
    show = StepProgress.show

    def other_process(self: StepProgress, num_done: int, figures: str = "") -> None:
        show(self, num_done, figures)
        (here / "s.chains").mkdir(exist_ok=True)
        (here / "s.chains" / "precious").write_text("theirs")

    monkeypatch.setattr(StepProgress, "show", other_process)
    assert run("sample", toy.run, "--num", 2, "--steps", 3, "--out", "s.npz").code == 0
    assert (here / "s.chains" / "precious").read_text() == "theirs" and (here / "s.npz").exists()
