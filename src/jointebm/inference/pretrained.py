"""Finds model folders by path or by the name of a pretrained model."""

from importlib.resources import files
from pathlib import Path

__all__ = ["find_model"]


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
