"""`jointebm data`: says what is there, and downloads what is asked for whole, verified, or not at all."""

import hashlib
import io
import json
import os
import struct
import urllib.error
import urllib.request
from email.message import Message
from functools import partial
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest

from jointebm.data import ArrayDataset
from jointebm.data.downloads import DOWNLOADS, DataFile, download, open_https
from jointebm.data.dsprites import OFFICIAL_FILE, check_official
from jointebm.data.mnist import FASHION_FILES, MNIST_FILES, read_original
from jointebm.data.registry import DATASETS, open_dataset
from jointebm.spaces.transforms import Identity
from support.command_line import Result, run

DATA = os.environ.get("JOINTEBM_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="JOINTEBM_DATA is not set: the files of MNIST are not here")

CONTENT = b"\0\0\x08\x01" + struct.pack(">I", 70_000) + bytes(70_000)
URL = "https://example.org/digits.gz"


def files_in(folder: Path) -> list[str]:
    """Everything below a folder, hidden files and empty folders too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def file(name: str = "digits.gz", *, content: bytes = CONTENT, max_bytes: int = 100_000) -> DataFile:
    """A file of digits whose original has this content."""
    path = Path("digits", name)

    def find(data_dir: Path | None) -> Path | None:
        return data_dir / path if data_dir is not None and (data_dir / path).is_file() else None

    check = partial(read_original, folder="digits", digest=hashlib.sha256(content).hexdigest())
    return DataFile(path, f"https://example.org/{name}", max_bytes, find, check)


class Answer(io.BytesIO):
    """What a server sends; `fails` is raised instead of the end."""

    def __init__(
        self, content: bytes, *, url: str = URL, length: object = None, fails: BaseException | None = None
    ) -> None:
        super().__init__(content)
        self.url, self.fails, self.headers = url, fails, Message()
        if length is not None:
            self.headers["Content-Length"] = str(length)

    def geturl(self) -> str:
        return self.url

    def read(self, num: int | None = -1) -> bytes:
        piece = super().read(num)
        if not piece and self.fails is not None:
            raise self.fails
        return piece


class Mirror:
    """Answers what it is told to, and remembers what it was asked for."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def __call__(self, url: str) -> Any:
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


# Downloads.


@pytest.mark.parametrize("length", [None, len(CONTENT)])
def test_a_file_is_put_in_place_as_it_came(length: int | None, tmp_path: Path) -> None:
    mirror = Mirror(Answer(CONTENT, length=length))
    path = download(file(), tmp_path, open_url=mirror)
    assert path == tmp_path / "digits" / "digits.gz" and path.read_bytes() == CONTENT
    assert mirror.asked == [URL] and files_in(tmp_path) == ["digits", "digits/digits.gz"]
    assert path.stat().st_mode & 0o777 == 0o644


FAILURES: dict[str, tuple[Answer | Exception, type[Exception], str]] = {
    "no network": (
        urllib.error.URLError("Name or service not known"),
        ConnectionError,
        "cannot be downloaded: <urlopen",
    ),
    "hung up": (RemoteDisconnected("closed\nwithout \x1b response"), ConnectionError, "closed without \\x1b response"),
    "broken off": (
        Answer(CONTENT[:999], fails=ConnectionResetError("reset by peer")),
        ConnectionError,
        "reset by peer",
    ),
    "shorter than said": (Answer(CONTENT[:999], length=len(CONTENT)), ConnectionError, "after 999 of 70008 bytes"),
    "longer than said": (Answer(CONTENT, length=5), ConnectionError, "broke off after 70008 of 5 bytes"),
    "cut off": (Answer(CONTENT[:999]), ValueError, "not the original: declares (70000,)"),
    "nothing": (Answer(b""), ValueError, "not an IDX file: it starts with nothing"),
    "a page": (Answer(b"<html>Log in</html>"), ValueError, "not the original: not an IDX file"),
    "other digits": (Answer(CONTENT[:-1] + b"\1"), ValueError, "not the original digits file: its content has SHA-256"),
    "too long": (Answer(bytes(100_001)), ValueError, "sends more than 100000 bytes"),
    "not https": (
        Answer(CONTENT, url="http://example.org/digits.gz"),
        ValueError,
        "redirects to http://example.org/digits.gz",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_that_fails_says_why_and_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    answer, kind, message = FAILURES[case]
    with pytest.raises(kind) as error:
        download(file(), tmp_path, open_url=Mirror(answer))
    assert str(error.value).startswith(f"{URL}: ") and message in str(error.value)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)
    assert files_in(tmp_path) == []


def test_ctrl_c_leaves_nothing_behind_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "mine").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        download(file(), tmp_path, open_url=Mirror(Answer(CONTENT[:99], fails=KeyboardInterrupt())))
    assert files_in(tmp_path) == ["digits", "digits/mine"]


def test_nothing_is_overwritten_and_nothing_asked_for_in_vain(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "digits.gz").write_text("mine")
    mirror = Mirror()
    with pytest.raises(FileExistsError, match=r"digits\.gz: exists, and nothing is overwritten"):
        download(file(), tmp_path, open_url=mirror)
    assert mirror.asked == [] and (tmp_path / "digits" / "digits.gz").read_text() == "mine"


def test_addresses_are_opened_over_https_alone_and_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float]] = []

    def urlopen(request: urllib.request.Request, *, timeout: float) -> Answer:
        asked.append((request.full_url, timeout))
        return Answer(b"")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    open_https(URL)
    assert asked == [(URL, 30)]
    for url in ("http://example.org/a", "file:///etc/passwd", "ftp://example.org/a"):
        with pytest.raises(ValueError, match="expected an address starting with https"):
            open_https(url)
    assert len(asked) == 1


