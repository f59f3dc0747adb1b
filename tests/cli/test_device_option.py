"""--device: a device that is missing is one line, whatever the command."""

from pathlib import Path

import pytest
import torch

from support.command_line import assert_refused, run


@pytest.fixture(autouse=True)
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "figures", "fit"])
def test_a_missing_device_is_one_line_and_nothing_is_written(command: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n" * 30)
    named = {"train": "toy", "fit": table}.get(command, "pretrained:toy")
    out = [] if command == "evaluate" else ["--out", tmp_path / "out"]
    assert_refused(run(command, named, "--device", "cuda", *out), "device 'cuda'", "finds no CUDA device", "'cpu'")
    assert not (tmp_path / "out").exists()
