"""Runs commands in this process, and judges what they print."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jointebm.cli import main
from jointebm.cli.progress import StepProgress


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        content = json.loads(self.out)
        assert isinstance(content, dict)
        return content


def run(*arguments: object) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


SHORT = (
    *("--set", "num_iterations=3", "--set", "batch_size=16", "--set", "buffer_size=32", "--set", "num_steps=2"),
    *("--set", "num_test_chains=3", "--set", "num_test_steps=4", "--set", "warmup=1"),
)
TINY = (*SHORT, "--set", "hidden=[8]")
# The recipe digits has two networks; without its reference it takes no log Z and writes no report.
TINY_DIGITS = (
    *(*SHORT, "--set", "energy.net.hidden=[8]", "--set", "energy.shared.net.hidden=[8]"),
    *("--set", "reference_labels=true", "--set", "reference=null", "--set", "num_test_steps=2"),
)
NUM_TEST = 60  # test rows of the toy data in these tests


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


class Trained(NamedTuple):
    run: Path
    report: dict[str, Any]


def assert_refused(result: Result, *fragments: str) -> None:
    """One line on standard error with these fragments, nothing on standard output, exit code 2."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("jointebm: error: ") and result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in result.err, result.err


def interrupt_after(num: int, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Presses Ctrl-C, or raises another error, when `num` steps are done."""
    show = StepProgress.show

    def interrupting(self: StepProgress, num_done: int, figures: str = "") -> None:
        show(self, num_done, figures)
        if num_done == num:
            raise error or KeyboardInterrupt

    monkeypatch.setattr(StepProgress, "show", interrupting)
