"""Files and folders that appear whole or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_new", "flush_folder", "lock", "naming", "new_file", "new_folder", "write_flushed"]


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
                f"{path.parent}: another process is at work on this run; wait for it or end it"
            ) from None
        yield


def write_flushed(path: Path, content: bytes) -> None:
    """Writes a file that must not exist, and waits until the disk has it.

    Raises:
        OSError: it cannot be written; names the file.
    """
    with naming(path), path.open("xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Waits until the disk knows the names in a folder."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder to write files into, that gets its name when they are all on the disk, and is gone on any error.

    Args:
        path: the folder to be; those above it are made if need be.

    Raises:
        FileExistsError: there is something of that name.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists; choose another folder or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield scratch
        for file in scratch.iterdir():
            with naming(file), file.open("rb+") as written:
                os.fsync(written.fileno())
        scratch.chmod(0o755)
        flush_folder(scratch)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    flush_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an error of the operating system the name of the file, which writing itself does not know."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_new(path: Path, *endings: str) -> None:
    """Raises unless something may be written there, so that no work is done in vain; nothing is overwritten.

    Args:
        path: the file or folder to be.
        *endings: those that are allowed; none allows all.
    """
    if endings and path.suffix not in endings:
        raise ValueError(f"--out {path}: ends in {path.suffix or 'nothing'!r}, expected {' or '.join(endings)}")
    if path.exists():
        raise FileExistsError(f"{path}: exists; choose another name or remove it")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise NotADirectoryError(f"{path}: nothing can be written in {parent}; choose another place")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that gets its name when it is complete, and leaves nothing behind if it does not come to that."""
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # its content is on the disk before its name is
        os.chmod(scratch, 0o644)
        check_new(path)
        os.rename(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