def test_every_file_has_an_https_address_a_place_that_is_searched_and_a_pinned_original(tmp_path: Path) -> None:
    assert list(DOWNLOADS) == ["mnist", "fashion-mnist", "dsprites"]
    pinned = {"mnist": MNIST_FILES, "fashion-mnist": FASHION_FILES, "dsprites": {OFFICIAL_FILE: ""}}
    for name, data_files in DOWNLOADS.items():
        assert [each.path.name.removesuffix(".gz") for each in data_files] == list(pinned[name])
        for each in data_files:
            assert each.url.startswith("https://") and each.url.endswith(f"/{each.path.name}")
            assert each.find(None) is None and each.find(tmp_path) is None
            path = tmp_path / each.path
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(CONTENT)
            assert each.find(tmp_path) == path and each.max_bytes < 2**27
            with pytest.raises(ValueError, match=r"not the (original|official)"):
                each.check(path)
    assert DOWNLOADS["dsprites"][0].check is check_official


# The command.


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """Two small files in the place of MNIST's, and a server in that of the network."""
    mirror = Mirror(Answer(CONTENT), Answer(CONTENT))
    monkeypatch.delenv("JOINTEBM_DATA", raising=False)
    monkeypatch.setitem(DOWNLOADS, "mnist", (file("train.gz"), file("test.gz")))
    monkeypatch.setattr("jointebm.cli.blocks.data_files.open_https", mirror)
    return mirror


def described(*arguments: object) -> dict[str, Any]:
    """The sets by name, as `--json` prints them."""
    result = run("data", "--json", *arguments)
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    return {each["name"]: each for each in json.loads(result.out)["data"]}


def test_every_data_set_is_listed_once() -> None:
    sets = described()
    assert list(sets) == ["toy", "digits", "sets", "ising", "captions", "mnist", "fashion-mnist", "dsprites", "letters"]
    assert [name for each in sets.values() for name in each["datasets"]] == list(DATASETS)
    table = run("data").out
    assert all(name in table for name in (*sets, *DATASETS))


def test_without_a_folder_all_that_needs_files_is_missing_or_rendered(mirror: Mirror) -> None:
    states = {name: each["state"] for name, each in described().items()}
    assert list(states.items()) == [
        *((name, "embedded") for name in ("toy", "digits", "sets", "ising", "captions")),
        *(("mnist", "missing"), ("fashion-mnist", "missing"), ("dsprites", "rendered"), ("letters", "missing")),
    ]
    text = run("data").out
    assert "missing: digits/train.gz" in text and "get mnist with: jointebm data --download mnist --data DIR" in text
    assert "missing: letters.npz" in text and "--download letters" not in text
    assert mirror.asked == []


def test_files_are_found_missing_or_damaged_and_damage_is_explained(mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "train.gz").write_bytes(CONTENT)
    one = described("--data", tmp_path)["mnist"]
    assert one["state"] == "missing" and [each["state"] for each in one["files"]] == ["found", "missing"]
    assert [each["path"] for each in one["files"]] == [str(folder / "train.gz"), str(folder / "test.gz")]
    assert [each["url"] for each in one["files"]] == ["https://example.org/train.gz", "https://example.org/test.gz"]
    (folder / "test.gz").write_bytes(CONTENT[:-1])
    two = described("--data", tmp_path)["mnist"]
    assert two["state"] == "damaged" and [each["state"] for each in two["files"]] == ["found", "damaged"]
    assert "declares (70000,)" in two["files"][1]["note"]
    assert f"damaged: {folder / 'test.gz'} ({two['files'][1]['note']})" in run("data", "--data", tmp_path).out
    (folder / "test.gz").write_bytes(CONTENT)
    assert described("--data", tmp_path)["mnist"]["state"] == "found"
    assert mirror.asked == [] and files_in(folder) == ["test.gz", "train.gz"]


