"""Models of blocks for the tests of commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jointebm.data import Toy
from jointebm.data.registry import DATASETS
from support.command_line import NUM_TEST, TINY, TINY_DIGITS, Trained, run


@contextmanager
def few_test_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "toy", lambda data_dir: Toy(num_test=NUM_TEST))  # noqa: ARG005
        yield


@pytest.fixture(scope="module", autouse=True)
def toy_with_few_test_rows() -> Iterator[None]:
    with few_test_rows():
        yield


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of three iterations on the toy data."""
    folder = tmp_path_factory.mktemp("cli") / "toy"
    with few_test_rows():
        result = run("train", "toy", *TINY, "--out", folder, "--seed", 3, "--json")
    assert result.code == 0, result.err
    return Trained(folder, result.json)


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "digits"
    assert run("train", "digits", *TINY_DIGITS, "--out", folder).code == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
