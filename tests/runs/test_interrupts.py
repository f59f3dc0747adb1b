"""Specification of Ctrl-C and SIGTERM: the step is finished, the state is saved, and how to go on is said.

The command runs in processes of its own and gets true signals.
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

from jointebm.storage import checkpoint
from jointebm.cli import main
from jointebm.data import Toy
from jointebm.runs.interrupts import Terminated, held_back
from jointebm.recipes.registry import find
from jointebm.recipes import override
from jointebm.runs.training_run import initial_model, resume, train

TRAIN = (
    *(
        "train",
        "toy",
        "--seed",
        "3",
        "--set",
        "num_iterations=400",
        "--set",
        "batch_size=16",
        "--set",
        "buffer_size=32",
    ),
    *("--set", "num_steps=2", "--set", "hidden=[8]", "--set", "num_test_chains=1", "--set", "num_test_steps=1"),
    *("--set", "log_every=1", "--set", "checkpoint_every=100"),
)
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
    """The run that nobody interrupted, in this process."""
    recipe = override(find("toy"), [word for word in TRAIN if "=" in word])
    with one_thread():
        return train(recipe, tmp_path_factory.mktemp("whole") / "run", seed=3).path


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as the processes have: the bits depend on it."""
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


def test_a_signal_in_training_finishes_the_step_and_saves_and_resume_gives_the_same_model(
    tmp_path: Path, whole: Path
) -> None:
    """Ctrl-C, and SIGTERM in the session that resumes; each comes twice, the second in the midst of saving."""
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
        assert err.splitlines()[-1] == (
            f"jointebm: interrupted after {num} of 400 iterations; resume with: jointebm train --resume run --threads 1"
        )
        assert list((tmp_path / "run").glob(".*")) == []
    with one_thread():
        resume(tmp_path / "run")
    assert weights(tmp_path / "run") == weights(whole)


def test_a_signal_in_the_evaluation_after_training_leaves_the_model_and_says_so(tmp_path: Path, whole: Path) -> None:
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
    assert process.returncode == 143 and err.splitlines()[-1] == (
        "jointebm: interrupted during the evaluation; run/model is complete; evaluate it with: jointebm evaluate run"
    )
    assert weights(tmp_path / "run") == weights(whole)


def test_signals_while_the_model_is_written_wait_until_it_is_there(tmp_path: Path, whole: Path) -> None:
    script = """
import os, signal, sys, jointebm.inference.model as module
from jointebm.cli import main
save = module.save_file
def slow(*arguments):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    save(*arguments)
module.save_file = slow
sys.exit(main())
"""
    process = begin(tmp_path, *TRAIN, "--out", "run", script=script)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.splitlines()[-1] == (
        "jointebm: interrupted after 400 of 400 iterations; run/model is complete; evaluate it with: jointebm evaluate run"
    )
    assert weights(tmp_path / "run") == weights(whole)


def test_a_signal_before_anything_is_written_says_so(tmp_path: Path) -> None:
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


def test_a_signal_in_sampling_keeps_the_chains_and_resume_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, and SIGTERM in the session that resumes; each comes twice."""
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
        assert (
            process.returncode == code
            and least < num < 900
            and err.splitlines()[-1]
            == (
                f"jointebm: interrupted after {num} of 900 steps; resume with: jointebm sample --resume s.chains --threads 1"
            )
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "s.chains"]
    assert run("sample", "--resume", "s.chains") == 0
    assert run(*ask, "--out", "whole.npz") == 0
    for ending in ("npz", "png"):
        assert Path(f"s.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes()
    assert not Path("s.chains").exists()


def num_steps() -> int:
    return max((int(path.name) for path in Path("s.chains").glob("0*") if path.name.isdigit()), default=0)


# What goes wrong in training.


def test_a_disk_that_is_full_while_training_is_one_line_with_the_path_and_leaves_what_was_there(tmp_path: Path) -> None:
    """The largest file may have so many bytes: metrics, checkpoints and model meet the limit at different times."""
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


def test_a_run_whose_folder_is_removed_ends_and_does_not_make_it_again(tmp_path: Path) -> None:
    recipe = override(find("toy"), [*(word for word in TRAIN if "=" in word), "checkpoint_every=5"])
    with pytest.raises(FileNotFoundError, match="run/checkpoints"):
        train(
            recipe, tmp_path / "run", on_metrics=lambda m: shutil.rmtree(tmp_path / "run") if m.iteration == 7 else None
        )
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_said_on_standard_error_and_the_one_before_it_is_used(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    newest = tmp_path / "run" / "checkpoints" / "000000300"
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[99] ^= 4
    (newest / "state.safetensors").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert run("train", "--resume", "run", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["run"] == "run"
    assert err == (
        "jointebm: run/checkpoints/000000300/state.safetensors: damaged: it does not have the SHA-256 in the manifest; "
        "going on from the checkpoint before it\n"
    )
    assert weights(tmp_path / "run") == weights(whole)


# What holds them back.


def test_signals_are_held_back_until_they_are_looked_at() -> None:
    seen = []
    with pytest.raises(Terminated), held_back() as pending:  # noqa: PT012  # it must be raised by `check`
        pending.check()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        seen.append("both")
        pending.check()
    assert seen == ["both"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_nobody_looked_at_is_raised_at_the_end_of_the_block() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        seen.append("to the end")
    assert seen == ["to the end"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_error_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="the error"), held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the error")


def test_in_another_thread_nothing_is_held_back_and_nothing_breaks() -> None:
    seen = []

    def work() -> None:
        with held_back() as pending:
            pending.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
