"""Reads npz files; nothing in them is executed, and what they declare is checked before anything of that size is allocated.

An npz file is a zip archive of npy files: a line of text with type and shape, then the numbers. `read_array` and
`read_arrays` take arrays as they come, from a user's file; `check_array` and `read_rows` know beforehand what an array must
be, and take rows of one that need not fit into memory.
"""

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jointebm.storage.untrusted import quoted

__all__ = ["check_array", "read_array", "read_arrays", "read_rows"]

Array = npt.NDArray[Any]

PIECE = 1 << 20  # bytes of rows unpacked at a time
MAX_READ = 1 << 17  # bytes read at once; the archive's list of members is read in one piece, and so has no more
MAX_NPY_HEADER = 10_000  # as in NumPy
MAX_DEFLATE_RATIO = 1032  # nothing deflated unpacks to more than this many times its size
MAX_RATIO = 100  # a file that is read whole and unpacks to more than this many times its size is refused as a bomb,
FREE_BYTES = 16 << 20  # unless what it unpacks to is small
ENCRYPTED = 0x1 | 0x40  # flags of a member
PATCH = 0x20
MAGIC = b"\x93NUMPY"
SIZE = "[0-9]{1,18}L?"  # Python 2 wrote an L
HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[^']*)',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rf"\s*'shape':\s*\((?P<shape>(?:{SIZE})?(?:,\s*{SIZE}){{0,63}},?)\s*\),?\s*\}}\s*"
)


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of plain arrays.
    """
    with _opened(path) as (archive, members):
        _check_all_fit(members, path.stat().st_size)
        return {name: _read(archive, member, name) for name, member in members.items()}


def read_array(path: Path, name: str) -> Array:
    """One array of an npz file; the numbers of the others are not looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an npz file of plain arrays, or holds no array of that name.
    """
    with _opened(path) as (archive, members):
        _check_all_fit(members, path.stat().st_size)
        return _read(archive, _named(members, name), name)


def read_rows(
    path: str | os.PathLike[str],
    name: str,
    rows: npt.NDArray[np.integer[Any]],
    *,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> Iterator[Array]:
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
    with _expected(Path(path), name, shape, np.dtype(dtype)) as stream:
        for first in range(0, shape[0], num_at_once):
            num = min(num_at_once, shape[0] - first)
            content = np.empty(num * row_size, np.uint8)
            num_read = _fill(content, stream)
            if num_read < len(content):
                raise EOFError(f"array {name!r} is cut off in row {first + num_read // row_size}")
            low, high = np.searchsorted(rows, (first, first + num))
            if low < high:
                yield content.view(dtype).reshape(num, *shape[1:])[rows[low:high] - first]


def check_array(path: str | os.PathLike[str], name: str, *, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raises what `read_rows` raises about the file's list of members and the array's header, and reads no more."""
    with _expected(Path(path), name, shape, np.dtype(dtype)):
        pass


# The archive.


class _ArrayError(ValueError):
    """What is wrong with an archive, in words that need no more than the name of the file before them."""


class _InPieces(io.FileIO):
    """A file of which no large piece is read at once, whatever length the file itself asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_READ:
            raise zipfile.BadZipFile(f"its list of members has {size} bytes, expected at most {MAX_READ}")
        return super().read(MAX_READ if size is None or size < 0 else size) or b""


# What zipfile and zlib raise on archives that are cut off or forged; RuntimeError is a version of zip that they do not know.
_DAMAGE = (ValueError, EOFError, OverflowError, OSError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Opens an archive and lists its arrays; whatever goes wrong while it is open is a ValueError that names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected an npz file, with named arrays")
    try:
        with _InPieces(path) as file, zipfile.ZipFile(file) as archive:
            yield archive, _members(archive)
    except _ArrayError as error:
        raise ValueError(f"{path}: {quoted(error)}") from None
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: not an npz file of plain arrays, as numpy.savez writes them: {quoted(error)}"
        ) from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name; each is packed in a way that NumPy writes."""
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if not members:
        raise _ArrayError("holds no named arrays; expected an npz file, from numpy.savez")
    if len(members) < len(archive.infolist()):
        raise _ArrayError("holds two arrays of one name")
    for name, member in members.items():
        if member.flag_bits & ENCRYPTED:
            raise _ArrayError(f"array {name!r} is encrypted")
        if member.flag_bits & PATCH or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _ArrayError(f"array {name!r} is compressed by a method that NumPy does not write")
    return members


