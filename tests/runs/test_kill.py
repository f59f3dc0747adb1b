"""Specification of kill -9 during a save: the newest checkpoint is intact, and at least as new as the last completed save.

    PYTHONPATH=tests python tests/runs/test_kill.py FOLDER NUM SEED    kills a run NUM times and prints a tally

A child resumes a run that trains and saves in a tight loop, slowed down at random places so that most kills hit a save. It
is a fork of a warm process with one thread, which takes milliseconds instead of the seconds of a new interpreter.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from jointebm import Trainer
from jointebm.data import Toy
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs import training_run as runs
from jointebm.storage import checkpoint
from support.slowed_saves import digest, digest_of, reported, slow_down_saves

RECIPE = override(
    find("toy"),
    [
        *("num_iterations=1000000", "batch_size=4", "buffer_size=8", "hidden=[4]", "num_steps=1", "learning_rate=1e-5"),
        *("checkpoint_every=1", "log_every=1", "keep_checkpoints=2", "snapshot_every=2"),
    ],
)
LONGEST_WAIT = 0.08  # seconds from the start of a child's first save to the kill


class Tally(NamedTuple):
    """A tally of kills.

    Args:
        num_kills: children killed.
        num_inside: killed between start and return of `write`.
        num_scratch: of those, a folder was left half-written or half-removed.
        num_newer: of those, the newest checkpoint came from the `write` that did not return.
        num_saves: completed saves.
        seconds: total time.
    """

    num_kills: int
    num_inside: int
    num_scratch: int
    num_newer: int
    num_saves: int
    seconds: float


def kill_one(path: Path, choose: random.Random) -> tuple[dict[int, str], list[int]]:
    """Forks a child, kills it at a random time after the start of its first save, and returns its report, see `reported`."""
    told, report = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            slow_down_saves(lambda line: os.write(report, line.encode()), choose.getrandbits(32))
            runs.resume(path)
        finally:
            os._exit(1)  # not reached, unless it failed
    os.close(report)
    start = os.read(told, 1 << 16)
    time.sleep(choose.uniform(0, LONGEST_WAIT))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended before the kill"
    with os.fdopen(told, "rb") as file:
        return reported((start + file.read()).decode())


def kill_many(path: Path, num_kills: int, seed: int) -> Tally:
    """Kills a run repeatedly, and checks the folder after each kill."""
    torch.set_num_threads(1)
    started, choose, data = time.perf_counter(), random.Random(seed), Toy()
    model = runs.initial_model(RECIPE, data, seed=0)
    trainer = Trainer(model.energy, data.space, data.batch, kernel=model.kernel, config=RECIPE.train, seed=0)
    path.mkdir()
    (path / "recipe.json").write_text(RECIPE.model_dump_json())
    (path / "run.json").write_text('{"seed": 0}')
    digests: dict[int, str] = {}
    last_done, num_inside, num_scratch, num_newer, num_saves = 0, 0, 0, 0, 0
    for _ in range(num_kills):
        begun, done = kill_one(path, choose)
        digests |= begun
        num_saves += len(done)
        if done:
            last_done = done[-1]
        scratch = [name for name in os.listdir(path / "checkpoints") if not name.isdigit()]
        is_inside = len(begun) > len(done)
        num_inside += is_inside
        num_scratch += bool(scratch)
        assert is_inside or not scratch

        loaded = checkpoint.newest(path / "checkpoints")
        if loaded.checkpoint is None:  # the first save was never completed
            assert last_done == 0 and loaded.damaged == ()
            continue
        newest = loaded.checkpoint
        assert loaded.damaged == (), loaded.damaged
        assert last_done <= newest.iteration <= max(digests), (last_done, newest.iteration)
        assert digest_of(newest) == digests[newest.iteration]
        num_newer += is_inside and newest.iteration == max(begun)
        trainer.restore(newest)
        assert digest(trainer.state().tensors) == digests[newest.iteration] and trainer.iteration == newest.iteration
        metrics = (path / "metrics.jsonl").read_bytes()[: newest.plain["metrics_bytes"]]
        parsed = [json.loads(line) for line in metrics.splitlines()]
        lines = [line["iteration"] for line in parsed if "event" not in line]  # a chain may have been restarted
        assert lines == list(range(1, newest.iteration + 1)) and metrics.endswith(b"\n")
    return Tally(num_kills, num_inside, num_scratch, num_newer, num_saves, round(time.perf_counter() - started, 1))


def check(num_kills: int, seed: int) -> None:
    # In memory if possible: flushing is slow and does not matter when a process is killed.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, "-W", "error", __file__, f"{folder}/run", str(num_kills), str(seed)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}  # finds `support`
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800, env=environment)
    assert done.returncode == 0, done.stderr
    tally = Tally(*json.loads(done.stdout))
    print(tally)  # noqa: T201  # shown with -s
    assert tally.num_kills == num_kills
    assert tally.num_inside >= num_kills / 2, tally
    assert tally.num_scratch >= num_kills / 4, tally
    assert tally.num_newer >= num_kills / 50, tally  # some hit between the rename and the return


@pytest.mark.slow
def test_200_kills_during_saves_lose_at_most_the_save_they_hit() -> None:
    check(200, seed=0)


@pytest.mark.soak
def test_1000_kills_during_saves_lose_at_most_the_save_they_hit() -> None:
    check(1000, seed=1)


if __name__ == "__main__":
    print(json.dumps(kill_many(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201  # read by `check`
