"""Finds model folders by path or by the name of a pretrained model."""

import os
from importlib.resources import files
from pathlib import Path

__all__ = ["find_model"]

PRETRAINED = "pretrained:"


def find_model(name: str | os.PathLike[str]) -> Path:
    """The folder of a model.

    Args:
        name: a model folder, a run folder (its `model/` is taken), or pretrained:NAME.

    Raises:
        FileNotFoundError: no such model; lists the pretrained ones.
    """
    name = os.fspath(name)
    if name.startswith(PRETRAINED):
        return _find_pretrained(name.removeprefix(PRETRAINED))
    path = Path(name)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    missing = "is not a folder" if path.exists() else "no such folder"
    found = "holds neither config.json nor model/config.json" if path.is_dir() else missing
    raise FileNotFoundError(
        f"{name}: {found}; expected a model folder, a run folder, or pretrained:NAME with NAME one of {_listed(_known())}"
    )


def _find_pretrained(name: str) -> Path:
    known = _known()
    if name not in known:
        raise FileNotFoundError(
            f"{PRETRAINED}{name}: unknown pretrained model; available: {_listed(known)}. A folder that 'jointebm train' "
            "wrote works as well"
        )
    return known[name]


def _known() -> dict[str, Path]:
    """Folders of pretrained models by name, sorted."""
    folder = Path(str(files("jointebm").joinpath("pretrained")))
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def _listed(known: dict[str, Path]) -> str:
    return ", ".join(known) or "(none in this installation)"
