"""Specification of `jointebm.storage.npz`: read exactly, rows in little memory, or refused in one line.

What a user may hand over is in `malformed.py`, and read by `test_hostile.py`.
"""

import io
import os
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jointebm.storage import npz
from jointebm.storage.npz import check_array, read_array, read_arrays, read_rows

SHAPE = (1000, 7)
ROWS = np.array([0, 3, 4, 500, 998, 999])
ARRAY = np.random.default_rng(0).integers(0, 256, size=SHAPE, dtype=np.uint8)


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=pickled)
    return file.getvalue()


def zipped(content: bytes, name: str = "imgs.npy", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def header(text: str, version: int = 1) -> bytes:
    """The start of an npy file with this description."""
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + b"\n"


def described(shape: tuple[int, ...]) -> str:
    return repr({"descr": "|u1", "fortran_order": False, "shape": shape})


def read(path: Path, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.concatenate(list(read_rows(path, "imgs", ROWS, shape=shape, dtype=np.uint8)))


@pytest.mark.parametrize("piece", [1, 7, 64, 10**6])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_those_of_the_array_whatever_the_size_of_a_piece(
    save: Callable[..., None], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "PIECE", piece)
    save(tmp_path / "a.npz", other=np.zeros(3), imgs=ARRAY)
    assert np.array_equal(read(tmp_path / "a.npz"), ARRAY[ROWS])


def test_rows_of_whole_numbers_and_headers_of_either_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, classes=np.arange(12).reshape(4, 3))
    (rows,) = read_rows(path, "classes", np.array([1, 3]), shape=(4, 3), dtype=np.int64)
    assert rows.tolist() == [[3, 4, 5], [9, 10, 11]]
    path.write_bytes(zipped(header(described(SHAPE), version=2) + ARRAY.tobytes()))
    assert np.array_equal(read(path), ARRAY[ROWS])


def test_a_header_from_python_2_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(zipped(header(described(SHAPE).replace("1000", "1000L")) + ARRAY.tobytes()))
    assert np.array_equal(read(path), ARRAY[ROWS])


def test_reading_needs_memory_for_what_is_kept_and_not_for_the_array(tmp_path: Path) -> None:
    """64 MB unpacked."""
    path, shape = tmp_path / "a.npz", (16_384, 4096)
    path.write_bytes(zipped(header(described(shape)) + bytes(16_384 * 4096)))
    tracemalloc.start()
    rows = np.concatenate(list(read_rows(path, "imgs", ROWS, shape=shape, dtype=np.uint8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.shape == (6, 4096) and peak < 12 * npz.PIECE


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whole_arrays_are_read_bit_for_bit_as_numpy_reads_them(save: Callable[..., None], tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(5, 3))
    arrays = {
        "reals": numbers,
        "columns": np.asfortranarray(numbers),
        "swapped": numbers.astype(">f4"),
        "flags": numbers > 0,
        "one": np.array(7),
        "none": np.zeros((0, 4), np.uint8),
        "large": np.arange(100_000),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        for each in (found[name], read_array(tmp_path / "a.npz", name)):
            assert (each.dtype, each.shape, each.tobytes()) == (array.dtype, array.shape, array.tobytes()), name


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.npz: no such file"):
        read(tmp_path / "a.npz")


GOOD = zipped(npy(ARRAY))
STORED = zipped(npy(ARRAY), method=zipfile.ZIP_STORED)


def with_sizes(content: bytes, *, packed: int | None = None, unpacked: int | None = None) -> bytes:
    """The archive with other sizes in its table of contents, where they are believed, and in the local header."""
    forged = bytearray(content)
    for magic, offset in ((b"PK\3\4", 18), (b"PK\1\2", 20)):
        place = content.index(magic) + offset
        old = struct.unpack_from("<2I", content, place)
        struct.pack_into("<2I", forged, place, old[0] if packed is None else packed, unpacked or old[1])
    return bytes(forged)


def encrypted(content: bytes) -> bytes:
    forged = bytearray(content)
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        forged[content.index(magic) + offset] |= 1
    return bytes(forged)


def with_field(content: bytes, offset: int, value: int) -> bytes:
    """The archive with one byte of its list of members changed."""
    forged = bytearray(content)
    forged[content.index(b"PK\1\2") + offset] = value
    return bytes(forged)


def flipped(content: bytes) -> bytes:
    """The archive with one bit of the last row changed, which a checksum notices and nothing else."""
    place = content.index(ARRAY[-1].tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "File is not a zip file"),
    "text": (b"<html>not found</html>", "File is not a zip file"),
    "cut off": (GOOD[: len(GOOD) // 2], "File is not a zip file"),
    "cut off at the front": (GOOD[100:], "a.npz"),
    "a bit flipped": (flipped(STORED), "Bad CRC-32"),
    "packed stream damaged": (GOOD[:200] + bytes(50) + GOOD[250:], "a.npz"),
    "another array": (zipped(npy(ARRAY), "other.npy"), "holds no array 'imgs'"),
    "encrypted": (encrypted(GOOD), "encrypted"),
    "encrypted strongly": (with_field(GOOD, 8, 0x40), "encrypted"),
    "packed as a patch": (with_field(GOOD, 8, 0x20), "compressed by a method that NumPy does not write"),
    "packed by method 99": (with_field(GOOD, 10, 99), "compressed by a method that NumPy does not write"),
    "packed for a zip of the future": (with_field(GOOD, 6, 250), "zip file version 25.0"),
    "packed by bzip2": (
        zipped(npy(ARRAY), method=zipfile.ZIP_BZIP2),
        "compressed by a method that NumPy does not write",
    ),
    "not an array": (zipped(b"nothing" * 20), "not an npy file"),
    "nothing in it": (zipped(b""), "not an npy file"),
    "npy version 9": (zipped(b"\x93NUMPY\x09\x00" + bytes(100)), "not an npy file"),
    "npy version 3": (zipped(b"\x93NUMPY\x03\x00" + bytes(100)), "not a plain array of numbers"),
    "wrong type": (zipped(npy(ARRAY.astype(np.int16))), "int16 of shape (1000, 7); expected uint8"),
    "wrong shape": (zipped(npy(ARRAY[:-1])), "uint8 of shape (999, 7); expected uint8 of (1000, 7)"),
    "Fortran order": (zipped(npy(np.asfortranarray(ARRAY))), "in Fortran order"),
    "objects": (zipped(npy(np.empty(SHAPE, dtype=object), pickled=True)), "Python objects, which are never read"),
    "record with objects": (
        zipped(npy(np.empty(SHAPE, dtype=[("a", object)]), pickled=True)),
        "not a plain array of numbers",
    ),
    "subarrays": (
        zipped(header(repr({"descr": ("|u1", (2,)), "fortran_order": False, "shape": SHAPE}))),
        "not a plain array of numbers",
    ),
    "header of 4 GB": (
        zipped(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(5000)),
        "has a header of 4294967295 bytes, expected at most 10000",
    ),
    "header of 64 KB": (
        zipped(header(described(SHAPE) + " " * 60_000)),
        "has a header of 60061 bytes, expected at most 10000",
    ),
    "header that is code": (zipped(header("__import__('os').getcwd()")), "not a plain array of numbers"),
    "header that is no dictionary": (zipped(header("[1, 2]")), "not a plain array of numbers"),
    "header that is not closed": (zipped(header("{'descr': '|u1', (")), "not a plain array of numbers"),
    "header nested deeply": (zipped(header("(" * 3000)), "not a plain array of numbers"),
    "header of many signs": (zipped(header("-" * 3000 + "1")), "not a plain array of numbers"),
    "header of zeros": (zipped(b"\x93NUMPY\x01\x00\x10\x00" + bytes(16)), "not a plain array of numbers"),
    "negative shape": (zipped(header(described((-1000, 7)))), "not a plain array of numbers"),
    "array cut off": (zipped(npy(ARRAY)[:-1]), "does not fill its 7127 bytes"),
    "array goes on": (zipped(npy(ARRAY) + b"x"), "does not fill its 7129 bytes"),
    "a table that says too much": (with_sizes(GOOD, unpacked=3 << 30), "declares 3221225472 bytes, more than the file"),
    "a table that packs too much": (with_sizes(GOOD, packed=3 << 30, unpacked=3 << 30), "more than the file can hold"),
    "a stored array that says too much": (with_sizes(STORED, unpacked=9000), "more than the file can hold"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_with_its_name_and_the_reason(case: str, tmp_path: Path) -> None:
    content, message = MALFORMED[case]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(error.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text and len(text) < 700
    assert peak < 5 << 20


@pytest.mark.parametrize("case", [case for case in MALFORMED if "packed" in case or "encrypted" in case])
def test_what_is_packed_otherwise_is_refused_whole_too(case: str, tmp_path: Path) -> None:
    content, message = MALFORMED[case]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    for reads in (read_arrays, lambda path: read_array(path, "imgs")):
        with pytest.raises(ValueError, match=re.escape(str(path))) as error:
            reads(path)
        assert message in str(error.value)


def test_a_declared_size_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    """3 GB of zeros, forged as a table of contents and a header that agree with one another."""
    shape = (786_432, 4096)
    content = header(described(shape))
    content += bytes(8192 - len(content))
    path = tmp_path / "a.npz"
    path.write_bytes(with_sizes(zipped(content), unpacked=786_432 * 4096 + len(header(described(shape)))))
    with pytest.raises(ValueError, match="more than the file can hold"):
        read(path, shape)
    with pytest.raises(ValueError, match="more than the file can hold"):
        check_array(path, "imgs", shape=shape, dtype=np.uint8)


def test_an_array_that_ends_early_in_its_archive_is_refused(tmp_path: Path) -> None:
    """Header and table of contents agree, but the packed stream holds a row less: it ends in the midst of reading."""
    content = with_sizes(zipped(npy(ARRAY)[:-7]), unpacked=len(npy(ARRAY)))
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: .* array 'imgs' is cut off in row 999"):
        read(path)


def test_checking_an_array_reads_no_more_than_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(flipped(STORED))
    check_array(path, "imgs", shape=SHAPE, dtype=np.uint8)
    with pytest.raises(ValueError, match="expected uint8 of"):
        check_array(path, "imgs", shape=(7, 1000), dtype=np.uint8)


def test_a_pickle_beside_the_array_is_never_opened(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "a.npz", allow_pickle=True, metadata=trap, imgs=ARRAY)
    assert np.array_equal(read(tmp_path / "a.npz"), ARRAY[ROWS])
    np.savez(tmp_path / "b.npz", allow_pickle=True, imgs=trap)
    with pytest.raises(ValueError, match="Python objects"):
        read(tmp_path / "b.npz")
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["metadata"]
    assert (tmp_path / "sprung").exists()  # it is a trap


class Trap:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_bytes_changed_at_random_is_read_or_refused_by_name(seed: int, tmp_path: Path) -> None:
    """100 files with 1 to 4 bytes changed: no other error, and no other rows than the right ones."""
    generator = np.random.default_rng(seed)
    path = tmp_path / "a.npz"
    for content in (GOOD, STORED, *(GOOD, STORED, GOOD)):
        forged = bytearray(content)
        for place in generator.integers(0, len(content), size=generator.integers(1, 5)):
            forged[place] = generator.integers(0, 256)
        path.write_bytes(bytes(forged))
        assert outcome(path) in ("right", "refused by name")


def outcome(path: Path) -> str:
    try:
        rows = read(path)
    except ValueError as error:
        return "refused by name" if str(error).startswith(f"{path}: ") else str(error)
    return "right" if np.array_equal(rows, ARRAY[ROWS]) else "wrong"
