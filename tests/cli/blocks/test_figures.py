"""`jointebm figures`: PNG files in a new folder."""

import sys
from pathlib import Path

import pytest

from jointebm import Model
from jointebm.plots import style
from support.command_line import Trained, assert_refused, run


@pytest.mark.slow
def test_figures_writes_the_figures_of_the_data_into_a_new_folder(digits_model: Path, here: Path) -> None:
    result = run("figures", digits_model, "--out", "f", "--json").json
    names = ["classes-digit", "conditional-digit", "inpainting-left-half", "inpainting-top-half"]
    names = [f"{name}.png" for name in (*names, "labels-from-part", "unconditional")]
    assert sorted(path.name for path in (here / "f").iterdir()) == names
    assert sorted(result["figures"]) == [f"f/{name}" for name in names] and result["out"] == "f"


def test_figures_of_the_toy_data_go_to_a_folder_named_after_the_model(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_figure(model: Model, *_: object) -> dict[str, style.Figure]:
        return {model.config.name: style.Figure()}

    monkeypatch.setattr("jointebm.cli.blocks.drawn_figures.figures_of", one_figure)
    result = run("figures", toy.run)
    assert result.out == "figures-toy/toy.png\n" and (here / "figures-toy" / "toy.png").exists()


def test_without_matplotlib_figures_are_refused_and_samples_written_without_a_picture(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jointebm.plots", None)
    monkeypatch.delattr("jointebm.plots", raising=False)
    monkeypatch.delitem(sys.modules, "jointebm.cli.blocks.drawn_figures", raising=False)
    assert_refused(run("figures", toy.run), "jointebm.plots")
    result = run("sample", toy.run, "--num", 2, "--out", "s.npz", "--json")
    assert result.code == 0 and result.json["picture"] is None and result.err.startswith("jointebm: no picture: ")
    assert [path.name for path in here.iterdir()] == ["s.npz"]
