"""Every example runs as it stands; what it claims it asserts itself."""

import runpy
import sys
from pathlib import Path

import pytest

from test_letters import words, write

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOINTEBM_DATA", str(write(tmp_path, words(700))))
    picture = ["--out", str(tmp_path / "figure.png")] if "--out" in path.read_text() else []
    monkeypatch.setattr(sys, "argv", [str(path), *picture])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    assert not picture or (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80
