"""Reads IDX files, gzip or plain, and believes nothing that they declare before it is checked."""

import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jointebm.storage.npz import MAX_DEFLATE_RATIO

__all__ = ["read_idx"]

GZIP_MAGIC = b"\x1f\x8b"
GZIP = 16 + zlib.MAX_WBITS  # tells zlib to expect a gzip header, and to verify the checksum at the end

MAX_BYTES = 48 << 20  # of a file, and of what it unpacks to; the largest of MNIST has 47,040,016
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
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: longer than {MAX_BYTES} bytes; no IDX file that is read here is")
    try:
        if content.startswith(GZIP_MAGIC):
            return _read(path, _Gzip(content).read, len(content) * MAX_DEFLATE_RATIO)
        return _read(path, _Plain(content).read, len(content))
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip stream: {error}") from None


def _read(path: Path, read: Callable[[int], bytes], capacity: int) -> npt.NDArray[np.uint8]:
    """Reads an array; `read` gives as many bytes as it is asked for or all that are left, no more than `capacity`."""
    magic = read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        start = magic.hex(" ") or "nothing"
        raise ValueError(f"{path}: not an IDX file: it starts with {start}, expected 00 00 08 and 1 to 4")
    if magic[2] != UNSIGNED_BYTE:
        raise ValueError(f"{path}: IDX of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are read")
    header = read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path}: cut off in the header")
    shape = struct.unpack(f">{magic[3]}I", header)
    declared = math.prod(shape)
    if declared > capacity:
        raise ValueError(f"{path}: declares {shape} = {declared} bytes, more than the file can hold")
    if not 1 <= declared <= MAX_BYTES:
        raise ValueError(f"{path}: declares {shape} = {declared} bytes, expected 1 to {MAX_BYTES}")
    content = read(declared)
    if len(content) < declared:
        raise ValueError(f"{path}: cut off: declares {shape} = {declared} bytes, holds {len(content)}")
    if read(1):
        raise ValueError(f"{path}: goes on after the {declared} bytes it declares")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


class _Plain:
    """Bytes as they are."""

    def __init__(self, content: bytes) -> None:
        self._content, self._position = content, 0

    def read(self, num: int) -> bytes:
        start, self._position = self._position, self._position + num
        return self._content[start : self._position]


class _Gzip:
    """One gzip stream, unpacked no further than it is read: what a bomb would unpack to does not matter."""

    def __init__(self, content: bytes) -> None:
        self._packed, self._stream = content, zlib.decompressobj(GZIP)

    def read(self, num: int) -> bytes:
        content = self._stream.decompress(self._packed, num)
        self._packed = self._stream.unconsumed_tail
        if len(content) < num and not self._stream.eof:
            raise EOFError(f"it ends in the middle, after {len(content)} of {num} bytes")
        if self._stream.unused_data:
            raise EOFError(f"{len(self._stream.unused_data)} bytes follow it")
        return content
