"""Reads IDX files, gzip or plain, and believes nothing that they declare before it is checked."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

__all__ = ["read_idx"]

GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032  # no gzip stream unpacks to more than this many times its size
UNSIGNED_BYTE = 0x08


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, such as MNIST's.

    The header is checked against the size of the file before anything large is allocated: what it declares must be
    there, and nothing else.

    Args:
        path: the file; gzip is recognised by its first bytes, not by its name.

    Returns:
        The array, of the shape that the header declares.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not what it says, with the file and the reason.

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
    with path.open("rb") as raw:
        compressed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        size = path.stat().st_size * (MAX_DEFLATE_RATIO if compressed else 1)
        try:
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else raw
            return _read(path, stream, size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: broken gzip stream: {error}") from None


def _read(path: Path, stream: BinaryIO, size: int) -> npt.NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        start = magic.hex(" ") or "nothing"
        raise ValueError(f"{path}: not an IDX file: it starts with {start}, expected 00 00 08 and 1 to 4")
    if magic[2] != UNSIGNED_BYTE:
        raise ValueError(f"{path}: IDX of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are read")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path}: cut off in the header")
    shape = struct.unpack(f">{magic[3]}I", header)
    declared = math.prod(shape)
    if declared > size:
        raise ValueError(f"{path}: declares {shape} = {declared} bytes, more than the file can hold")
    content = stream.read(declared)
    if len(content) < declared:
        raise ValueError(f"{path}: cut off: declares {shape} = {declared} bytes, holds {len(content)}")
    if stream.read(1):
        raise ValueError(f"{path}: goes on after the {declared} bytes it declares")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
