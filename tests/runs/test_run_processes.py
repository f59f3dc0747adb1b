"""Runs in several processes: one folder, stopped together, resumed bit for bit, and whole after any kill."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.storage import checkpoint
from support import rank_tasks
from support.ranks import Ranks, on_ranks, values
from support.slowed_saves import digest_of, reported

TINY = override(
    find("toy"),
    [
        *("num_iterations=24", "batch_size=30", "buffer_size=41", "num_steps=1", "hidden=[4]", "warmup=5"),
        *("decay=cosine", "replacement_rate=0.2", "log_every=1", "snapshot_every=5", "checkpoint_every=10"),
    ],
)
ENDLESS = override(TINY, ["num_iterations=1000000", "checkpoint_every=1", "learning_rate=1e-5", "decay=constant"])
LONGEST_WAIT = 0.3  # seconds from the start of the first save to the kill


def lines_of(path: Path) -> bytes:
    """metrics.jsonl with its seconds set to zero."""
    return re.sub(rb'"seconds": [0-9.e-]+', b'"seconds": 0', (path / "metrics.jsonl").read_bytes())


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_all_and_they_resume_bit_for_bit(tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    first, second = values(on_ranks(2, rank_tasks.run, TINY, straight, None, 0, folder=tmp_path))
    assert first["model"] == second["model"] and first["metrics"] == second["metrics"]
    stopped = on_ranks(2, rank_tasks.run, TINY, tmp_path / "run", 13, 1, folder=tmp_path)
    assert [each.error.split(":")[0] for each in stopped] == 2 * ["KeyboardInterrupt"]
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints").checkpoint
    assert newest is not None and newest.iteration == 13 and len(newest.parts) == 2
    files = {path.name for path in (tmp_path / "run" / "checkpoints" / "000000013").iterdir()}
    assert files == {
        *("state.safetensors", "rank-0.safetensors", "rank-1.safetensors", "manifest.json", "manifest.sha256")
    }
    resumed, _ = values(on_ranks(2, rank_tasks.run, TINY, tmp_path / "run", None, 0, folder=tmp_path))
    assert resumed["model"] == first["model"] and resumed["warnings"] == []
    assert lines_of(tmp_path / "run") == lines_of(straight)
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (straight, tmp_path / "run")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_run_resumes_in_other_numbers_of_processes_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for size, stop_at in ((2, 5), (1, 9), (3, 15), (2, None)):
        outcomes = on_ranks(size, rank_tasks.run, TINY, path, stop_at, 0, folder=tmp_path)
        assert all(bool(each.error) == (stop_at is not None) for each in outcomes), outcomes
    assert outcomes[0].value["warnings"] == []  # as many as at the start
    assert [json.loads(line)["iteration"] for line in lines_of(path).splitlines()] == list(range(1, 25))


@pytest.mark.slow
def test_another_number_of_processes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run"
    on_ranks(2, rank_tasks.run, TINY, path, 5, 0, folder=tmp_path)
    (outcome,) = values(on_ranks(1, rank_tasks.run, TINY, path, None, 0, folder=tmp_path))
    (warning,) = outcome["warnings"]
    assert "started with processes 2, now 1: the bits will differ" in warning


def test_a_run_that_exists_is_refused_once(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "recipe.json").write_text(TINY.model_dump_json())
    (tmp_path / "run" / "run.json").write_text('{"seed": 0}')
    first, second = on_ranks(2, rank_tasks.run, TINY, tmp_path / "run", None, 0, folder=tmp_path)
    assert first.error.startswith("FileExistsError") and second.error.startswith("FailedElsewhere")


class Kills(NamedTuple):
    """Kills after which a whole checkpoint was read, kills inside a save, and kills that lost a save that was done."""

    num_read: int
    num_inside: int
    num_lost: int


def kill_many(folder: Path, num_kills: int, seed: int) -> Kills:
    """Kills one of two processes during saves, and checks the folder after each kill."""
    choose, path, digests, last_done = random.Random(seed), folder / "run", dict[int, str](), 0
    num_read, num_inside, num_lost = 0, 0, 0
    on_ranks(2, rank_tasks.run, ENDLESS, path, 1, 0, folder=folder)
    for number in range(num_kills):
        log = folder / f"log-{number}"
        ranks = Ranks(2, rank_tasks.resumed_slowly, path, log, choose.getrandbits(32), folder=folder)
        while not log.exists() or not log.stat().st_size:
            assert all(child.is_alive() for child in ranks.children), [each.error for each in ranks.outcomes()]
            time.sleep(0.005)
        time.sleep(choose.uniform(0, LONGEST_WAIT))
        killed = choose.randrange(2)
        os.kill(ranks.children[killed].pid, signal.SIGKILL)
        outcomes = ranks.outcomes()
        assert outcomes[killed].exit_code == -9
        assert outcomes[1 - killed].error.startswith("LostProcess: "), outcomes[1 - killed].error
        begun, done = reported(log.read_text())
        digests |= begun
        num_inside += len(begun) > len(done)
        last_done = max([last_done, *done])
        loaded = checkpoint.newest(path / "checkpoints")
        newest = loaded.checkpoint
        assert newest is not None and loaded.damaged == ()
        num_lost += newest.iteration < last_done
        assert newest.iteration <= max(digests) and len(newest.parts) == 2
        assert newest.iteration == 1 or digest_of(newest) == digests[newest.iteration]
        metrics = (path / "metrics.jsonl").read_bytes()[: newest.plain["metrics_bytes"]]
        parsed = [json.loads(line) for line in metrics.splitlines()]
        assert [line["iteration"] for line in parsed if "event" not in line] == list(range(1, newest.iteration + 1))
        num_read += 1
    return Kills(num_read, num_inside, num_lost)


@pytest.mark.slow
def test_three_kills_of_a_process_lose_at_most_the_save_they_hit(tmp_path: Path) -> None:
    kills = kill_many(tmp_path, 3, seed=0)
    assert kills.num_read == 3 and kills.num_lost == 0


@pytest.mark.soak
def test_100_kills_of_a_process_lose_at_most_the_save_they_hit(tmp_path: Path) -> None:
    kills = kill_many(tmp_path, 100, seed=1)
    assert kills.num_read == 100 and kills.num_lost == 0 and kills.num_inside >= 10
