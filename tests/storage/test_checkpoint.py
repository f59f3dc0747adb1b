"""Checkpoints: whole and verified, or not at all."""

import errno
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from jointebm.storage import checkpoint
from jointebm.storage.atomic import lock
from jointebm.storage.checkpoint import Checkpoint
from support.failing_disk import fails_after


def make(iteration: int, num_parts: int = 0) -> Checkpoint:
    tensors = {"x": torch.full((3,), float(iteration)), "bytes": torch.arange(10, dtype=torch.uint8)}
    parts = tuple({"own": torch.full((2,), 10.0 * part + iteration)} for part in range(num_parts))
    return Checkpoint(iteration, tensors, {"rate": 0.1 + 0.2, "names": ["a"]}, parts)


def test_a_checkpoint_is_read_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(7), keep=1)
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert read.iteration == 7
    assert read.plain == {"rate": 0.1 + 0.2, "names": ["a"]}
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in make(7).tensors.items())


def test_the_parts_of_several_processes_are_read_in_their_order(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(7, 11), keep=1)
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert [part["own"].tolist() for part in read.parts] == [2 * [10.0 * part + 7] for part in range(11)]
    assert read.tensors.keys() == make(7).tensors.keys()


def test_the_newest_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for iteration in (5, 20, 100):
        checkpoint.write(tmp_path, make(iteration), keep=2)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [20, 100]
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert read.iteration == 100


def test_no_folder_or_an_empty_one_holds_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "missing") == checkpoint.newest(tmp_path) == (None, ())


FILES = ["state.safetensors", "rank-0.safetensors", "rank-1.safetensors", "manifest.json", "manifest.sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_at_any_byte_is_found(name: str, tmp_path: Path) -> None:
    """One random bit of every byte; the checkpoint before is used."""
    choose = random.Random(name)
    checkpoint.write(tmp_path, make(1), keep=2)
    file = checkpoint.write(tmp_path, make(2, 2), keep=2) / name
    intact = file.read_bytes()
    for position in range(len(intact)):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << choose.randrange(8)
        file.write_bytes(flipped)
        loaded = checkpoint.newest(tmp_path)
        assert loaded.checkpoint is not None
        assert loaded.checkpoint.iteration == 1
        assert len(loaded.damaged) == 1
        assert "000000002" in loaded.damaged[0] and "\n" not in loaded.damaged[0]
    file.write_bytes(intact)
    assert checkpoint.newest(tmp_path).damaged == ()


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_a_longer_file_and_a_missing_one_are_found(name: str, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(1), keep=2)
    file = checkpoint.write(tmp_path, make(2, 2), keep=2) / name
    intact = file.read_bytes()
    for content in [*(intact[:length] for length in range(len(intact))), intact + b"\0", intact + b"\n", None]:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        loaded = checkpoint.newest(tmp_path)
        assert loaded.checkpoint is not None
        assert loaded.checkpoint.iteration == 1
        assert len(loaded.damaged) == 1 and str(file.parent) in loaded.damaged[0]


GOOD = {"format": 1, "iteration": 2, "files": {"state.safetensors": {"bytes": 8, "sha256": "0"}}, "plain": {}}
MANIFESTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not the manifest of a checkpoint"),
    "a list": (b"[]", "Input should be an object"),
    "deep": (b'{"format": 1, "plain": ' + b"[" * 100_000, "recursion limit"),
    "too long": (b" " * (1 << 22) + b"{}", "does not have the SHA-256"),
    **{
        f"{key}: {wrong!r}": (json.dumps(GOOD | {key: wrong}).encode(), words)
        for key, wrong, words in [
            ("format", 2, "format: Input should be 1"),
            ("iteration", -1, "iteration: "),
            ("iteration", 3, "belongs to iteration 3"),
            ("files", {"../../secret": {"bytes": 8, "sha256": "0"}}, "files: expected state.safetensors"),
            ("files", {"rank-0.safetensors": {"bytes": 8, "sha256": "0"}}, "files: expected state.safetensors"),
            ("files", {"state.safetensors": {"bytes": 9, "sha256": "0"}}, "8 bytes, expected 9"),
            ("files", {"state.safetensors": {"bytes": 8, "sha256": "0"}}, "SHA-256 in the manifest"),
            ("plain", [], "plain: "),
        ]
    },
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_wrong_manifest_with_the_right_checksum_is_damage_in_one_line(case: str, tmp_path: Path) -> None:
    text, words = MANIFESTS[case]
    checkpoint.write(tmp_path, make(1), keep=2)
    folder = checkpoint.write(tmp_path, make(2), keep=2)
    (folder / "state.safetensors").write_bytes(bytes(8))
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")
    loaded = checkpoint.newest(tmp_path)
    assert loaded.checkpoint is not None and loaded.checkpoint.iteration == 1
    (line,) = loaded.damaged
    assert "\n" not in line and len(line) < 400 and "000000002" in line and words in line, line


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "endless device"])
def test_a_folder_pipe_or_device_in_place_of_a_file_is_damage(name: str, kind: str, tmp_path: Path) -> None:
    file = checkpoint.write(tmp_path, make(2, 2), keep=2) / name
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    loaded = checkpoint.newest(tmp_path)
    assert loaded.checkpoint is None and f"{name}: damaged: no such file" in loaded.damaged[0]


