"""Files and folders that appear whole or not at all.

Everything is written under a hidden name in the folder it belongs to, flushed to the disk, and renamed. No other module
renames or flushes. Modes follow the umask, as those of `open` and `mkdir` do: 0644 and 0755 under the usual 022.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

__all__ = [
    *("SET_ASIDE", "append", "check_new", "flush", "flush_folder", "lock", "make_folder", "new_file", "new_folder"),
    *("remove_folder", "replace_file", "replace_folder", "sweep_folder", "write_file"),
]

SCRATCH = ".writing-"
SET_ASIDE = ".old"


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file while the block runs, so that a run has one writer; the lock ends with the process."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{path.parent}: another process is at work on this run; wait for it or end it"
            ) from None
        yield


def check_new(path: Path, *endings: str) -> None:
    """Raises unless a file or folder with an allowed ending can be made; called before long work, so that none is lost."""
    if endings and path.suffix not in endings:
        raise ValueError(f"{path}: ends in {path.suffix or 'nothing'!r}, expected {' or '.join(endings)}")
    if path.exists():
        raise FileExistsError(f"{path}: exists; choose another name or remove it")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise NotADirectoryError(f"{path}: nothing can be written in {parent}; choose another place")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that gets its name when the block ends, and vanishes if it raises."""
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        with scratch.open("xb") as file:
            yield file
            flush(file)
        check_new(path)
        scratch.rename(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder to write files into, which gets its name when the block ends, and vanishes if it raises."""
    if path.exists():
        raise FileExistsError(f"{path}: exists; choose another folder or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    scratch.mkdir()
    try:
        yield scratch
        _flush_files(scratch)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    flush_folder(path.parent)


def make_folder(path: Path) -> None:
    """Makes an empty folder, whose parent must exist, and waits until the disk knows its name."""
    path.mkdir()
    flush_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file in place of another; at every moment the old or the new one is there, whole."""
    scratch = path.with_name(f"{SCRATCH}{path.name}")
    scratch.unlink(missing_ok=True)
    try:
        with scratch.open("xb", buffering=0) as file:
            append(file, content)
            flush(file)
        scratch.rename(path)
        flush_folder(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """A scratch folder to write files into, which takes the place of the folder `path`, if there is one.

    The old folder is first set aside as NAME.old, and stays there: a reader finds it between the two renames, and the
    caller removes it. `sweep_folder` removes what a killed process left.
    """
    aside = path.with_name(f"{path.name}{SET_ASIDE}")
    scratch = path.with_name(f"{SCRATCH}{path.name}")
    scratch.mkdir()
    try:
        yield scratch
        _flush_files(scratch)
        if path.exists():
            path.rename(aside)
        scratch.rename(path)
        flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def remove_folder(path: Path) -> None:
    """Removes a folder; it is never visible in part."""
    scratch = path.with_name(f"{SCRATCH}{path.name}-removed")
    path.rename(scratch)
    shutil.rmtree(scratch)


def sweep_folder(folder: Path) -> None:
    """Removes what killed processes left half-written, half-removed, or set aside."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path)
    for path in folder.glob(f"*{SET_ASIDE}"):
        if path.with_suffix("").exists():
            remove_folder(path)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that must not exist, inside a scratch folder; an error names the file."""
    with path.open("xb", buffering=0) as file:
        append(file, content)


def append(file: FileIO, content: bytes) -> None:
    """Writes all of `content` to an unbuffered file; an error names the file."""
    rest = memoryview(content)
    with _naming(file):
        while rest:
            rest = rest[file.write(rest) :]


def flush(file: BinaryIO | FileIO) -> None:
    """Waits until the disk holds what was written to a file; an error names the file."""
    with _naming(file):
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Waits until the disk holds the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _flush_files(folder: Path) -> None:
    """Waits until the disk holds a folder and its files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            flush(file)
    flush_folder(folder)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


@contextmanager
def _naming(file: BinaryIO | FileIO) -> Iterator[None]:
    """Adds the name of the file to an error that writing raises without it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file.name)
        raise
