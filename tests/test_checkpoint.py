"""Checkpoints: whole and verified, or not at all."""

from pathlib import Path

import pytest
import torch

from jointebm import checkpoint
from jointebm.checkpoint import Checkpoint


def make(iteration: int) -> Checkpoint:
    tensors = {"x": torch.full((50,), float(iteration)), "bytes": torch.arange(10, dtype=torch.uint8)}
    return Checkpoint(iteration, tensors, {"rate": 0.1 + 0.2, "names": ["a"]})


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(7), keep=1)
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert read.iteration == 7
    assert read.plain == {"rate": 0.1 + 0.2, "names": ["a"]}
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in make(7).tensors.items())


def test_the_newest_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for iteration in (5, 20, 100):
        checkpoint.write(tmp_path, make(iteration), keep=2)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [20, 100]
    read = checkpoint.newest(tmp_path).checkpoint
    assert read is not None
    assert read.iteration == 100


def test_no_folder_or_an_empty_one_holds_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "missing") == checkpoint.newest(tmp_path) == (None, ())


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json", "manifest.sha256"])
def test_every_flipped_bit_is_found_and_the_checkpoint_before_is_used(name: str, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(1), keep=2)
    file = checkpoint.write(tmp_path, make(2), keep=2) / name
    intact = file.read_bytes()
    for position in range(0, len(intact), 7):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << (position % 8)
        file.write_bytes(flipped)
        loaded = checkpoint.newest(tmp_path)
        assert loaded.checkpoint is not None
        assert loaded.checkpoint.iteration == 1
        assert len(loaded.damaged) == 1
        assert "000000002" in loaded.damaged[0]
    file.write_bytes(intact)
    assert checkpoint.newest(tmp_path).damaged == ()


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json", "manifest.sha256"])
def test_every_truncation_and_a_missing_file_are_found(name: str, tmp_path: Path) -> None:
    checkpoint.write(tmp_path, make(1), keep=2)
    file = checkpoint.write(tmp_path, make(2), keep=2) / name
    intact = file.read_bytes()
    for length in range(0, len(intact), 11):
        file.write_bytes(intact[:length])
        loaded = checkpoint.newest(tmp_path)
        assert loaded.checkpoint is not None
        assert loaded.checkpoint.iteration == 1
    file.unlink()
    loaded = checkpoint.newest(tmp_path)
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.iteration == 1


def test_a_failing_write_leaves_earlier_checkpoints_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write(tmp_path, make(1), keep=1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tmp_path, make(2), keep=1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]


def test_what_a_killed_process_left_half_written_is_swept_and_never_read(tmp_path: Path) -> None:
    torn = tmp_path / ".writing-000000009"
    torn.mkdir()
    (torn / "state.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path).checkpoint is None
    checkpoint.write(tmp_path, make(1), keep=1)
    assert not torn.exists()


def test_a_run_has_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        checkpoint.lock(tmp_path / "lock"),
        pytest.raises(BlockingIOError, match="another process is training this run"),
        checkpoint.lock(tmp_path / "lock"),
    ):
        pass
    with checkpoint.lock(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