def _named(members: dict[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    if name not in members:
        raise _ArrayError(f"holds no array {name!r}; it has {', '.join(map(repr, members))}")
    return members[name]


def _check_all_fit(members: dict[str, zipfile.ZipInfo], size: int) -> None:
    """Raises if all arrays of a file of `size` bytes together are too much to unpack."""
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > max(FREE_BYTES, MAX_RATIO * size):
        raise _ArrayError(
            f"unpacks to {unpacked} bytes, more than {MAX_RATIO} times its size; write it with numpy.savez, uncompressed"
        )


def _check_possible(member: zipfile.ZipInfo, name: str, size: int) -> None:
    """Raises if an array cannot be what it declares, in a file of `size` bytes."""
    ratio = MAX_DEFLATE_RATIO if member.compress_type == zipfile.ZIP_DEFLATED else 1
    if member.compress_size > size or member.file_size > member.compress_size * ratio:
        raise _ArrayError(f"array {name!r} declares {member.file_size} bytes, more than the file can hold")


# One array.


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    """A whole array."""
    with archive.open(member) as stream:
        header = _read_header(stream, member, name)
        array = np.empty(math.prod(header.shape), header.dtype)
        if _fill(array.view(np.uint8), stream) < array.nbytes:
            raise EOFError(f"array {name!r} is cut off")
        if stream.read(1):  # the checksum is verified at the end
            raise _ArrayError(f"array {name!r} goes on after its {len(array)} numbers")
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")


@contextmanager
def _expected(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[IO[bytes]]:
    """The numbers of an array that must be of this type and shape, and whose size must be possible."""
    with _opened(path) as (archive, members):
        member = _named(members, name)
        _check_possible(member, name, path.stat().st_size)
        with archive.open(member) as stream:
            found = _read_header(stream, member, name)
            if found != (dtype, False, shape):
                order = " in Fortran order" if found.fortran_order else ""
                raise _ArrayError(
                    f"array {name!r} is {found.dtype} of shape {found.shape}{order}; expected {dtype} of {shape}"
                )
            yield stream


def _fill(content: npt.NDArray[np.uint8], stream: IO[bytes]) -> int:
    """Reads until an array of bytes is full or the stream at its end, and returns how many bytes came."""
    for start in range(0, len(content), MAX_READ):
        target = content[start : start + MAX_READ]
        piece = stream.read(len(target))
        target[: len(piece)] = np.frombuffer(piece, np.uint8)
        if len(piece) < len(target):
            return start + len(piece)
    return len(content)


def _read_header(stream: IO[bytes], member: zipfile.ZipInfo, name: str) -> _Header:
    """Type and shape of an array, by a grammar and not by evaluation; they account for all bytes that it declares."""
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
    shape = tuple(int(size) for size in re.findall("[0-9]+", found["shape"]))
    header = _Header(_dtype(found["descr"], name), found["fortran"] == "True", shape)
    if len(start) + width + length + math.prod(shape) * header.dtype.itemsize != member.file_size:
        raise _ArrayError(
            f"array {name!r} of shape {shape} and type {header.dtype} does not fill its {member.file_size} bytes"
        )
    return header


def _dtype(descr: str, name: str) -> np.dtype[Any]:
    if descr.lstrip("<>|=").startswith("O"):
        raise _ArrayError(f"array {name!r} holds Python objects, which are never read (allow_pickle=False)")
    if re.fullmatch(r"[<>|=]?[biuf][0-9]{1,2}", descr) is None:
        raise _ArrayError(f"array {name!r} of type {descr!r} cannot be read as numbers")
    try:
        return np.dtype(descr)
    except TypeError:
        raise _ArrayError(f"array {name!r} of type {descr!r} cannot be read as numbers") from None
