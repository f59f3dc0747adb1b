"""Specification of Ctrl-C and SIGTERM: the step is finished, the state saved, and the command to resume printed.

The command runs in its own process and receives real signals.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from jointebm.cli import main
from jointebm.data import Toy
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.interrupts import Terminated, held_back
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.storage import checkpoint

FIELDS = (
    *("num_iterations=400", "batch_size=16", "buffer_size=32", "num_steps=2", "hidden=[8]", "num_test_chains=1"),
    *("num_test_steps=1", "log_every=1", "checkpoint_every=100"),
)
TRAIN = ("train", "toy", "--seed", "3", *(word for field in FIELDS for word in ("--set", field)))
COMMAND = "import sys; from jointebm.cli import main; sys.exit(main())"


def begin(here: Path, *words: object, script: str = COMMAND) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=here,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(process: "subprocess.Popen[str]", come_true: Callable[[], bool]) -> None:
    while process.poll() is None and not come_true():
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, in this process."""
    recipe = override(find("toy"), FIELDS)
    with one_thread():
        return train(recipe, tmp_path_factory.mktemp("whole") / "run", seed=3).path


@contextmanager
def one_thread() -> Iterator[None]:
    """The number of threads of the processes: the bits depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(*words: object) -> int:
    """The command in this process."""
    with one_thread():
        return main([str(word) for word in words])


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_signal_in_training_saves_and_resume_gives_the_same_model(tmp_path: Path, whole: Path) -> None:
    """Ctrl-C, then SIGTERM in the resumed session; each comes twice, the second during the save."""
    metrics = tmp_path / "run" / "metrics.jsonl"
    sessions = (
        ((*TRAIN, "--out", "run"), signal.SIGINT, 130, 20),
        (("train", "--resume", "run"), signal.SIGTERM, 143, 60),
    )
    for words, number, code, lines in sessions:
        process = begin(tmp_path, *words)
        wait_for(process, lambda lines=lines: num_lines(metrics) > lines)  # type: ignore[misc]
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, ""), err
        newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
        assert newest.checkpoint is not None and newest.damaged == ()
        num = newest.checkpoint.iteration
        assert num == num_lines(metrics) > lines
        last = err.splitlines()[-1]
        assert last.startswith(f"jointebm: interrupted after {num} of 400 iterations; ")
        assert last.endswith(": jointebm train --resume run --threads 1")
        assert list((tmp_path / "run").glob(".*")) == []
    with one_thread():
        resume(tmp_path / "run")
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.slow
def test_a_signal_in_the_evaluation_after_training_keeps_the_model(tmp_path: Path, whole: Path) -> None:
    script = """
import sys, jointebm.cli.blocks.evaluate as module
from jointebm.cli import main
module.evaluate_model = lambda *_, **__: [print("evaluates", flush=True), __import__("time").sleep(60)]
sys.exit(main())
"""
    process = begin(tmp_path, *TRAIN, "--out", "run", script=script)
    assert process.stdout is not None and process.stdout.readline() == "evaluates\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert process.returncode == 143 and last.startswith(
        "jointebm: interrupted during the evaluation; run/model is complete"
    )
    assert last.endswith(": jointebm evaluate run")
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.slow
def test_signals_during_the_write_of_the_model_wait_for_it(tmp_path: Path, whole: Path) -> None:
    script = """
import os, signal, sys
from jointebm import Model
from jointebm.cli import main
save = Model.save
def slow(*arguments, **options):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    save(*arguments, **options)
Model.save = slow
sys.exit(main())
"""
    process = begin(tmp_path, *TRAIN, "--out", "run", script=script)
    _, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert process.returncode == 143 and last.startswith(
        "jointebm: interrupted after 400 of 400 iterations; run/model is "
    )
    assert last.endswith(": jointebm evaluate run")
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.slow
def test_a_signal_before_anything_is_written_is_reported(tmp_path: Path) -> None:
    script = """