def test_a_manifest_too_long_or_infinite_is_not_written(tmp_path: Path) -> None:
    for plain, words in (({"a": "x" * (1 << 22)}, "at most 4194304 can be read again"), ({"a": math.inf}, "inf")):
        with pytest.raises(ValueError, match=words):
            checkpoint.write(tmp_path, Checkpoint(1, {"x": torch.ones(1)}, plain), keep=1)
    assert list(tmp_path.iterdir()) == []


def test_tensors_that_share_memory_are_each_written_whole(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    checkpoint.write(
        tmp_path, Checkpoint(1, {"x": x, "same": x, "part": x[2:], "matrix": x.reshape(2, 3).T}, {}), keep=1
    )
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert torch.equal(read.tensors["same"], x) and torch.equal(read.tensors["part"], x[2:])
    assert torch.equal(read.tensors["matrix"], x.reshape(2, 3).T)


# Writes that fail: at every call to the operating system, one after the other.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("again", [False, True])
def test_a_write_that_fails_at_any_call_leaves_the_last_checkpoint_to_be_read(
    again: bool, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`again`: the failing write replaces a checkpoint of the same iteration."""
    for num_passing in range(100):
        folder = tmp_path / f"{num_passing}"
        checkpoint.write(folder, make(1), keep=1)
        new = make(1 if again else 2)._replace(plain={"new": True})
        failed = fails_after(num_passing, partial(checkpoint.write, folder, new, keep=1), monkeypatch, number)
        loaded = checkpoint.newest(folder)
        assert loaded.checkpoint is not None and loaded.damaged == ()
        if not failed:
            assert loaded.checkpoint.plain == {"new": True} and num_passing > 8
            return
    pytest.fail("never got through")


def test_a_disk_that_fills_up_is_named_with_the_file_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A true limit of the operating system, in a process of its own."""
    folder = tmp_path / "run"
    checkpoint.write(folder, make(1), keep=1)
    script = """
import resource, signal, sys
from pathlib import Path
import torch
from jointebm.storage import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 1, 40, 300, 500):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoint.write(Path(sys.argv[1]), checkpoint.Checkpoint(2, {"x": torch.ones(500)}, {}), keep=1)
    except OSError as error:
        print(error.filename, error.strerror, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert done.stdout == 5 * f"{folder / '.writing-000000002' / 'state.safetensors'} File too large\n"
    assert [path.name for path in folder.iterdir()] == ["000000001"]


def test_the_folder_is_made_but_its_parents_are_not(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "run", make(1), keep=1)
    shutil.rmtree(tmp_path / "run")
    checkpoint.write(tmp_path / "run", make(2), keep=1)
    with pytest.raises(FileNotFoundError, match="run/checkpoints"):
        checkpoint.write(tmp_path / "gone" / "run/checkpoints", make(2), keep=1)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        checkpoint.write(tmp_path / "file", make(2), keep=1)


# After a killed process.


def test_a_checkpoint_replaces_those_of_its_iteration_and_later(tmp_path: Path) -> None:
    """A run that was rolled back reaches the same iteration again."""
    for iteration in (10, 20, 30):
        checkpoint.write(tmp_path, make(iteration), keep=9)
    checkpoint.write(tmp_path, make(20)._replace(plain={"second": True}), keep=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010", "000000020"]
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None and read.plain == {"second": True}


def test_a_checkpoint_set_aside_is_read_until_another_replaces_it(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(5), keep=1).rename(tmp_path / "000000005.old")
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None and read.iteration == 5
    checkpoint.write(tmp_path, make(5)._replace(plain={"second": True}), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["000000005"]
    shutil.copytree(tmp_path / "000000005", tmp_path / "000000005.old")
    checkpoint.write(tmp_path, make(6), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000005", "000000006"]


def test_a_half_written_checkpoint_is_never_read_and_is_swept(tmp_path: Path) -> None:
    torn = tmp_path / ".writing-000000009"
    torn.mkdir()
    (torn / "state.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path).checkpoint is None
    checkpoint.write(tmp_path, make(1), keep=1)
    assert not torn.exists()


def test_of_two_checkpoints_left_by_a_kill_between_renames_the_newer_is_read(tmp_path: Path) -> None:
    """The replacement has its name, and the one it replaced is still set aside."""
    old = checkpoint.write(tmp_path, make(5)._replace(plain={"age": "old"}), keep=1)
    shutil.copytree(old, tmp_path / "aside")
    checkpoint.write(tmp_path, make(5)._replace(plain={"age": "new"}), keep=1)
    (tmp_path / "aside").rename(tmp_path / "000000005.old")
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None and read.plain == {"age": "new"}


def test_a_run_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        lock(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="another process is at work on this run"),
        lock(tmp_path / "lock"),
    ):
        pass
    with lock(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
