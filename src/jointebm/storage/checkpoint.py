"""Checkpoints: the state of a run on disk, whole and verified or not at all.

    FOLDER/000001000/state.safetensors    every tensor
    FOLDER/000001000/manifest.json        plain state, and the size and SHA-256 of the tensors' file
    FOLDER/000001000/manifest.sha256      SHA-256 of the manifest

A checkpoint is written to a hidden folder, flushed to the disk, and renamed; what a killed process leaves behind is swept
away by the next one. Reading verifies every byte, and goes on to the checkpoint before if anything differs. A checkpoint
that takes the place of one of the same iteration first sets that one aside as 000001000.old, so that at every moment the
last one written is there to be read.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from jointebm.storage.atomic import flush_folder, write_flushed
from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted, read_json

__all__ = ["Checkpoint", "Loaded", "newest", "read", "write"]

FORMAT = 1
SCRATCH = ".writing-"
NAME = re.compile(r"([0-9]{9,18})(\.old)?")
MAX_MANIFEST = 1 << 22  # thousands of interventions; a checkpoint with a longer manifest is neither written nor read
DIGEST_LENGTH = 65  # hexadecimal digits of SHA-256, and the end of the line


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


class _File(Config):
    bytes: int
    sha256: str


class _Manifest(Config):
    """What `manifest.json` holds."""

    format: int
    iteration: Annotated[int, Field(ge=0)]
    files: dict[str, _File]
    plain: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint and then removes all but the newest `keep`.

    Whatever happens on the way (a full disk, a killed process), the checkpoint that was written last can be read.

    Args:
        folder: holds the checkpoints of one run; made if need be, but not what it lies in.
        checkpoint: what to write; it takes the place of those of the same iteration and later.
        keep: number of checkpoints to keep, >= 1.

    Raises:
        OSError: the disk is full, or the folder is read-only or gone; names the file.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> for iteration in (1, 2, 3):
        ...     _ = write(folder, Checkpoint(iteration, {"x": torch.ones(2)}, {}), keep=2)
        >>> sorted(path.name for path in folder.iterdir())
        ['000000002', '000000003']
    """
    if not folder.is_dir():
        folder.mkdir()
        flush_folder(folder.parent)
    _sweep(folder)
    path = folder / f"{checkpoint.iteration:09d}"
    scratch = folder / f"{SCRATCH}{path.name}"
    scratch.mkdir()
    try:
        _fill(scratch, checkpoint)
        if path.exists():
            path.rename(_aside(path))
        scratch.rename(path)
        flush_folder(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if _aside(path).exists() and not path.exists():
            _aside(path).rename(path)
        raise
    others = [other for other in _listed(folder) if other != path]
    older = [other for other in others if _iteration_of(other) < checkpoint.iteration]
    for other in others:
        if other not in older[: keep - 1]:  # damaged, or the run went back before it, or old
            _remove(other)
    return path


def newest(folder: Path) -> Loaded:
    """Reads the newest checkpoint of which every byte is as it was written.

    Args:
        folder: holds the checkpoints of one run; need not exist.
    """
    damaged: list[str] = []
    for path in _listed(folder) if folder.is_dir() else []:
        try:
            return Loaded(read(path), tuple(damaged))
        except (OSError, ValueError) as error:
            damaged.append(quoted(error))
    return Loaded(None, tuple(damaged))


def _fill(scratch: Path, checkpoint: Checkpoint) -> None:
    """Writes the three files."""
    content = save(_apart(checkpoint.tensors))
    manifest = {
        "format": FORMAT,
        "iteration": checkpoint.iteration,
        "files": {"state.safetensors": {"bytes": len(content), "sha256": _digest(content)}},
        "plain": checkpoint.plain,
    }
    text = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
    if len(text) > MAX_MANIFEST:
        raise ValueError(
            f"{scratch / 'manifest.json'}: would have {len(text)} bytes, at most {MAX_MANIFEST} can be read again; put what "
            "is large into tensors"
        )
    write_flushed(scratch / "state.safetensors", content)
    write_flushed(scratch / "manifest.json", text)
    write_flushed(scratch / "manifest.sha256", (_digest(text) + "\n").encode())
    flush_folder(scratch)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: contiguous, and none that shares its memory with another."""
    apart: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return apart


def read(path: Path) -> Checkpoint:
    """Reads one checkpoint.

    Args:
        path: its own folder, such as FOLDER/000001000.

    Raises:
        ValueError: a byte is not as it was written, with the file.
        OSError: it cannot be read.
    """
    for name in ("manifest.sha256", "manifest.json", "state.safetensors"):
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: damaged: no such file")
    text = _start(path / "manifest.json", MAX_MANIFEST + 1)
    if _start(path / "manifest.sha256", DIGEST_LENGTH + 1) != (_digest(text) + "\n").encode():
        raise ValueError(f"{path / 'manifest.json'}: damaged: it does not have the SHA-256 in manifest.sha256")
    manifest = _read_manifest(path / "manifest.json")
    if manifest.iteration != _iteration_of(path):
        raise ValueError(f"{path / 'manifest.json'}: damaged: it is that of iteration {manifest.iteration}")
    file, expected = path / "state.safetensors", manifest.files["state.safetensors"]
    size = file.stat().st_size
    if size != expected.bytes:
        raise ValueError(f"{file}: damaged: {size} bytes, expected {expected.bytes}")
    content = file.read_bytes()
    if _digest(content) != expected.sha256:
        raise ValueError(f"{file}: damaged: it does not have the SHA-256 in the manifest")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged: {error}") from None
    return Checkpoint(manifest.iteration, tensors, manifest.plain)


def _read_manifest(path: Path) -> _Manifest:
    parsed = read_json(path, "the manifest of a checkpoint", max_bytes=MAX_MANIFEST)
    if parsed.get("format") != FORMAT:
        raise ValueError(f"{path}: format {quoted(parsed.get('format'))}; this version reads format {FORMAT}")
    try:
        manifest = _Manifest.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ValueError(f"{path}: not the manifest of a checkpoint: {quoted(reason)}") from None
    if list(manifest.files) != ["state.safetensors"]:
        raise ValueError(f"{path}: not the manifest of a checkpoint: files: expected 'state.safetensors' alone")
    return manifest


def _start(path: Path, num_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(num_bytes)


def _listed(folder: Path) -> list[Path]:
    """Finished checkpoints, the newest first; one that was set aside comes after the one that took its place."""
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return sorted(found, key=lambda path: (_iteration_of(path), path.suffix != ".old"), reverse=True)


def _iteration_of(path: Path) -> int:
    return int(path.name.removesuffix(".old"))


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _remove(path: Path) -> None:
    """Removes a checkpoint: at no moment is a part of it to be seen."""
    scratch = path.with_name(f"{SCRATCH}{path.name}-removed")
    path.rename(scratch)
    shutil.rmtree(scratch)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left half-written, half-removed, or aside."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path)
    for path in folder.glob("*.old"):
        if path.with_suffix("").exists():
            _remove(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
