"""Specification of IDX files and MNIST: read exactly, or refused in one line before a large allocation."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from jointebm.data.mnist import fashion_images, mnist
from jointebm.storage.idx import read_idx
from support.malformed import idx

DATA = os.environ.get("JOINTEBM_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="JOINTEBM_DATA is not set: the files of MNIST are not here")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_idx_file_round_trips(pack: object, tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "array"
    path.write_bytes(pack(idx(array.shape, array.tobytes())))  # type: ignore[operator]
    assert (read_idx(path) == array).all()


MALFORMED = {  # support/malformed.py has more
    "empty": (b"", "not an IDX file: it starts with nothing"),
    "wrong start": (b"\1" + idx((2,), b"ab")[1:], "not an IDX file"),
    "text": (b"<html>not found</html>", "not an IDX file: it starts with 3c 68 74 6d"),
    "no dimensions": (bytes([0, 0, 8, 0]), "not an IDX file"),
    "content cut off": (gzip.compress(idx((300,), bytes(299))), "declares (300,) = 300 bytes, holds 299"),
    "huge in gzip": (gzip.compress(idx((60_000, 1000, 1000), b"ab")), "60000000000 bytes, holds 2"),
    "goes on": (idx((2,), b"abc"), "declares (2,) = 2 bytes, holds 3"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused_with_name_and_reason(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        read_idx(path)
    assert str(path) in str(error.value) and message in str(error.value) and "\n" not in str(error.value)


def test_missing_files_are_refused_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pass --data DIR or set JOINTEBM_DATA"):
        mnist(None)
    with pytest.raises(FileNotFoundError, match=r"mnist/train-images-idx3-ubyte\.gz: no such file"):
        mnist(tmp_path)


@needs_data
def test_mnist_is_complete_and_dequantised_in_the_unit_interval() -> None:
    assert DATA is not None
    data = mnist(Path(DATA))
    assert data.train["image"].shape == (60_000, 28, 28) and data.held_out["image"].shape == (10_000, 28, 28)
    assert np.bincount(data.train["digit"]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = data.test()
    noise = test["image"] * 256 - torch.tensor(data.held_out["image"])  # App. B.2.1: u, up to float32 rounding of 256
    assert bool(((noise >= -1e-4) & (noise <= 1 + 1e-4)).all())
    position = data.batch(16, generator=torch.Generator().manual_seed(0))
    assert bool(position["image"].isfinite().all()) and position["digit"].sum(dim=1).tolist() == [1] * 16


@needs_data
def test_fashion_mnist_has_its_10000_test_images() -> None:
    assert DATA is not None
    assert fashion_images(Path(DATA)).shape == (10_000, 28, 28)
