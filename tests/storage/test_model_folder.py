"""Model folders of both kinds: modes, whole or not at all, and one `load` that tells them apart."""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import jointebm
from jointebm import Model
from jointebm.data import Toy
from jointebm.estimators import JointEBM
from jointebm.inference.model_loading import load_model
from jointebm.storage import model_folder
from jointebm.tables.answers.store import load_table
from support.block_models import small_config

pytestmark = pytest.mark.filterwarnings("ignore:the fit learned nothing")  # fits of a few visits


def save_blocks(path: Path) -> object:
    return Model(small_config(Toy().space, data="toy")).save(path)


@pytest.fixture(scope="module")
def table() -> JointEBM:
    rows = torch.arange(60).reshape(30, 2).remainder(3).numpy()
    return JointEBM(training={"max_components": 2}).fit(rows)


@pytest.fixture(params=["block", "table"])
def save(request: pytest.FixtureRequest, table: JointEBM) -> Callable[[Path], object]:
    return save_blocks if request.param == "block" else table.save


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_every_file_has_the_mode_that_the_umask_gives(
    mask: int, mode: int, save: Callable[[Path], object], tmp_path: Path, umask: Callable[[int], object]
) -> None:
    umask(mask)
    save(tmp_path / "model")
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert files == dict.fromkeys(("README.md", "config.json", "model.safetensors"), mode)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_save_that_fails_leaves_nothing(
    call: str, save: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full_disk)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_load_opens_both_kinds_and_run_folders(table: JointEBM, tmp_path: Path) -> None:
    save_blocks(tmp_path / "run" / "model")
    table.save(tmp_path / "tables" / "model")
    for path in (tmp_path / "run", str(tmp_path / "run" / "model")):
        assert isinstance(jointebm.load(path), Model)
    for path in (tmp_path / "tables", str(tmp_path / "tables" / "model")):
        assert isinstance(jointebm.load(path), JointEBM)


def test_load_finds_pretrained_models_and_lists_them_for_an_unknown_name(tmp_path: Path) -> None:
    loaded = jointebm.load("pretrained:toy")
    assert isinstance(loaded, Model) and loaded.config.name == "toy"
    with pytest.raises(
        FileNotFoundError, match="pretrained:tyo: unknown pretrained model; available: captions, digits, digits_any"
    ):
        jointebm.load("pretrained:tyo")
    with pytest.raises(
        FileNotFoundError,
        match=r"nowhere: no such folder; .* one of captions, digits, digits_any, dsprites, mnist, mnist_any, mnist_joint, t",
    ):
        jointebm.load(tmp_path / "nowhere")


def test_a_reader_of_one_kind_names_the_other(table: JointEBM, tmp_path: Path) -> None:
    save_blocks(tmp_path / "block")
    table.save(tmp_path / "table")
    with pytest.raises(
        ValueError, match=r"table: holds a table model, expected a block model; open it by JointEBM\.load"
    ):
        load_model(tmp_path / "table")
    with pytest.raises(
        ValueError, match=r"block: holds a block model, expected a table model; open it by jointebm\.load"
    ):
        load_table(tmp_path / "block")


def test_a_table_written_with_indents_is_still_a_table(table: JointEBM, tmp_path: Path) -> None:
    config = table.save(tmp_path / "model") / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=4))
    assert isinstance(jointebm.load(tmp_path / "model"), JointEBM)


def test_a_configuration_too_long_to_be_read_is_not_written(tmp_path: Path) -> None:
    small = model_folder.BLOCK_MODEL._replace(max_config=10)
    with pytest.raises(ValueError, match=re.escape("of 11 bytes, and at most 10 are read again")):
        model_folder.write_model(tmp_path / "model", "x" * 11, {}, card="", kind=small)
    assert list(tmp_path.iterdir()) == []
