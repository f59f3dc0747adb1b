"""Reads npz files, zip archives of npy files, by numpy's own reader.

Arrays of objects are refused, and sizes are checked beforehand. `read_arrays` takes arrays as they come, from a user's
file. `read_rows` knows beforehand what an array must be, which need not fit into memory.
"""

import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jointebm.storage.untrusted import quoted

__all__ = ["read_arrays", "read_rows"]

PIECE_BYTES = 1 << 20  # of rows, unpacked at a time
MAX_READ = PIECE_BYTES  # bytes read at once; zipfile reads the list of members in one piece
MAX_HEADER_BYTES = 10_000  # of an npy file, as in numpy
MAX_RATIO = 100  # a file that is read whole and unpacks to more than this many times its size is refused as a bomb,
FREE_BYTES = 16 << 20  # unless what it unpacks to is small
# What zipfile, zlib and numpy raise on damaged or forged files; RuntimeError is a method of packing unknown to zipfile.
_DAMAGE = (
    *(ValueError, EOFError, OverflowError, OSError, RuntimeError, LookupError, TypeError, MemoryError),
    *(SyntaxError, struct.error, zipfile.BadZipFile, zlib.error),
)


def read_arrays(path: Path, *names: str) -> dict[str, npt.NDArray[Any]]:
    """Reads arrays of an npz file, all of them if none is named.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not an npz file of arrays of numbers, unpacks to more than 100 times its size, or holds no
            array of a given name; names the file and the reason.
    """
    with _opened(path) as members:
        if not members.found:
            raise ValueError("holds no named arrays")
        unpacked = sum(member.file_size for member in members.found.values())
        if unpacked > max(FREE_BYTES, MAX_RATIO * path.stat().st_size):
            raise ValueError(f"unpacks to {unpacked} bytes, more than {MAX_RATIO} times its size; do not compress it")
        return {name: members.read(name) for name in names or members.found}


def read_rows(
    path: Path, name: str, rows: npt.NDArray[np.integer[Any]], *, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Iterator[npt.NDArray[Any]]:
    """Yields some rows of one array, a piece at a time; no more than a piece is in memory.

    The whole array is unpacked, so that its checksum is verified as well: after the last piece.

    The numbers of the rows increase. An array of another shape or type is a ValueError.
    """
    row_size = np.dtype(dtype).itemsize * math.prod(shape[1:])
    num_at_once = max(1, PIECE_BYTES // row_size)
    with _opened(path) as members:
        found_shape, fortran_order, found_dtype, num_bytes = members.header(name)
        if (found_shape, fortran_order, found_dtype) != (shape, False, np.dtype(dtype)):
            order = " in Fortran order" if fortran_order else ""
            raise ValueError(
                f"array {name!r} is {found_dtype} of shape {found_shape}{order}; expected {np.dtype(dtype)} of {shape}"
            )
        stream = members.archive.open(members.found[name])
        stream.read(num_bytes)
        for first in range(0, shape[0], num_at_once):
            num = min(num_at_once, shape[0] - first)
            content = stream.read(num * row_size)
            if len(content) < num * row_size:
                raise EOFError(f"array {name!r} is cut off in row {first + len(content) // row_size}")
            low, high = np.searchsorted(rows, (first, first + num))
            if low < high:
                yield np.frombuffer(content, dtype).reshape(num, *shape[1:])[rows[low:high] - first]


class _InPieces(io.FileIO):
    """A file that refuses to be read in a large piece, whatever size it declares."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_READ:
            raise zipfile.BadZipFile(f"its list of members has {size} bytes, expected at most {MAX_READ}")
        return super().read(MAX_READ if size is None or size < 0 else size) or b""


class _Members(NamedTuple):
    """An open archive and its arrays by name."""

    archive: zipfile.ZipFile
    found: dict[str, zipfile.ZipInfo]

    def read(self, name: str) -> npt.NDArray[Any]:
        self.header(name)
        with self.archive.open(self.found[name]) as stream, warnings.catch_warnings(action="ignore"):
            return np.lib.format.read_array(stream, allow_pickle=False, max_header_size=MAX_HEADER_BYTES)

    def header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, Fortran order, type and length of the header of an array; they account for all bytes declared."""
        if name not in self.found:
            raise ValueError(f"holds no array {name!r}; it has {', '.join(map(repr, self.found))}")
        member = self.found[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack in large pieces
            raise ValueError(f"array {name!r} is compressed by a method that numpy does not write")
        with self.archive.open(member) as stream:
            start = io.BytesIO(stream.read(MAX_HEADER_BYTES + 12))
        version = np.lib.format.read_magic(start)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array {name!r} is of npy version {version}, expected 1.0 or 2.0")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # of a header that Python 2 wrote
            shape, fortran_order, dtype = read(start, max_header_size=MAX_HEADER_BYTES)
        if dtype.hasobject:
            raise ValueError(f"array {name!r} holds Python objects, which are never read (allow_pickle=False)")
        if dtype.kind not in "biuf":
            raise ValueError(f"array {name!r} of type {dtype} cannot be read as numbers")
        if start.tell() + math.prod(shape) * dtype.itemsize != member.file_size or min(shape, default=0) < 0:
            raise ValueError(
                f"array {name!r} of shape {shape} and type {dtype} does not fill its {member.file_size} bytes"
            )
        return shape, fortran_order, dtype, start.tell()


@contextmanager
def _opened(path: Path) -> Iterator[_Members]:
    """Opens an archive; whatever goes wrong while it is open is a ValueError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an npz file, with named arrays")
    try:
        with _InPieces(path) as file, zipfile.ZipFile(file) as archive:
            yield _Members(archive, {member.filename.removesuffix(".npy"): member for member in archive.infolist()})
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: not an npz file of plain arrays, as numpy.savez writes them: {quoted(error)}"
        ) from None