def test_a_file_that_no_one_can_download_is_found_where_a_user_has_put_it(tmp_path: Path) -> None:
    (tmp_path / "letters.npz").write_bytes(b"")
    assert described("--data", tmp_path)["letters"]["state"] == "found"


def test_a_file_in_the_place_of_the_official_sprites_is_damaged_and_not_rendered_over(tmp_path: Path) -> None:
    (tmp_path / OFFICIAL_FILE).write_text("<html>not found</html>")
    sprites = described("--data", tmp_path)["dsprites"]
    assert sprites["state"] == "damaged" and "not the official file" in sprites["files"][0]["note"]


def test_download_gets_what_is_missing_and_leaves_the_rest(mirror: Mirror, tmp_path: Path) -> None:
    result = run("data", "--download", "mnist", "--data", tmp_path, "--json")
    assert result.code == 0 and mirror.asked == ["https://example.org/train.gz", "https://example.org/test.gz"]
    assert {each["name"]: each["state"] for each in json.loads(result.out)["data"]}["mnist"] == "found"
    train, test = tmp_path / "digits" / "train.gz", tmp_path / "digits" / "test.gz"
    assert f"jointebm: wrote {train}\n" in result.err and train.read_bytes() == CONTENT
    test.unlink()
    before = train.stat()
    mirror.answers = [Answer(CONTENT)]
    result = run("data", "--download", "mnist", "--data", tmp_path)
    assert result.code == 0 and mirror.asked[2:] == ["https://example.org/test.gz"]
    assert f"{train} exists already" in result.err and train.stat() == before


def assert_failed(result: Result, *fragments: str) -> None:
    """Exit code 2 and nothing on standard output; the last line on standard error says why."""
    last = result.err.splitlines()[-1]
    assert (result.code, result.out) == (2, "") and last.startswith("jointebm: error: "), result
    assert "Traceback" not in result.err and all(fragment in last for fragment in fragments), last


def test_download_says_what_it_needs(mirror: Mirror, tmp_path: Path) -> None:
    assert_failed(run("data", "--download", "mnist"), "--download mnist", "--data DIR or JOINTEBM_DATA")
    assert_failed(run("data", "--download", "toy", "--data", tmp_path), "'toy'", ", ".join(map(repr, DOWNLOADS)))
    assert_failed(run("data", "--download", "mnist", "--data", tmp_path / "none"), "--data", "none")
    assert mirror.asked == [] and files_in(tmp_path) == []


def test_download_stops_at_a_damaged_file_and_at_a_failure(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers = [Answer(CONTENT), Answer(b"<html>")]
    assert_failed(run("data", "--download", "mnist", "--data", tmp_path), "https://example.org/test.gz", "not the orig")
    assert files_in(tmp_path) == ["digits", "digits/train.gz"]  # what is whole stays
    (tmp_path / "digits" / "train.gz").write_bytes(CONTENT[:-1])
    assert_failed(run("data", "--download", "mnist", "--data", tmp_path), "train.gz: declares")
    assert len(mirror.asked) == 2 and (tmp_path / "digits" / "train.gz").read_bytes() == CONTENT[:-1]


@needs_data
def test_the_files_of_mnist_are_the_originals() -> None:
    sets = described("--data", DATA)
    assert sets["mnist"]["state"] == "found" and sets["fashion-mnist"]["state"] == "found"


@needs_data
def test_mnist_in_pixels_is_mnist_with_normal_noise_and_without_the_logit() -> None:
    assert DATA is not None
    pixels, logit = open_dataset("mnist-pixels", Path(DATA)), open_dataset("mnist", Path(DATA))
    assert isinstance(pixels, ArrayDataset) and isinstance(logit, ArrayDataset)
    assert (pixels.name, pixels.noise_width, pixels.noise_sd, pixels.white) == ("mnist-pixels", 0.0, 0.1, 255)
    assert (logit.name, logit.noise_width, logit.noise_sd) == ("mnist", 1 / 256, 0.0)
    assert pixels.space["image"].transform == Identity()  # type: ignore[union-attr]
    assert (pixels.held_out["image"] == logit.held_out["image"]).all()
