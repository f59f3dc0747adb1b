"""SHA-256 of files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["digest_of_files", "file_digest"]


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(paths: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the digests of several in their order."""
    digests = [file_digest(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
