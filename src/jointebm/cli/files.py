"""Files that the commands read and write: models, and outputs that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from jointebm.data import Dataset, open_dataset
from jointebm.models import Model, load
from jointebm.tables.store import MAX_CONFIG
from jointebm.untrusted import quoted, read_json

__all__ = ["check_new", "find_model", "holds_table", "new_file", "open_data_of", "open_model"]

PRETRAINED = "pretrained:"


def find_model(name: str) -> Path:
    """The folder of a model.

    Args:
        name: a model folder, a run folder, which holds `model/`, or pretrained:NAME.

    Raises:
        FileNotFoundError: there is none, with what there is.
    """
    if name.startswith(PRETRAINED):
        return _find_pretrained(name.removeprefix(PRETRAINED))
    path = Path(name)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    missing = "is not a folder" if path.exists() else "no such folder"
    found = "holds neither config.json nor model/config.json" if path.is_dir() else missing
    raise FileNotFoundError(
        f"{name}: {found}; expected a model folder, a run folder, or pretrained:NAME with NAME one of {_listed_pretrained()}"
    )


def _find_pretrained(name: str) -> Path:
    if name not in _pretrained_names():
        raise FileNotFoundError(
            f"{PRETRAINED}{name}: there is no such pretrained model; there are {_listed_pretrained()}. Any folder that "
            "'jointebm train' wrote will do as well"
        )
    return _pretrained_folder() / name


def _pretrained_folder() -> Path:
    return Path(str(files("jointebm").joinpath("pretrained")))


def _pretrained_names() -> list[str]:
    folder = _pretrained_folder()
    return sorted(entry.parent.name for entry in folder.glob("*/config.json")) if folder.is_dir() else []


def _listed_pretrained() -> str:
    return ", ".join(_pretrained_names()) or "(none in this installation)"


def holds_table(name: str) -> bool:
    """Whether a model is of a table.

    Args:
        name: a model folder, a run folder, or pretrained:NAME.
    """
    config = read_json(find_model(name) / "config.json", "a model configuration", max_bytes=MAX_CONFIG)
    return config.get("kind") == "table"


def open_model(name: str) -> tuple[Path, Model]:
    """Finds and loads a model of blocks.

    Raises:
        ValueError: it is a table's.
    """
    path = find_model(name)
    try:
        return path, load(path)
    except ValueError:
        is_table = False
        with contextlib.suppress(ValueError):  # then what `load` says is what matters
            is_table = holds_table(name)
        if is_table:
            raise ValueError(
                f"{name}: is of a table, which 'jointebm impute', 'predict', 'sample' and 'score' ask"
            ) from None
        raise


def open_data_of(model: Model, data_dir: Path | None) -> Dataset:
    """The data that a model was trained on.

    Raises:
        ValueError: there are none of that name, or their blocks are not those of the model.
    """
    dataset = open_dataset(model.config.data, data_dir)
    if dataset.space != model.space:
        raise ValueError(
            f"data {model.config.data!r}: have the blocks {dataset.space}, but the model has {quoted(model.space)}; it was "
            "trained on other data, or by another version"
        )
    return dataset


def check_new(path: Path, *endings: str) -> None:
    """Raises unless something may be written there, so that no work is done in vain; nothing is overwritten.

    Args:
        path: the file or folder to be.
        *endings: those that are allowed; none allows all.
    """
    if endings and path.suffix not in endings:
        raise ValueError(f"--out {path}: ends in {path.suffix or 'nothing'!r}, expected {' or '.join(endings)}")
    if path.exists():
        raise FileExistsError(f"{path}: exists; choose another name or remove it")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise NotADirectoryError(f"{path}: nothing can be written in {parent}; choose another place")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that gets its name when it is complete, and leaves nothing behind if it does not come to that."""
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # its content is on the disk before its name is
        os.chmod(scratch, 0o644)
        check_new(path)
        os.rename(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
