"""Reads chosen rows of an array in an npz file, in pieces, and believes nothing that it declares before it is checked."""

import io
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from jointebm.data.idx import MAX_DEFLATE_RATIO
from jointebm.untrusted import quoted

__all__ = ["check_array", "read_rows"]

MAX_HEADER = 4096  # bytes; numpy writes 128
PIECE = 2**20  # bytes unpacked at a time

# What zipfile and numpy raise when a file is not what it says.
MALFORMED = (
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, OverflowError, EOFError, OSError),
    *(zipfile.BadZipFile, NotImplementedError, zlib.error, struct.error),
)


def read_rows(
    path: str | os.PathLike[str],
    name: str,
    rows: npt.NDArray[np.integer[Any]],
    *,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> Iterator[npt.NDArray[Any]]:
    """Yields some rows of one array, a piece at a time; of the others, no more than a piece is in memory.

    The whole array is unpacked, so that its checksum in the archive is compared as well: after the last piece.

    Args:
        path: the npz file.
        name: name of the array.
        rows: numbers of the rows, increasing.
        shape: the shape that the array must have.
        dtype: the type that its numbers must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not what it says, or the array is another, with the file and the reason.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "squares.npz"
        >>> np.savez(path, squares=np.arange(10) ** 2)
        >>> [piece.tolist() for piece in read_rows(path, "squares", np.array([2, 9]), shape=(10,), dtype=np.int64)]
        [[4, 81]]
    """
    row_size = np.dtype(dtype).itemsize * math.prod(shape[1:])
    num_at_once = max(1, PIECE // row_size)
    with _opened(Path(path), name, shape, np.dtype(dtype)) as stream:
        for first in range(0, shape[0], num_at_once):
            num = min(num_at_once, shape[0] - first)
            content = stream.read(num * row_size)
            if len(content) < num * row_size:
                raise ValueError(f"array {name!r} is cut off in row {first + len(content) // row_size}")
            low, high = np.searchsorted(rows, (first, first + num))
            if low < high:
                yield np.frombuffer(content, dtype=dtype).reshape(num, *shape[1:])[rows[low:high] - first]


def check_array(path: str | os.PathLike[str], name: str, *, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raises what `read_rows` raises about the file's table of contents and the array's header, and reads no more."""
    with _opened(Path(path), name, shape, np.dtype(dtype)):
        pass


@contextmanager
def _opened(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[IO[bytes]]:
    """The bytes of an array, after its header; whatever is wrong is a ValueError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(archive, name, path.stat().st_size)
            with archive.open(member) as stream:
                offset = _check_header(stream.read(MAX_HEADER), name, shape, dtype)
            expected = offset + math.prod(shape) * dtype.itemsize
            if member.file_size != expected:
                raise ValueError(f"array {name!r} of {member.file_size} bytes, header included; expected {expected}")
            with archive.open(member) as stream:
                stream.read(offset)
                yield stream
    except MALFORMED as error:
        raise ValueError(f"{path}: not the npz file that is expected: {quoted(error)}") from None


def _member(archive: zipfile.ZipFile, name: str, size: int) -> zipfile.ZipInfo:
    """The entry of an array, whose sizes are possible in an archive of `size` bytes."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it holds no array {name!r}")
    member = archive.getinfo(f"{name}.npy")
    if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"array {name!r} is encrypted, or packed in a way that numpy does not write")
    ratio = MAX_DEFLATE_RATIO if member.compress_type == zipfile.ZIP_DEFLATED else 1
    if member.compress_size > size or member.file_size > member.compress_size * ratio:
        raise ValueError(f"array {name!r} declares {member.file_size} bytes, more than the file can hold")
    return member


def _check_header(start: bytes, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Checks the header of an array, given the bytes it starts with, and returns the length of the header."""
    stream = io.BytesIO(start)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"array {name!r} in npy version {version[0]}.{version[1]}; expected 1.0 or 2.0")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # numpy's, of a header from Python 2
        found_shape, is_fortran, found_dtype = readers[version](stream)
    if found_dtype.hasobject:
        raise ValueError(f"array {name!r} holds Python objects, which are never read; expected {dtype}")
    if (found_shape, is_fortran, found_dtype) != (shape, False, dtype):
        order = " in Fortran order" if is_fortran else ""
        raise ValueError(f"array {name!r} is {found_dtype} of shape {found_shape}{order}; expected {dtype} of {shape}")
    return stream.tell()
