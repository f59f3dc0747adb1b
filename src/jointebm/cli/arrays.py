"""Reads npz files; nothing in them is executed, and what they declare is checked before anything of that size is allocated.

An npz file is a zip archive of npy files: a line of text with type and shape, then the numbers.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jointebm.untrusted import quoted

__all__ = ["read_array", "read_arrays"]

Array = npt.NDArray[Any]

MAX_PIECE = 1 << 17  # bytes read at once; the archive's list of members is read in one piece, and so has no more
MAX_NPY_HEADER = 10_000  # as in NumPy
MAX_RATIO = 100  # a file that unpacks to more than this many times its size is refused as a bomb,
FREE_BYTES = 16 << 20  # unless what it unpacks to is small
MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[^']*)',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9]{0,18}(?:,\s*[0-9]{1,18}){0,63},?)\s*\),?\s*\}\s*"
)


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of plain arrays.
    """
    with _opened(path) as (archive, members):
        return {name: _read(archive, member, name) for name, member in members.items()}


def read_array(path: Path, name: str) -> Array:
    """One array of an npz file; the others are not looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of plain arrays, or holds no array of that name.
    """
    with _opened(path) as (archive, members):
        if name not in members:
            raise _ArrayError(f"holds no array {name!r}; it has {', '.join(map(repr, members))}")
        return _read(archive, members[name], name)


class _ArrayError(ValueError):
    """What is wrong with an archive, in words that need no more than the name of the file before them."""


class _InPieces(io.FileIO):
    """A file of which no large piece is read at once, whatever length the file itself asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_PIECE:
            raise zipfile.BadZipFile(f"its list of members has {size} bytes, expected at most {MAX_PIECE}")
        return super().read(MAX_PIECE if size is None or size < 0 else size) or b""


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Opens an archive and lists its arrays; whatever goes wrong while it is open is a ValueError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an npz file with one array per block")
    try:
        with _InPieces(path) as file, zipfile.ZipFile(file) as archive:
            yield archive, _members(archive, path.stat().st_size)
    except _ArrayError as error:
        raise ValueError(f"{path}: {quoted(error)}") from None
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: not an npz file of plain arrays ({quoted(error)}); write it with numpy.savez"
        ) from None


# What zipfile and zlib raise on archives that are cut off, forged or made with methods they do not know.
_DAMAGE = (
    ValueError,
    EOFError,
    OverflowError,
    OSError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name, if all of them together are not too much to unpack."""
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if not members:
        raise _ArrayError("holds no named arrays; expected an npz file with one array per block, from numpy.savez")
    if len(members) < len(archive.infolist()):
        raise _ArrayError("holds two arrays of one name")
    for name, member in members.items():
        if member.flag_bits & 1:
            raise _ArrayError(f"array {name!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _ArrayError(f"array {name!r} is compressed by a method that NumPy does not write")
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > max(FREE_BYTES, MAX_RATIO * size):
        raise _ArrayError(
            f"unpacks to {unpacked} bytes, more than {MAX_RATIO} times its size; write it with numpy.savez, uncompressed"
        )
    return members


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(member) as stream:
        header, num_read = _read_header(stream, name)
        num = math.prod(header.shape)
        if num_read + num * header.dtype.itemsize != member.file_size:
            raise _ArrayError(
                f"array {name!r} of shape {header.shape} and type {header.dtype} does not fill its {member.file_size} bytes"
            )
        array = np.empty(num, header.dtype)
        content = array.view(np.uint8)
        for start in range(0, len(content), MAX_PIECE):
            target = content[start : start + MAX_PIECE]
            piece = stream.read(len(target))
            if len(piece) < len(target):
                raise EOFError(f"array {name!r} is cut off")
            target[:] = np.frombuffer(piece, np.uint8)
        if stream.read(1):  # the checksum is verified at the end
            raise _ArrayError(f"array {name!r} goes on after its {num} numbers")
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")


def _read_header(stream: Any, name: str) -> tuple[_Header, int]:
    """Type and shape of an array, by a grammar and not by evaluation, and the number of bytes they took."""
    start = stream.read(len(MAGIC) + 2)
    width = {b"\x01": 2, b"\x02": 4, b"\x03": 4}.get(start[len(MAGIC) : -1])
    if not start.startswith(MAGIC) or width is None:
        raise _ArrayError(f"member {name!r} is not an npy file")
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_NPY_HEADER:
        raise _ArrayError(f"array {name!r} has a header of {length} bytes, expected at most {MAX_NPY_HEADER}")
    found = HEADER.fullmatch(stream.read(length).decode())
    if found is None:
        raise _ArrayError(f"array {name!r} is not a plain array of numbers")
    shape = tuple(int(size) for size in found["shape"].replace(",", " ").split())
    return _Header(_dtype(found["descr"], name), found["fortran"] == "True", shape), len(start) + width + length


def _dtype(descr: str, name: str) -> np.dtype[Any]:
    if descr.lstrip("<>|=").startswith("O"):
        raise _ArrayError(f"array {name!r} holds Python objects, which are never unpickled (allow_pickle=False)")
    if re.fullmatch(r"[<>|=]?[biuf][0-9]{1,2}", descr) is None:
        raise _ArrayError(f"array {name!r} of type {descr!r} cannot be read as numbers")
    try:
        return np.dtype(descr)
    except TypeError:
        raise _ArrayError(f"array {name!r} of type {descr!r} cannot be read as numbers") from None
