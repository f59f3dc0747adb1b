"""Files that are read more than once must be the same each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Stamp", "stamp_of", "unchanged"]

Stamp = tuple[int, int, int]  # inode, size and time of the last change


def stamp_of(path: Path) -> Stamp:
    """What tells one state of a file from the next."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def unchanged(path: Path, stamp: Stamp) -> Iterator[None]:
    """A block that reads a file which had this stamp.

    Not guaranteed: a change that keeps size and time is not noticed.

    Raises:
        ValueError: the file is another one before or after the block.
    """
    _require(path, stamp)
    try:
        yield
    except ValueError:  # what readers raise of a damaged file; one that changes looks like it
        _require(path, stamp)
        raise
    _require(path, stamp)


def _require(path: Path, stamp: Stamp) -> None:
    if stamp_of(path) != stamp:
        raise ValueError(
            f"{path}: was changed while it was read, and a table is read more than once; start again when it is complete"
        )