import os, signal, sys, jointebm.runs.training_run as module
from jointebm.cli import main
module.open_dataset = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(main())
"""
    process = begin(tmp_path, *TRAIN, "--out", "run", script=script)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        143,
        "jointebm: interrupted after 0 of 400 iterations; nothing has been written\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_signal_in_sampling_saves_and_resume_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, then SIGTERM in the resumed session; each comes twice."""
    monkeypatch.chdir(tmp_path)
    initial_model(override(find("toy"), ["hidden=[8]"]), Toy(), seed=1).save("model")
    ask = ("sample", "model", "--num", 50, "--steps", 900, "--given", "left=1", "--thin", 100)
    sessions = (
        ((*ask, "--out", "s.npz"), signal.SIGINT, 130, 20),
        (("sample", "--resume", "s.chains"), signal.SIGTERM, 143, 60),
    )
    for words, number, code, least in sessions:
        process = begin(tmp_path, *words, "--json", "--checkpoint-every", 5)
        wait_for(process, lambda least=least: num_steps() > least)  # type: ignore[misc]
        process.send_signal(number)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        num = json.loads(out)["num_steps"]
        last = err.splitlines()[-1]
        assert process.returncode == code and least < num < 900 and num_steps() == num
        assert last.startswith(f"jointebm: interrupted after {num} of 900 steps; ")
        assert last.endswith(": jointebm sample --resume s.chains --threads 1")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "s.chains"]
    assert run("sample", "--resume", "s.chains") == 0
    assert run(*ask, "--out", "whole.npz") == 0
    for ending in ("npz", "png"):
        assert Path(f"s.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes()
    assert not Path("s.chains").exists()


def num_steps() -> int:
    return max((int(path.name) for path in Path("s.chains").glob("0*") if path.name.isdigit()), default=0)


# Failures in training.


@pytest.mark.slow
def test_a_full_disk_in_training_is_one_line_with_the_path(tmp_path: Path) -> None:
    """A limit on the size of files, which metrics, checkpoints and model reach at different times."""
    script = """
import resource, signal, sys
from jointebm.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
codes = []
for name, limit, every in (("metrics", 9000, 0), ("checkpoint", 4000, 5), ("model", 4000, 0)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    num = 5 if name == "model" else 400
    log = f"log_every={400 if name == 'model' else 1}"
    width = f"hidden=[{500 if name == 'model' else 8}]"
    assignments = (width, f"checkpoint_every={every}", f"num_iterations={num}", log)
    words = [*sys.argv[1:], *(word for each in assignments for word in ("--set", each))]
    codes.append(main([*words, "--out", name]))
print(codes)
"""
    out, err = begin(tmp_path, *TRAIN, script=script).communicate(timeout=60)
    assert out == "[2, 2, 2]\n", err
    metrics, written, model = err.splitlines()
    assert metrics == "jointebm: error: metrics/metrics.jsonl: File too large"
    assert written.startswith("jointebm: error: checkpoint/checkpoints/.writing-") and written.endswith(
        "File too large"
    )
    assert model.startswith("jointebm: error: model/") and "too large" in model.lower()
    for name in ("metrics", "checkpoint", "model"):
        assert not (tmp_path / name / "model").exists() and not list((tmp_path / name).glob(".*"))
        assert not list((tmp_path / name / "checkpoints").glob(".*"))


def test_a_run_whose_folder_is_removed_ends(tmp_path: Path) -> None:
    recipe = override(find("toy"), [*FIELDS, "checkpoint_every=5"])
    with pytest.raises(FileNotFoundError, match="run/checkpoints"):
        train(
            recipe, tmp_path / "run", on_metrics=lambda m: shutil.rmtree(tmp_path / "run") if m.iteration == 7 else None
        )
    assert list(tmp_path.iterdir()) == []


# Holding signals back.


def test_signals_are_held_back_until_checked() -> None:
    seen = []
    with pytest.raises(Terminated), held_back() as pending:  # noqa: PT012  # it must be raised by `check`
        pending.check()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        seen.append("both")
        pending.check()
    assert seen == ["both"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_unchecked_signal_is_raised_at_the_end_of_the_block() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        seen.append("to the end")
    assert seen == ["to the end"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_block_within_another_shares_its_signals() -> None:
    """Noted before the inner block, raised in it, and not again at the end of the outer one."""
    seen = []
    with held_back():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated), held_back() as inner:
            inner.check()
        seen.append("after the inner block")
    assert seen == ["after the inner block"]


def test_an_error_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="the error"), held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the error")


def test_another_thread_holds_nothing_back() -> None:
    seen = []

    def work() -> None:
        with held_back() as pending:
            pending.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
