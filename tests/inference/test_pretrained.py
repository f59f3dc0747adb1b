"""Pretrained models: at most 12 MB, documented, and as accurate as their cards say."""

import os
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from jointebm import load
from jointebm.cli.blocks.models import open_model
from jointebm.data import CaptionedScenes
from jointebm.data.registry import open_dataset
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.evaluation.caption_truth import caption_report

DATA = os.environ.get("JOINTEBM_DATA")
FOLDER = Path(str(files("jointebm"))) / "pretrained"
MODELS = ("toy", "digits", "mnist", "mnist_joint", "mnist_any", "dsprites", "toy_any", "digits_any")
every_model = pytest.mark.parametrize("name", MODELS)


def test_they_are_at_most_12_megabytes_together() -> None:
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) == sorted((*MODELS, "captions"))
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12e6


@every_model
def test_a_name_on_the_command_line_is_a_folder_with_a_card(name: str) -> None:
    path, model = open_model(f"pretrained:{name}", "cpu")
    assert path == FOLDER / name and model.config.name == name
    card = (path / "README.md").read_text()
    assert f"`jointebm train {name}" in card
    for words in ("iterations", "training time", "threads", "sample-based", "energy-based", "interventions"):
        assert words in card, f"{name}: the card says nothing of {words}"
    assert re.search(r"\d\d\.\d", card)


@pytest.mark.slow
@every_model
def test_its_accuracy_is_that_of_its_card(name: str) -> None:
    """On rows of the test set, drawn at random; the card's figure within five standard errors, a false alarm in 10^6."""
    model = load(FOLDER / name)
    if name.startswith("mnist") and DATA is None:
        pytest.skip("JOINTEBM_DATA is not set: the files of MNIST are not here")
    dataset = open_dataset(model.config.data, None if DATA is None else Path(DATA))
    test = dataset.test()
    rows = torch.randperm(len(next(iter(test.values()))), generator=torch.Generator().manual_seed(0))[:500]
    values = {block: value[rows] for block, value in test.items()}
    accuracy, _ = evaluate_model(model, values, methods=("exact",), generator=torch.Generator().manual_seed(0))
    card = (FOLDER / name / "README.md").read_text()
    found = re.search(r"energy-based \| (\d\d\.\d+)", card)
    assert found is not None
    claimed = float(found[1]) / 100
    assert abs(accuracy["exact"].mean - claimed) < 5 * (max(claimed * (1 - claimed), 0.002) / 500) ** 0.5


@pytest.mark.slow
def test_captions_are_as_often_true_as_the_card_says() -> None:
    """On the first test rows, within five standard errors: a false alarm in 10^6."""
    data, num = CaptionedScenes(), 100
    values = {name: value[:num] for name, value in data.test().items()}
    report = caption_report(
        load(FOLDER / "captions"), values, data.test_objects()[:num], num_images=0, generator=torch.Generator()
    )
    card = (FOLDER / "captions" / "README.md").read_text()
    claimed = re.search(r"captions true of test images, one object / two objects \| ([\d.]+)% / ([\d.]+)%", card)
    assert claimed is not None and "`jointebm train captions" in card
    for kind, share in zip(report.exact, claimed.groups(), strict=True):
        p = float(share) / 100
        assert abs(report.exact[kind] - p) < 5 * (p * (1 - p) / report.num[kind]) ** 0.5


@pytest.mark.parametrize(("file", "command"), [("recipe.json", "train"), ("fit.json", "fit")])
def test_an_unfinished_run_names_the_command_that_resumes_it(tmp_path: Path, file: str, command: str) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"has no model yet; resume it with: jointebm {command} --resume"):
        load(tmp_path)


def test_a_name_that_is_neither_text_nor_a_path_is_refused() -> None:
    with pytest.raises(TypeError, match="load: got 3, expected the path of a model or run folder, pretrained:NAME"):
        load(3)  # type: ignore[arg-type]
