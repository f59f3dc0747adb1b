"""MNIST and Fashion-MNIST from their original IDX files."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import LOGIT, ArrayDataset
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity
from jointebm.storage.idx import read_idx

__all__ = ["FASHION_FILES", "MNIST_FILES", "fashion_images", "find_file", "mnist", "read_original"]

# SHA-256 of the unpacked files, whatever their compression.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_FILES = {
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def mnist(data_dir: Path | None, *, pixels: bool = False) -> ArrayDataset:
    """60,000 + 10,000 handwritten digits of 28 x 28 pixels; by default dequantised and in logit space as in App. B.2.1.

    Args:
        data_dir: the folder that holds `mnist/` or the files themselves, gzip or plain.
        pixels: whether positions are pixels under normal noise of standard deviation 0.1.

    Returns:
        Blocks `image` (28, 28), dequantised grey levels on [0, 1], and `digit`, 10 classes.

    Raises:
        FileNotFoundError: a file is missing; names the places searched.
        ValueError: a file is not the original.

    Example:
        >>> mnist(None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        FileNotFoundError: mnist: no data folder; pass --data DIR or set JOINTEBM_DATA to the folder that holds ...
    """
    arrays = {
        file: read_original(find_file(data_dir, "mnist", file), "mnist", digest) for file, digest in MNIST_FILES.items()
    }
    return ArrayDataset(
        name="mnist-pixels" if pixels else "mnist",
        space=Space(image=Continuous((28, 28), Identity() if pixels else LOGIT), digit=Categorical(10)),
        train={"image": arrays["train-images-idx3-ubyte"], "digit": arrays["train-labels-idx1-ubyte"]},
        held_out={"image": arrays["t10k-images-idx3-ubyte"], "digit": arrays["t10k-labels-idx1-ubyte"]},
        white=255,
        noise_width=0.0 if pixels else 1 / 256,
        noise_sd=0.1 if pixels else 0.0,
    )


def fashion_images(data_dir: Path | None) -> npt.NDArray[np.uint8]:
    """The 10,000 test images of Fashion-MNIST, (10000, 28, 28) grey levels, for out-of-distribution tests."""
    name = "t10k-images-idx3-ubyte"
    return read_original(find_file(data_dir, "fashion-mnist", name), "fashion-mnist", FASHION_FILES[name])


def read_original(path: Path, folder: str, digest: str) -> npt.NDArray[np.uint8]:
    """Reads one file of the data set `folder` and verifies its checksum."""
    array = read_idx(path)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    digester = hashlib.sha256(header)
    digester.update(array.data)  # without a copy
    found = digester.hexdigest()
    if found != digest:
        raise ValueError(
            f"{path}: not the original {folder} file: its content has SHA-256 {found}, expected {digest}. "
            "Remove it and download it again"
        )
    return array


def find_file(data_dir: Path | None, folder: str, name: str) -> Path:
    """The path of a file of a data set: in `folder` within the data folder, or directly in it, `.gz` or plain."""
    if data_dir is None:
        raise FileNotFoundError(
            f"{folder}: no data folder; pass --data DIR or set JOINTEBM_DATA to the folder that holds {folder}/{name}.gz"
        )
    # Files of Fashion-MNIST have the names of MNIST's, so only a folder of its own name holds them directly.
    parents = [data_dir / folder, *([data_dir] if folder == "mnist" or data_dir.name == folder else [])]
    candidates = [parent / f"{name}{ending}" for parent in parents for ending in (".gz", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{candidates[0]}: no such file, packed or unpacked{f', nor directly in {data_dir}' * (len(parents) > 1)}; get it "
        f"with: jointebm data --download {folder} --data {data_dir}"
    )
