"""Downloads the files of a data set, when asked to: over https, bounded in size, verified, and whole or not at all."""

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from jointebm.data.dsprites import OFFICIAL_FILE, check_official, find_official
from jointebm.data.mnist import FASHION_FILES, MNIST_FILES, find_file, read_original
from jointebm.storage.untrusted import quoted

__all__ = ["DOWNLOADS", "DataFile", "Response", "download", "open_https"]

CHUNK_BYTES = 2**16  # bytes received at once
TIMEOUT = 30  # seconds without any byte


class Response(Protocol):
    """What is needed of the answer of a server."""

    @property
    def headers(self) -> http.client.HTTPMessage: ...

    def geturl(self) -> str:
        """The address that answered, after redirections."""
        ...

    def read(self, num: int) -> bytes: ...


OpenUrl = Callable[[str], AbstractContextManager[Response]]


class DataFile(NamedTuple):
    """A file of a data set.

    Args:
        path: its path below the data folder, where a download puts it.
        url: where it can be had.
        max_bytes: what is longer is not it.
        find: where it lies, given the data folder; None if it is missing.
        check: raises a ValueError, naming the path, unless the content is that of the original.
    """

    path: Path
    url: str
    max_bytes: int
    find: Callable[[Path | None], Path | None]
    check: Callable[[Path], object]


def download(file: DataFile, data_dir: Path, *, open_url: OpenUrl) -> Path:
    """Puts a file into the data folder, under its name only when it is complete and verified.

    Args:
        file: one of `DOWNLOADS`.
        data_dir: the data folder.
        open_url: opens an address; `open_https`.

    Returns:
        The path of the new file.

    Raises:
        FileExistsError: there is a file of that name; nothing is overwritten.
        OSError: the server cannot be reached, or the file cannot be written.
        ValueError: what came is not the original.
    """
    path = data_dir / file.path
    _check_new(path)
    is_new_folder = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            for piece in _received(file, open_url):
                target.write(piece)
        try:
            file.check(scratch)
        except ValueError as error:
            raise ValueError(f"{file.url}: what came is not the original: {_without(scratch, error)}") from None
        scratch.chmod(0o644)
        _check_new(path)
        scratch.rename(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        if is_new_folder:
            with suppress(OSError):  # somebody else uses it by now
                path.parent.rmdir()
        raise
    return path


def open_https(url: str) -> AbstractContextManager[Response]:
    """Opens an https address; see `urllib.request.urlopen` for proxies and certificates."""
    if not url.startswith("https://"):
        raise ValueError(f"{url}: expected an address that starts with https://")
    request = urllib.request.Request(url, headers={"User-Agent": "jointebm"})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _received(file: DataFile, open_url: OpenUrl) -> Iterator[bytes]:
    """The content in pieces, if it comes over https and is not too long."""
    num = 0
    try:
        with open_url(file.url) as response:
            if not response.geturl().startswith("https://"):
                raise ValueError(f"{file.url}: leads to {quoted(response.geturl())}, which is not https")
            while piece := response.read(CHUNK_BYTES):
                num += len(piece)
                if num > file.max_bytes:
                    raise ValueError(
                        f"{file.url}: sends more than {file.max_bytes} bytes, which cannot be the original"
                    )
                yield piece
            declared = response.headers.get("Content-Length", str(num))
    except (OSError, http.client.HTTPException) as error:
        reason = quoted(error) or type(error).__name__
        raise ConnectionError(f"{file.url}: cannot be downloaded: {reason}") from None
    if declared != str(num):
        raise ConnectionError(f"{file.url}: broke off after {num} of {quoted(declared)} bytes; try again")


def _check_new(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"{path}: exists, and nothing is overwritten; remove it to download it anew")


def _without(scratch: Path, error: ValueError) -> str:
    """A message without the name of the file that is about to vanish."""
    return str(error).removeprefix(f"{scratch}: ")


def _idx_file(folder: str, name: str, digest: str, mirror: str, max_bytes: int) -> DataFile:
    def find(data_dir: Path | None) -> Path | None:
        try:
            return find_file(data_dir, folder, name)
        except FileNotFoundError:
            return None

    check = partial(read_original, folder=folder, digest=digest)
    return DataFile(Path(folder, f"{name}.gz"), f"{mirror}{name}.gz", max_bytes, find, check)


MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_MIRROR = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
DSPRITES_MIRROR = "https://github.com/google-deepmind/dsprites-dataset/raw/fa310c66517cfc1939d77fe17c725154efc97127/"

# What can be downloaded: of Fashion-MNIST the test images and their labels only, since no more is used.
DOWNLOADS: dict[str, tuple[DataFile, ...]] = {
    "mnist": tuple(_idx_file("mnist", name, digest, MNIST_MIRROR, 16 << 20) for name, digest in MNIST_FILES.items()),
    "fashion-mnist": tuple(
        _idx_file("fashion-mnist", name, digest, FASHION_MIRROR, 16 << 20) for name, digest in FASHION_FILES.items()
    ),
    "dsprites": (
        DataFile(
            path=Path("dsprites", OFFICIAL_FILE),
            url=f"{DSPRITES_MIRROR}{OFFICIAL_FILE}",
            max_bytes=64 << 20,
            find=find_official,
            check=check_official,
        ),
    ),
}
