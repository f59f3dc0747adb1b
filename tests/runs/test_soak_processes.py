"""Soak: `torchrun` trains for an hour while its processes are killed; nothing is lost and nothing is done twice.

JOINTEBM_SOAK_SECONDS is the duration, 3,600 by default; comparing takes about as long again.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.storage import checkpoint
from support import rank_tasks
from support.ranks import on_ranks
from support.slowed_saves import digest_of
from support.torchrun import torchrun, workers_of

SECONDS = float(os.environ.get("JOINTEBM_SOAK_SECONDS", "3600"))
RECIPE = override(
    find("toy"),
    [
        *("num_iterations=100000000", "batch_size=64", "buffer_size=256", "num_steps=2", "hidden=[16]", "log_every=1"),
        *("checkpoint_every=20", "snapshot_every=50", "learning_rate=1e-4", "decay=constant"),
    ],
)
QUIET = (5.0, 40.0)  # seconds between a start and a kill


@pytest.mark.soak
def test_training_survives_random_kills_and_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    """Random processes are killed, and `torchrun` starts all again; SIGTERM to the launcher stops them at last."""
    choose, path, num_kills = random.Random(0), tmp_path / "run", 0
    on_ranks(2, rank_tasks.run, RECIPE, path, 1, 0, folder=tmp_path)
    deadline = time.monotonic() + SECONDS
    launcher = torchrun("train", "--resume", path, "--threads", 1, max_restarts=100_000)
    while time.monotonic() < deadline:
        time.sleep(min(choose.uniform(*QUIET), max(0.0, deadline - time.monotonic())))
        workers = workers_of(launcher)
        if workers and time.monotonic() < deadline:
            os.kill(choose.choice(workers), signal.SIGKILL)
            num_kills += 1
        assert launcher.poll() is None, launcher.communicate()[1]
    while len(workers_of(launcher)) < 2 or not _writes(path):  # the last start
        time.sleep(0.5)
    launcher.send_signal(signal.SIGTERM)
    _, said = launcher.communicate(timeout=120)
    newest = checkpoint.newest(path / "checkpoints").checkpoint
    assert newest is not None and num_kills > 0, said
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_bytes().splitlines()]
    iterations = [line["iteration"] for line in lines if "event" not in line]
    assert iterations == list(range(1, newest.iteration + 1))

    on_ranks(
        2, rank_tasks.run, RECIPE, tmp_path / "straight", newest.iteration, 0, folder=tmp_path, patience=2 * SECONDS
    )
    straight = checkpoint.newest(tmp_path / "straight" / "checkpoints").checkpoint
    assert straight is not None and straight.iteration == newest.iteration
    assert digest_of(straight) == digest_of(newest)
    print(f"{num_kills} kills, {newest.iteration} iterations")  # noqa: T201  # shown with -s


def _writes(path: Path) -> bool:
    """Whether a line was written within the last second."""
    return time.time() - (path / "metrics.jsonl").stat().st_mtime < 1
