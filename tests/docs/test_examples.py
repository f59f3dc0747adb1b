"""Every example runs; the results in docs/structured.md hold at the documented iterations (soak)."""

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
EXAMPLES = sorted(FOLDER.glob("*.py"))
LETTERS = Path(os.environ.get("JOINTEBM_DATA", "")) / "letters.npz"


@pytest.fixture(autouse=True)
def _threads_are_restored() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def run(name: str, *arguments: str) -> dict[str, Any]:
    """Runs an example as a script and returns its variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOINTEBM_DATA", str(write(tmp_path, words(700))))
    picture = ["--out", str(tmp_path / "figure.png")] if "--out" in path.read_text() else []
    run(path.stem, *picture)
    assert capsys.readouterr().out
    assert not picture or (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80


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
