"""Checkpoints: the state of a run on disk, whole and verified or not at all.

    FOLDER/000001000/state.safetensors    every tensor; of a run in several processes those that are equal in all
    FOLDER/000001000/rank-0.safetensors   ... and those of each process, by its rank
    FOLDER/000001000/manifest.json        plain state, and the size and SHA-256 of the tensors' files
    FOLDER/000001000/manifest.sha256      SHA-256 of the manifest

A checkpoint appears whole (`jointebm.storage.atomic`); the next write sweeps what a killed process left. Reading verifies
every byte, and falls back to the checkpoint before if anything differs. A checkpoint that replaces one of the same
iteration first sets that one aside as 000001000.old, so that the last one written can be read at every moment.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from jointebm.storage.atomic import SET_ASIDE, make_folder, remove_folder, replace_folder, sweep_folder, write_file
from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted, read_config
from jointebm.storage.weights import packed

__all__ = ["Checkpoint", "Loaded", "newest", "read", "write"]

_FINISHED = re.compile(rf"[0-9]{{9,18}}({re.escape(SET_ASIDE)})?")
MAX_MANIFEST = 1 << 22  # thousands of interventions; a checkpoint with a longer manifest is neither written nor read
DIGEST_LENGTH = 65  # hexadecimal digits of SHA-256, and the end of the line


class Checkpoint(NamedTuple):
    """Everything that a run needs to resume.

    Args:
        iteration: updates done.
        tensors: by name; of a run in several processes those that are equal in all.
        plain: the rest, as JSON data.
        parts: further tensors of each of several processes, by name; none of a run in one.
    """

    iteration: int
    tensors: dict[str, Tensor]
    plain: dict[str, Any]
    parts: tuple[dict[str, Tensor], ...] = ()


class Loaded(NamedTuple):
    """The newest intact checkpoint, None if none is, and one line for each damaged one that was skipped."""

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...]


class _File(Config):
    bytes: int
    sha256: str


class _Manifest(Config):
    """Content of `manifest.json`."""

    format: Literal[1]
    iteration: Annotated[int, Field(ge=0)]
    files: dict[str, _File]
    plain: dict[str, Any]

    @model_validator(mode="after")
    def _names_of_files(self) -> Self:
        expected = _names(len(self.files) - 1)
        if list(self.files) != expected:
            raise ValueError(f"files: expected {', '.join(expected)}")
        return self


def write(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint and then removes all but the newest `keep`.

    Replaces checkpoints of the same iteration and later. Whatever happens on the way (a full disk, a killed process), the
    last checkpoint written can be read. An OSError names the file.
    """
    if not folder.is_dir():
        make_folder(folder)
    sweep_folder(folder)
    path = folder / f"{checkpoint.iteration:09d}"
    with replace_folder(path) as scratch:
        _fill(scratch, checkpoint)
    others = [other for other in _listed(folder) if other != path]
    older = [other for other in others if _iteration_of(other) < checkpoint.iteration]
    for other in others:
        if other not in older[: keep - 1]:  # damaged, or the run went back before it, or old
            remove_folder(other)
    return path


def newest(folder: Path) -> Loaded:
    """Reads the newest checkpoint in a folder, which may be missing, whose every byte is as it was written."""
    damaged: list[str] = []
    for path in _listed(folder) if folder.is_dir() else []:
        try:
            return Loaded(read(path), tuple(damaged))
        except (OSError, ValueError) as error:
            damaged.append(quoted(error))
    return Loaded(None, tuple(damaged))


def _fill(scratch: Path, checkpoint: Checkpoint) -> None:
    files = {}
    names = _names(len(checkpoint.parts))
    for name, tensors in zip(names, (checkpoint.tensors, *checkpoint.parts), strict=True):
        content = packed(tensors)
        files[name] = {"bytes": len(content), "sha256": _digest(content)}
        write_file(scratch / name, content)
    manifest = {
        "format": 1,
        "iteration": checkpoint.iteration,
        "files": files,
        "plain": checkpoint.plain,
    }
    text = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
    if len(text) > MAX_MANIFEST:
        raise ValueError(
            f"{scratch / 'manifest.json'}: would have {len(text)} bytes, at most {MAX_MANIFEST} can be read again; put what "
            "is large into tensors"
        )
    write_file(scratch / "manifest.json", text)
    write_file(scratch / "manifest.sha256", (_digest(text) + "\n").encode())


def read(path: Path) -> Checkpoint:
    """Reads one checkpoint, such as FOLDER/000001000; a ValueError names a file that is not as it was written."""
    for name in ("manifest.sha256", "manifest.json", "state.safetensors"):
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: damaged: no such file")
    text = _start(path / "manifest.json", MAX_MANIFEST + 1)
    if _start(path / "manifest.sha256", DIGEST_LENGTH + 1) != (_digest(text) + "\n").encode():
        raise ValueError(f"{path / 'manifest.json'}: damaged: it does not have the SHA-256 in manifest.sha256")
    manifest = read_config(path / "manifest.json", "the manifest of a checkpoint", _Manifest, max_bytes=MAX_MANIFEST)
    if manifest.iteration != _iteration_of(path):
        raise ValueError(f"{path / 'manifest.json'}: damaged: belongs to iteration {manifest.iteration}")
    tensors, *parts = (_read_tensors(path / name, file) for name, file in manifest.files.items())
    return Checkpoint(manifest.iteration, tensors, manifest.plain, tuple(parts))


def _read_tensors(file: Path, expected: _File) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"{file}: damaged: no such file")
    size = file.stat().st_size
    if size != expected.bytes:
        raise ValueError(f"{file}: damaged: {size} bytes, expected {expected.bytes}")
    content = file.read_bytes()
    if _digest(content) != expected.sha256:
        raise ValueError(f"{file}: damaged: it does not have the SHA-256 in the manifest")
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged: {error}") from None


def _names(num_parts: int) -> list[str]:
    """The files of tensors of a checkpoint."""
    return ["state.safetensors", *(f"rank-{number}.safetensors" for number in range(num_parts))]


def _start(path: Path, num_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(num_bytes)


def _listed(folder: Path) -> list[Path]:
    """Finished checkpoints, the newest first; one that was set aside comes after the one that replaced it."""
    named = [path for path in folder.iterdir() if _FINISHED.fullmatch(path.name)]
    found = [path for path in named if path.is_dir() and not path.is_symlink()]
    return sorted(found, key=lambda path: (_iteration_of(path), path.suffix != SET_ASIDE), reverse=True)


def _iteration_of(path: Path) -> int:
    return int(path.name.removesuffix(SET_ASIDE))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
