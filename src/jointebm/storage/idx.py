"""Reads IDX files, gzip or plain; what they declare must be there, and nothing else."""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["read_idx"]

GZIP_MAGIC = b"\x1f\x8b"
MAX_IDX_BYTES = 48 << 20  # of a file, and of what it unpacks to; the largest of MNIST has 47,040,016
UNSIGNED_BYTE = 0x08


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, such as MNIST's, as a read-only array; gzip is recognised by its first bytes.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is not IDX, damaged, or larger than 48 MB unpacked; names the file and the reason.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "two-by-two"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]))
        >>> read_idx(path).tolist()
        [[1, 2], [3, 4]]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        content = file.read(MAX_IDX_BYTES + 1)
    if content.startswith(GZIP_MAGIC) and len(content) <= MAX_IDX_BYTES:
        content = _unpacked(path, content)
    if len(content) > MAX_IDX_BYTES:
        raise ValueError(f"{path}: longer than {MAX_IDX_BYTES} bytes; no IDX file that is read here is")
    if len(content) < 4 or content[:2] != b"\0\0" or not 1 <= content[3] <= 4:
        start = content[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: not an IDX file: it starts with {start}, expected 00 00 08 and 1 to 4")
    if content[2] != UNSIGNED_BYTE:
        raise ValueError(f"{path}: IDX of type 0x{content[2]:02x}; only unsigned bytes (0x08) are read")
    start_of_array = 4 + 4 * content[3]
    if len(content) < start_of_array:
        raise ValueError(f"{path}: cut off in the header")
    shape = struct.unpack(f">{content[3]}I", content[4:start_of_array])
    declared, held = math.prod(shape), len(content) - start_of_array
    if declared != held or not held:
        raise ValueError(f"{path}: declares {shape} = {declared} bytes, holds {held}")
    return np.frombuffer(content, dtype=np.uint8, offset=start_of_array).reshape(shape)


def _unpacked(path: Path, packed: bytes) -> bytes:
    """The content of a gzip file, or the first bytes of it that are too many."""
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            return stream.read(MAX_IDX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip stream: {error}") from None
