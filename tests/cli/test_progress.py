"""Progress of long commands."""

import time

import pytest

from jointebm.cli.progress import StepProgress


def test_progress_outside_a_terminal_is_a_line_every_few_seconds(
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
