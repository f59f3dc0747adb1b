"""`torchrun -m jointebm`: commands in several processes print once and write one folder."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist

from jointebm.cli.processes import joined
from jointebm.estimators import JointEBM
from jointebm.training.world import ALONE
from support.command_line import TINY, run
from support.forked_commands import Ended, commands
from support.torchrun import torchrun


def test_a_process_that_torchrun_did_not_start_is_alone() -> None:
    with joined("cpu") as world:
        assert world is ALONE


def test_a_restart_reads_no_address_of_the_attempt_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchrun` keeps one store for all attempts, in which processes find the addresses of one another."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
    variables |= {"TORCHELASTIC_USE_AGENT_STORE": True, "GLOO_SOCKET_IFNAME": "lo"}
    nums = [store.num_keys()]
    for attempt in range(3):
        for name, value in (variables | {"TORCHELASTIC_RESTART_COUNT": attempt}).items():
            monkeypatch.setenv(name, str(value))
        with joined("cpu") as world:
            assert (world.rank, world.size) == (0, 1)
        nums.append(store.num_keys())
    assert all(after > before for before, after in pairwise(nums))


def test_gpus_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match="has no GPU of its own: it has 1; start torchrun with --nproc-per-node 1"):
        joined("cuda").__enter__()


@pytest.mark.slow
def test_train_prints_once_and_says_how_it_was_started(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = torchrun("train", "toy", *TINY, "--out", path, "--threads", 1, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["run"] == str(path)
    assert json.loads((path / "run.json").read_text())["processes"] == 2
    assert "torchrun --nproc-per-node 2 -m jointebm train toy --seed 0" in (path / "model" / "README.md").read_text()
    assert run("evaluate", path, "--samples", 3, "--json").code == 0


@pytest.mark.slow
def test_fit_prints_once_and_writes_a_model_that_one_process_reads(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    group = generator.random(300) < 0.3
    frame = pd.DataFrame({"size": (group * 4 + generator.normal(size=300)).round(1), "kind": np.where(group, "u", "v")})
    frame.to_csv(tmp_path / "table.csv", index=False)
    small = ("--set", "num_visits=10", "--set", "width=8", "--set", "num_looks=2", "--set", "num_members=3")
    line = ("fit", tmp_path / "table.csv", "--out", tmp_path / "fit", *small, "--threads", 1, "--json")
    first, second = commands(line, line)
    assert first.code == 0, first.err
    assert json.loads(first.out)["model"] == str(tmp_path / "fit") and second == Ended(0, "", "")
    model = JointEBM.load(tmp_path / "fit")
    assert len(model.members_) == 3
    assert model.impute(frame.head(3)).shape == (3, 2)


ALIKE = {
    "unknown recipe": ("train nope", "unknown recipe 'nope'"),
    "unknown option": ("train toy --sed 3", "No such option"),
    "existing folder": ("train toy --out here", "here: exists"),
    "missing file": ("fit nowhere.csv --out model", "nowhere.csv: No such file"),
    "table without rows": ("fit empty.csv --out model", "empty.csv: has no rows"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_what_all_processes_refuse_is_said_once(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "empty.csv").write_text("x,y\n")
    words, reason = ALIKE[case]
    first, second = commands(words.split(), words.split(), patience=30)
    assert first.code == 2 and reason in first.err and first.err.count("\n") == 1
    assert (second.code, second.err) == (2, "")


def test_what_one_process_refuses_is_said_by_it() -> None:
    """With another message than the first process, and where the first process has no error."""
    first, second = commands(["train", "nope"], ["train", "neither"])
    assert "unknown recipe 'nope'" in first.err and "unknown recipe 'neither'" in second.err
    first, second = commands(["recipes"], ["train", "neither"])
    assert (first.code, first.err) == (0, "") and second.code == 2 and "unknown recipe 'neither'" in second.err
