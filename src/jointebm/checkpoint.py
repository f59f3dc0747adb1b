"""Checkpoints: the state of a run on disk, whole and verified or not at all.

    FOLDER/000001000/state.safetensors    every tensor
    FOLDER/000001000/manifest.json        plain state, and the size and SHA-256 of the tensors' file
    FOLDER/000001000/manifest.sha256      SHA-256 of the manifest

A checkpoint is written to a hidden folder, flushed to the disk, and renamed; what a killed process leaves behind is swept
away by the next one. Reading verifies every byte, and goes on to the checkpoint before if anything differs.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

__all__ = ["Checkpoint", "Loaded", "lock", "newest", "write"]

FORMAT = 1
SCRATCH = ".writing-"


class Checkpoint(NamedTuple):
    """Everything that a run needs to go on.

    Args:
        iteration: updates done.
        tensors: by name.
        plain: what is not a tensor, as JSON data.
    """

    iteration: int
    tensors: dict[str, Tensor]
    plain: dict[str, Any]


class Loaded(NamedTuple):
    """The newest checkpoint that is intact, and what was wrong with newer ones.

    Args:
        checkpoint: None if there is no intact one.
        damaged: one line per checkpoint that was passed over.
    """

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint and then removes all but the newest `keep`.

    Whatever happens on the way (a full disk, a killed process), older checkpoints stay as they are.

    Args:
        folder: holds the checkpoints of one run; made if need be.
        checkpoint: what to write; it takes the place of those of the same iteration and later.
        keep: number of checkpoints to keep, >= 1.

    Raises:
        OSError: the disk is full, or the folder is read-only or gone.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> for iteration in (1, 2, 3):
        ...     _ = write(folder, Checkpoint(iteration, {"x": torch.ones(2)}, {}), keep=2)
        >>> sorted(path.name for path in folder.iterdir())
        ['000000002', '000000003']
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    path = folder / f"{checkpoint.iteration:09d}"
    scratch = folder / f"{SCRATCH}{path.name}"
    scratch.mkdir()
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        content = save(tensors)
        manifest = {
            "format": FORMAT,
            "iteration": checkpoint.iteration,
            "files": {"state.safetensors": {"bytes": len(content), "sha256": _digest(content)}},
            "plain": checkpoint.plain,
        }
        text = (json.dumps(manifest, indent=1) + "\n").encode()
        _write_flushed(scratch / "state.safetensors", content)
        _write_flushed(scratch / "manifest.json", text)
        _write_flushed(scratch / "manifest.sha256", (_digest(text) + "\n").encode())
        _flush_folder(scratch)
        for later in _listed(folder):
            if int(later.name) >= checkpoint.iteration:  # damaged, or the run would not be back before it
                shutil.rmtree(later)
        scratch.rename(path)
        _flush_folder(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    for old in _listed(folder)[keep:]:
        shutil.rmtree(old)
    return path


def newest(folder: Path) -> Loaded:
    """Reads the newest checkpoint of which every byte is as it was written.

    Args:
        folder: holds the checkpoints of one run; need not exist.
    """
    damaged: list[str] = []
    for path in _listed(folder) if folder.is_dir() else []:
        try:
            return Loaded(_read(path), tuple(damaged))
        except (OSError, ValueError) as error:
            damaged.append(str(error))
    return Loaded(None, tuple(damaged))


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file while the block runs, so that a run has one writer at a time.

    The lock belongs to the process and is gone with it, however it ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{path.parent}: another process is training this run; wait for it or end it"
            ) from None
        yield


def _read(path: Path) -> Checkpoint:
    """Reads one checkpoint; raises ValueError if it is not intact."""
    text = (path / "manifest.json").read_bytes()
    if (path / "manifest.sha256").read_bytes() != (_digest(text) + "\n").encode():
        raise ValueError(f"{path / 'manifest.json'}: damaged: it does not have the SHA-256 in manifest.sha256")
    manifest = json.loads(text)
    if manifest["format"] != FORMAT:
        raise ValueError(f"{path / 'manifest.json'}: format {manifest['format']}; this version reads format {FORMAT}")
    for name, expected in manifest["files"].items():
        size = (path / name).stat().st_size
        if size != expected["bytes"]:
            raise ValueError(f"{path / name}: damaged: {size} bytes, expected {expected['bytes']}")
        content = (path / name).read_bytes()
        if _digest(content) != expected["sha256"]:
            raise ValueError(f"{path / name}: damaged: it does not have the SHA-256 in the manifest")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{path / name}: {error}") from None
    return Checkpoint(manifest["iteration"], tensors, manifest["plain"])


def _listed(folder: Path) -> list[Path]:
    """Finished checkpoints, the newest first."""
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left half-written."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path)


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
