"""`jointebm evaluate`: the report of a model."""

from pathlib import Path

import numpy as np
import pytest
import torch

import jointebm
from jointebm import Categorical, Continuous, Space, load
from jointebm.data import ArrayDataset, Dataset, Toy, digits
from jointebm.data.registry import DATASETS
from jointebm.evaluation import ImageClassifier
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import initial_model
from support.block_models import small_config
from support.command_line import NUM_TEST, TINY, Trained, assert_refused, run
from support.rendered_sprites import sprites


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


def test_decoders_that_are_too_expensive_are_skipped_and_named(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointebm.cli.blocks.evaluate.MAX_CONFIGURATIONS", 7)
    result = run("evaluate", toy.run, "--json")
    assert list(result.json["accuracy"]) == ["sample", "gibbs"]
    assert "skipping the decoder 'exact': 8 configurations" in result.err
    assert list(run("evaluate", toy.run, "--json", "--methods", "exact").json["accuracy"]) == ["exact"]
    monkeypatch.setattr("jointebm.cli.blocks.evaluate.MAX_CLASSES", 5)
    result = run("evaluate", toy.run, "--json")
    assert list(result.json["accuracy"]) == ["sample"]
    assert "skipping the decoder 'gibbs': a sweep evaluates all 6 classes of y one by one" in result.err


def test_only_means_are_shown_where_variables_are_many(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("evaluate", toy.run, "--methods", "exact", "--rows", 5)
    assert "diagonal" in run(*options).out
    monkeypatch.setattr("jointebm.cli.blocks.evaluate.MAX_VARIABLES_SHOWN", 2)
    shown = run(*options).out
    assert "diagonal" not in shown and "mean" in shown and "exact match" in shown


def test_evaluate_judges_samples_of_points(toy: Trained) -> None:
    samples = run("evaluate", toy.run, "--samples", 4, "--json").json["samples"]
    assert (samples["judge"], samples["num_per_condition"]) == ("nearest mode", 4)
    assert len(samples["per_condition"]) == 14 and samples["judge_accuracy"] > 0.98
    assert samples["agreement"] == pytest.approx(sum(samples["per_condition"].values()) / 14)
    assert set(samples["num_modes_data"].values()) == {4}
    table = run("evaluate", toy.run, "--samples", 4).out
    assert "diagonal = 0" in table and "judged by: nearest mode" in table


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
    assert "to each other" in table and "Frechet distance in 64 features of our own small classifier" in table


def test_evaluate_places_the_samples_of_sprites(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sprites(every=97)
    monkeypatch.setitem(DATASETS, data.name, lambda data_dir: data)  # noqa: ARG005
    jointebm.Model(small_config(data.space, data=data.name, num_steps=1)).save(here / "model")
    command = ("evaluate", "model", "--methods", "exact", "--rows", 3, "--samples", 1)
    samples = run(*command, "--json").json["samples"]
    assert samples["placement"].keys() == samples["placement_data"].keys() == {"exact", "within_one"}
    assert samples["placement"]["exact"].keys() == {"horizontal", "vertical", "all"}
    assert samples["placement_data"]["within_one"]["all"] == 1.0 and samples["judge_accuracy"] > 0.99
    assert samples["frechet"] is None and len(samples["per_condition"]) == 32
    table = run(*command).out
    assert "judged by: centre of the sprite" in table and "within one" in table


def test_evaluate_reports_out_of_distribution_detection(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((6, 28, 28), dtype=np.uint8)
    rows = {"image": images, "digit": np.zeros(6, dtype=np.uint8)}
    space = Space(image=Continuous((28, 28)), digit=Categorical(10))
    data = ArrayDataset("dark", space, rows, rows, white=255, noise_width=0.0, noise_sd=0.1)
    monkeypatch.setitem(DATASETS, "dark", lambda data_dir: data)  # noqa: ARG005
    monkeypatch.setattr("jointebm.evaluation.out_of_distribution.fashion_images", lambda data_dir: images + 9)  # noqa: ARG005
    jointebm.Model(small_config(space, data="dark")).save(here / "model")
    command = ("evaluate", "model", "--methods", "exact", "--ood")
    areas = run(*command, "--json").json["ood_auroc"]
    assert list(areas) == ["log_sum_exp", "confidence"]
    assert all(0 <= area <= 1 for of in areas.values() for area in of.values())
    table = " ".join(run(*command).out.split())
    assert "AUROC of the test rows against other images" in table and "1: test rows always score higher" in table
    assert "log sum_y exp f is log p(x) + log Z" in table and "heuristic" not in table
    config = small_config(space, data="dark")
    cold = config.kernel.model_copy(update={"temperature": 0.25})
    jointebm.Model(config.model_copy(update={"kernel": cold})).save(here / "cold")
    table = " ".join(run("evaluate", "cold", *command[2:]).out.split())
    assert "x moves at temperature 0.25 and y at 1, so log sum_y exp f is a heuristic, not log p(x)" in table


def test_data_names_the_data_folder(toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_model_is_not_evaluated_on_data_with_other_blocks(toy: Trained, here: Path) -> None:
    model = load(toy.run / "model")
    jointebm.Model(model.config.model_copy(update={"data": "digits"}), energy=model.energy).save(here / "model")
    assert_refused(run("evaluate", here), "got blocks", "'digits'", "trained on other data")
    jointebm.Model(model.config.model_copy(update={"data": "mine"}), energy=model.energy).save(here / "mine")
    assert_refused(run("figures", here / "mine"), "'mine'", "toy, ")


@pytest.fixture(scope="module")
def any_subset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of any subset of the digits: it knows the frequencies of labels alone."""
    recipe = override(find("digits_any"), ["channels=[4]", "hidden=[8]", "num_levels=4", "num_test_steps=1"])
    folder: Path = tmp_path_factory.mktemp("cli") / "any"
    return initial_model(recipe, digits(pixels=True), seed=0).save(folder)


def test_evaluate_reports_labels_from_parts(any_subset: Path) -> None:
    options = ("evaluate", any_subset, "--methods", "exact", "--parts")
    report = run(*options, "--json").json
    values = digits(pixels=True).test()
    most = torch.bincount(torch.from_numpy(digits().train["digit"])).argmax()
    share = float((values["digit"] == most).double().mean())
    for part in ("whole image", "left half", "random 25% of the pixels"):
        assert report["parts"]["accuracy"][part]["digit"] == pytest.approx(share)
    assert "draws" not in report
    shown = run(*options, "--rows", 20).out
    assert "labels given a part of each row" in shown and "bottom half" in shown and "rows per second" in shown


@pytest.mark.slow
def test_evaluate_reports_draws_and_in_paintings(any_subset: Path) -> None:
    result = run("evaluate", any_subset, "--methods", "exact", "--parts", "--samples", 5)
    assert "5 draws from the highest noise: label frequencies, total variation" in result.out
    assert "in-paintings of 25 ambiguous top halves" in result.out


def test_parts_of_other_models_are_refused(toy: Trained) -> None:
    assert_refused(run("evaluate", toy.run, "--methods", "exact", "--parts"), "'toy' is not one of any subset")
