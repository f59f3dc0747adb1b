"""Runs of `jointebm fit`: interrupted in any way, they resume bit for bit; what would differ is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jointebm.estimators import JointEBM
from jointebm.tables.training.fit_record import FitRecord
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_numbers import TableMetrics
from support.command_line import run

TRAINING = ("--set", "num_visits=30", "--set", "width=8", "--set", "num_looks=4", "--threads", 1)
pytestmark = pytest.mark.filterwarnings("ignore:training was cut short")  # it is, by the settings above
ALL_FILES = {"fit.json", "lock", "metrics.jsonl", "checkpoints", "model"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """600 rows with missing entries."""
    generator = np.random.default_rng(0)
    group = generator.random(600) < 0.3
    frame = pd.DataFrame({"size": (group * 4 + generator.normal(size=600)).round(1), "kind": np.where(group, "u", "v")})
    frame.loc[generator.random(600) < 0.2, "size"] = np.nan
    frame.loc[generator.random(600) < 0.2, "kind"] = None
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def begun(table: Path, out: Path) -> subprocess.Popen[bytes]:
    command = ["fit", str(table), "--out", str(out), *map(str, TRAINING)]
    script = f"from jointebm.cli import main; import sys; sys.exit(main({command!r}))"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_fit_that_is_stopped_and_resumed_leaves_the_same_model(
    number: signal.Signals, table: Path, tmp_path: Path
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run("fit", table, "--out", straight, *TRAINING).code == 0
    process = begun(table, stopped)
    for _ in range(6000):
        if any((stopped / "checkpoints").glob("0*")) or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    if number != signal.SIGKILL:
        assert f"resume with: jointebm fit --resume {stopped}" in err.decode()
    assert not (stopped / "model").exists()
    assert run("fit", "--resume", stopped, "--threads", 1).code == 0
    assert weights(stopped) == weights(straight) and lines(stopped) == lines(straight)
    assert {path.name for path in stopped.iterdir()} == ALL_FILES


def test_a_run_folder_is_a_model_to_every_command(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run("fit", table, "--out", out, *TRAINING, "--set", "num_visits=2").code == 0
    assert run("impute", out, table, "--out", tmp_path / "filled.csv").code == 0
    assert not pd.read_csv(tmp_path / "filled.csv").isna().any().any()
    assert JointEBM.load(out).get_params() == JointEBM.load(out / "model").get_params()
    plan = json.loads((out / "fit.json").read_text())
    assert plan["tables"] == [str(table)] and len(plan["sha256"]) == 64 and plan["fields"]["num_visits"] == 2


def test_what_would_change_the_result_of_a_resumed_fit_is_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(JointEBM, "fit_rows", stopped)
        assert run("fit", table, "--out", out, *TRAINING).code == 130
    refused = run("fit", "--resume", out, "--seed", 3)
    assert refused.code == 2 and "leave out --seed" in refused.err
    refused = run("fit", table, "--out", out, *TRAINING)
    assert refused.code == 2 and "exists" in refused.err
    content = table.read_text()
    table.write_text(content.replace("u", "w"))
    refused = run("fit", "--resume", out)
    assert refused.code == 2 and "has changed since the fit" in refused.err
    table.write_text(content)
    assert run("fit", "--resume", out, "--threads", 1).code == 0
    refused = run("fit", "--resume", out)
    assert refused.code == 2 and "is finished; its model is in" in refused.err
    for arguments in (["fit"], ["fit", table], ["fit", "--resume", os.fspath(tmp_path)]):
        refused = run(*arguments)
        assert refused.code == 2 and refused.err.count("\n") == 1


def test_a_table_that_cannot_be_fitted_leaves_no_folder(table: Path, tmp_path: Path) -> None:
    refused = run("fit", table, "--out", tmp_path / "run", "--set", "learning_rate=-1")
    assert refused.code == 2 and "learning_rate" in refused.err and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [1, 7])
def test_ctrl_c_before_the_first_checkpoint_loses_no_iteration(
    iteration: int, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run("fit", table, "--out", straight, *TRAINING).code == 0
    after = FitRecord.after

    def interrupted(self: FitRecord, fit: TableFit, metrics: TableMetrics) -> None:
        after(self, fit, metrics)
        if metrics.iteration == iteration:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(FitRecord, "after", interrupted)
        result = run("fit", table, "--out", stopped, *TRAINING)
    assert result.code == 130 and f"interrupted after {iteration} iterations; resume with: " in result.err
    first: list[int] = []

    def watched(self: FitRecord, fit: TableFit, metrics: TableMetrics) -> None:
        first.append(metrics.iteration)
        after(self, fit, metrics)

    monkeypatch.setattr(FitRecord, "after", watched)
    assert run("fit", "--resume", stopped, "--threads", 1).code == 0
    assert first[0] == iteration + 1
    assert weights(stopped) == weights(straight) and lines(stopped) == lines(straight)
