"""Every example runs; the results in docs/structured.md hold at the documented iterations (soak)."""

import gc
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.letter_files import words, write

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.rglob("*.py"))
GALLERY = sorted((FOLDER / "gallery").glob("*.py"))
PICTURES = FOLDER.parent / "docs" / "figures" / "gallery"
SMALL = {  # arguments of a small run
    "all_sprites": ["--iterations", "4", "--classifier", "4", "--test", "6"],
    "anomalies": ["--visits", "0"],
    "attributes": ["--steps", "10"],
    "calibration": ["--num", "40"],
    "captions": ["--num", "1"],
    "composition": ["--iterations", "5"],
    "conditional_digits": ["--num", "2"],
    "digit_strips": ["--iterations", "4", "--test", "30"],
    "digits_and_blot": ["--num", "6"],
    "inpainting": ["--num", "2"],
    "ising": ["--sweeps", "16", "--chains", "2"],
    "ising_critical": ["--side", "8", "--steps", "20"],
    "missing_patterns": ["--num", "300", "--visits", "0"],
    "ocr": ["--iterations", "4", "--every", "120"],
    "rare_conditions": ["--num", "50", "--steps", "10"],
    "segmentation": ["--iterations", "3", "--test", "9"],
    "sprite_answers": ["--test", "6"],
    "sprites": ["--side", "2"],
    "what_if": ["--visits", "0", "--num", "50"],
}
DATA = Path(os.environ.get("JOINTEBM_DATA", ""))
LETTERS = DATA / "letters.npz"
MNIST = DATA / "mnist"


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Threads are as before, and what an example left open warns here and not in whichever test runs next."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)
    gc.collect()


def run(name: str, *arguments: str) -> dict[str, Any]:
    """Runs an example as a script and returns its variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        (path,) = (each for each in EXAMPLES if each.stem == name)
        return runpy.run_path(str(path), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_mnist = "mnist/" in path.read_text()
    if needs_mnist and not MNIST.is_dir():
        pytest.skip("set JOINTEBM_DATA to the folder that holds mnist/")
    monkeypatch.setenv("JOINTEBM_DATA", str(DATA if needs_mnist else write(tmp_path, words(700))))
    picture = ["--out", str(tmp_path / "figure.png")] if "--out" in path.read_text() else []
    run(path.stem, *SMALL.get(path.stem, []), *picture)
    assert capsys.readouterr().out
    assert not picture or (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < (60 if path in GALLERY else 80)


def test_every_example_of_the_gallery_has_a_small_picture_and_a_command_on_the_page() -> None:
    page, sizes = (FOLDER.parent / "docs" / "gallery.md").read_text(), []
    for path in GALLERY:
        picture = PICTURES / f"{path.stem}.png"
        command = path.read_text().partition("\npython ")[2].partition("\n")[0]
        assert f"    python {command}\n" in page and command.endswith(f"docs/figures/gallery/{picture.name}")
        assert f"](figures/gallery/{picture.name})" in page
        sizes.append(picture.stat().st_size)
    assert len(GALLERY) == 13 and {path.stem for path in PICTURES.iterdir()} == {path.stem for path in GALLERY}
    assert max(sizes) < 150_000 and sum(sizes) < 1_500_000


@pytest.mark.soak
@pytest.mark.skipif(not LETTERS.is_file(), reason="set JOINTEBM_DATA to the folder that holds letters.npz")
def test_transitions_read_more_words_than_single_letters(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard errors are .01, and .37 was measured."""
    run("ocr", "--data", str(LETTERS.parent), "--iterations", "800", "--every", "3")
    alone, together = (
        float(share)
        for share in re.findall(r"^\S+ \S+, all: .* words ([.\d]+),", capsys.readouterr().out, re.MULTILINE)
    )
    assert together > alone + 0.2


@pytest.mark.soak
@pytest.mark.skipif(not MNIST.is_dir(), reason="set JOINTEBM_DATA to the folder that holds mnist/")
def test_four_digits_together_are_read_better_and_tell_a_blotted_one() -> None:
    found = run("digit_strips", "--data", str(DATA), "--multiple", "10", "--iterations", "700", "--test", "1000")
    strings, number = found["strings"], found["number"]
    whole, covered = [], []
    for model in found["models"].values():
        best = {k: strings[found["answers"](model, x).argmax(dim=1)].argmax(dim=2) for k, x in found["images"].items()}
        whole.append(float((best["whole"] @ torch.tensor([1000, 100, 10, 1]) == number).float().mean()))
        covered.append(float((best["blotted"] == found["digits"])[found["covered"]].float().mean()))
    assert whole[1] > whole[0] and covered[0] < 0.2 and covered[1] > 0.8


@pytest.mark.soak
def test_correlated_pixels_have_fewer_errors_than_single_pixels() -> None:
    found = run("segmentation", "--iterations", "600", "--test", "100")
    true = found["test"]["mask"] > 0
    alone, together = (((found[name] > 0.5) != true).float().mean() for name in ("alone", "together"))
    assert together < alone


@pytest.mark.soak
def test_a_composition_meets_the_conditions_of_both_models() -> None:
    """The true share is .25 for either model; of 2,000 draws, .98 and .96 of the compositions were measured."""
    found = run("composition", "--iterations", "1000")["found"]
    shares = {n: float(((v[:, 0] < 0) & (v[:, 1] > 0)).float().mean()) for n, v in found.items()}
    assert max(shares["left"], shares["large"]) < 0.4
    assert min(shares["left x large"], shares["left x large / all"]) > 0.9


@pytest.mark.soak
def test_the_deep_set_names_one_whole_cluster_and_the_classifier_of_points_does_not() -> None:
    """Mass on the two clusters; .999 and 2 of 64 were measured."""
    found = run("sets", "--iterations", "6000")
    mass = {n: float((probs * found["either"]).sum(dim=1).mean()) for n, probs in found["probs"].items()}
    assert mass["sets"] > 0.95 and mass["single points"] < 0.1


@pytest.mark.soak
def test_a_composition_draws_sprites_that_neither_model_saw(capsys: pytest.CaptureFixture[str]) -> None:
    """Large and on the left: of 400 draws, .00 and .11 of the single models, .66 and .99 of the compositions."""
    run("composition_images", "--iterations", "1000", "--num", "100", "--steps", "200")
    shares = dict(re.findall(r"^(.*): left .* both ([.\d]+) ;", capsys.readouterr().out, re.MULTILINE))
    assert float(shares["left"]) < 0.1 and float(shares["large"]) < 0.3
    assert float(shares["left x large / all"]) > 0.45 and float(shares["(left / all)^4 x large"]) > 0.9


@pytest.mark.soak
def test_attributes_of_sprites_are_known_better_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 100 test images; log p of all labels exceeds that of the product of marginals, by .4 and .8 nats as measured."""
    run("all_sprites", "--iterations", "2000", "--classifier", "20", "--test", "100")
    found = re.findall(r"log p of all (-[.\d]+), as a product of marginals (-[.\d]+)", capsys.readouterr().out)
    whole, half, classifiers = ((float(all_p), float(apart)) for all_p, apart in found)
    assert whole[0] > whole[1] + 0.1 and half[0] > half[1] + 0.3 and whole[0] > classifiers[0] + 1
