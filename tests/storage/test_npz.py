"""Npz files: read exactly, rows in little memory, or refused in one line. The corpus is in `support/malformed.py`."""

import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jointebm.storage import npz as module
from jointebm.storage.npz import read_arrays, read_rows
from support.malformed import npy, npz

SHAPE = (3000, 7)
ROWS = np.array([0, 3, 4, 500, 998, 2999])
ARRAY = np.random.default_rng(0).integers(0, 256, size=SHAPE, dtype=np.uint8)


def zipped(content: bytes, name: str = "imgs", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return npz(method=method, **{name: content})


def header(shape: str, *, version: int = 1) -> bytes:
    """The start of an npy file of bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text.encode()


def read(path: Path, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.concatenate(list(read_rows(path, "imgs", ROWS, shape=shape, dtype=np.uint8)))


@pytest.mark.parametrize("piece", [1, 64, 10**6])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_are_those_of_the_array_whatever_the_size_of_a_piece(
    save: Callable[..., None], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    save(tmp_path / "a.npz", other=np.zeros(3), imgs=ARRAY)
    assert np.array_equal(read(tmp_path / "a.npz"), ARRAY[ROWS])


@pytest.mark.parametrize("start", [header("(3000, 7)", version=2), header("(3000L, 7L)")], ids=["2.0", "Python 2"])
def test_headers_of_other_versions_are_read_without_a_warning(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(zipped(start + ARRAY.tobytes()))
    assert np.array_equal(read(tmp_path / "a.npz"), ARRAY[ROWS])
    assert np.array_equal(read_arrays(tmp_path / "a.npz")["imgs"], ARRAY)


def test_rows_need_memory_for_a_piece_and_not_for_the_array(tmp_path: Path) -> None:
    """64 MB unpacked."""
    path, shape = tmp_path / "a.npz", (16_384, 4096)
    path.write_bytes(zipped(header(str(shape)) + bytes(16_384 * 4096)))
    tracemalloc.start()
    rows = read(path, shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.shape == (6, 4096) and peak < 12 * module.PIECE_BYTES


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_whole_arrays_are_read_bit_for_bit(save: Callable[..., None], tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(5, 3))
    arrays = {
        "columns": np.asfortranarray(numbers),
        "swapped": numbers.astype(">f4"),
        "flags": numbers > 0,
        "one": np.array(7),
        "none": np.zeros((0, 4), np.uint8),
        "large": np.arange(100_000),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == arrays.keys() and read_arrays(tmp_path / "a.npz", "one").keys() == {"one"}
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


STORED = zipped(npy(ARRAY), method=zipfile.ZIP_STORED)


def flipped(content: bytes) -> bytes:
    """The archive with one bit of the last row changed, which only a checksum notices."""
    place = content.index(ARRAY[-1].tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


MALFORMED: dict[str, tuple[bytes, str]] = {
    "text": (b"<html>not found</html>", "File is not a zip file"),
    "a bit flipped": (flipped(STORED), "Bad CRC-32"),
    "another array": (zipped(npy(ARRAY), "other"), "holds no array 'imgs'"),
    "another type": (zipped(npy(ARRAY.astype(np.int16))), "int16 of shape (3000, 7); expected uint8"),
    "another shape": (zipped(npy(ARRAY[:-1])), "uint8 of shape (2999, 7); expected uint8 of (3000, 7)"),
    "Fortran order": (zipped(npy(np.asfortranarray(ARRAY))), "in Fortran order"),
    "a header of 4 GB": (zipped(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + bytes(5 << 20)), "EOF: reading array header"),
    "a shape of 3 GB": (zipped(header("(786432, 4096)")), "does not fill its"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_by_name_in_little_memory(case: str, tmp_path: Path) -> None:
    content, message = MALFORMED[case]
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npz") as error:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(error.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text and len(text) < 700
    assert peak < 5 << 20


def test_an_array_that_ends_early_in_its_archive_is_refused(tmp_path: Path) -> None:
    """Header and list of members agree, but the packed stream holds a row less."""
    content = bytearray(zipped(npy(ARRAY)[:-7]))
    for magic, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(magic) + offset, len(npy(ARRAY)))
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: .* array 'imgs' is cut off in row 2999"):
        read(tmp_path / "a.npz")


class Trap:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_next_to_the_array_is_never_opened(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "a.npz", allow_pickle=True, metadata=trap, imgs=ARRAY)
    assert np.array_equal(read(tmp_path / "a.npz"), ARRAY[ROWS])
    with pytest.raises(ValueError, match="array 'metadata' holds Python objects"):
        read_arrays(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["metadata"]
    assert (tmp_path / "sprung").exists()  # it is a trap
