"""Downloads of data files: over https, bounded in size, verified, and complete or absent."""

import http.client
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jointebm.data.dsprites import OFFICIAL_FILE, check_official, find_official
from jointebm.data.letters import LETTERS_FILE
from jointebm.data.mnist import FASHION_FILES, MNIST_FILES, find_file, read_original
from jointebm.storage.atomic import new_file
from jointebm.storage.untrusted import quoted

__all__ = ["BY_HAND", "DOWNLOADS", "MADE_OF", "RENDERED", "DataFile", "download", "open_https"]

CHUNK_BYTES = 2**16  # bytes received at once
TIMEOUT = 30  # seconds without a byte


OpenUrl = Callable[[str], AbstractContextManager[Any]]  # of a response, as that of `urllib.request.urlopen`


class DataFile(NamedTuple):
    """A file of a data set."""

    path: Path  # where a download puts it, relative to the data folder
    url: str
    max_bytes: int  # upper limit of its length
    find: Callable[[Path | None], Path | None]  # its path, given the data folder; None if it is missing
    check: Callable[[Path], object]  # raises a ValueError, naming the path, unless the content is the original


def download(file: DataFile, data_dir: Path, *, open_url: OpenUrl) -> Path:
    """Downloads a file into the data folder; it appears under its name once it is complete and verified.

    Raises:
        FileExistsError: the file exists; nothing is overwritten.
        OSError: the server cannot be reached, or the file cannot be written.
        ValueError: the content received is not the original.
    """
    path = data_dir / file.path
    if path.exists():
        raise FileExistsError(f"{path}: exists, and nothing is overwritten; remove it to download it again")
    is_new_folder = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new_file(path) as target:
            for chunk in _received(file, open_url):
                target.write(chunk)
            target.flush()
            scratch = Path(target.name)
            try:
                file.check(scratch)
            except ValueError as error:
                reason = str(error).removeprefix(f"{scratch}: ")
                raise ValueError(f"{file.url}: not the original: {reason}") from None
    except BaseException:
        if is_new_folder:
            with suppress(OSError):  # another process uses it
                path.parent.rmdir()
        raise
    return path


def open_https(url: str) -> AbstractContextManager[Any]:
    """Opens an https address; see `urllib.request.urlopen` for proxies and certificates."""
    if not url.startswith("https://"):
        raise ValueError(f"{url}: expected an address starting with https://")
    request = urllib.request.Request(url, headers={"User-Agent": "jointebm"})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _received(file: DataFile, open_url: OpenUrl) -> Iterator[bytes]:
    """Yields the content in chunks; checks https and the length."""
    num = 0
    try:
        with open_url(file.url) as response:
            if not response.geturl().startswith("https://"):
                raise ValueError(f"{file.url}: redirects to {quoted(response.geturl())}; expected https")
            while chunk := response.read(CHUNK_BYTES):
                num += len(chunk)
                if num > file.max_bytes:
                    raise ValueError(f"{file.url}: sends more than {file.max_bytes} bytes, so it is not the original")
                yield chunk
            declared = response.headers.get("Content-Length", str(num))
    except (OSError, http.client.HTTPException) as error:
        reason = quoted(error) or type(error).__name__
        raise ConnectionError(f"{file.url}: cannot be downloaded: {reason}") from None
    if declared != str(num):
        raise ConnectionError(f"{file.url}: broke off after {num} of {quoted(declared)} bytes; try again")


def _idx_file(folder: str, name: str, digest: str, mirror: str, max_bytes: int) -> DataFile:
    def find(data_dir: Path | None) -> Path | None:
        with suppress(FileNotFoundError):
            return find_file(data_dir, folder, name)
        return None

    check = partial(read_original, folder=folder, digest=digest)
    return DataFile(Path(folder, f"{name}.gz"), f"{mirror}{name}.gz", max_bytes, find, check)


MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_MIRROR = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
DSPRITES_MIRROR = "https://github.com/google-deepmind/dsprites-dataset/raw/fa310c66517cfc1939d77fe17c725154efc97127/"

# Data sets that are rendered where their files are missing, that are made of the files of others, and files that cannot be
# downloaded.
RENDERED = ("dsprites",)
MADE_OF = {"digit-strips": "mnist"}
BY_HAND = {"letters": LETTERS_FILE}

# Of Fashion-MNIST only the test images and their labels are used.
DOWNLOADS: dict[str, tuple[DataFile, ...]] = {
    "mnist": tuple(_idx_file("mnist", name, digest, MNIST_MIRROR, 16 << 20) for name, digest in MNIST_FILES.items()),
    "fashion-mnist": tuple(
        _idx_file("fashion-mnist", name, digest, FASHION_MIRROR, 16 << 20) for name, digest in FASHION_FILES.items()
    ),
    "dsprites": (
        DataFile(
            Path("dsprites", OFFICIAL_FILE), DSPRITES_MIRROR + OFFICIAL_FILE, 64 << 20, find_official, check_official
        ),
    ),
}
