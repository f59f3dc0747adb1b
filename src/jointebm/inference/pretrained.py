"""Finds model folders by path, by the name of a pretrained model, or on the Hugging Face Hub."""

import os
from importlib.resources import files
from pathlib import Path

from jointebm.storage.hub import download_model, is_hub_name

__all__ = ["find_model"]

PRETRAINED = "pretrained:"
COMMANDS = {"recipe.json": "train", "fit.json": "fit"}  # what a run folder holds from its start, and what resumes it


def find_model(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder of a model, as `jointebm.load` finds it; what is on this machine comes before the Hub."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            f"load: got {name!r}, expected the path of a model or run folder, pretrained:NAME, or owner/name on the Hub"
        )
    may_be_on_hub = isinstance(name, str) and is_hub_name(name) and not Path(name).exists()
    if revision is not None and not may_be_on_hub:
        raise ValueError(f"{os.fspath(name)}: revision {revision!r} is for models on the Hub; leave it out")
    name, known = os.fspath(name), _known()
    listed = ", ".join(known) or "(none in this installation)"
    if name.startswith(PRETRAINED):
        if name.removeprefix(PRETRAINED) not in known:
            raise FileNotFoundError(
                f"{name}: unknown pretrained model; available: {listed}. A folder that 'jointebm train' wrote works as well"
            )
        return known[name.removeprefix(PRETRAINED)]
    path = Path(name)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    for file, command in COMMANDS.items():
        if (path / file).is_file():
            raise FileNotFoundError(
                f"{name}: this run has no model yet; resume it with: jointebm {command} --resume {name}"
            )
    on_hub = ""
    if may_be_on_hub:
        try:
            return download_model(name, revision)
        except ImportError as error:
            on_hub = f"; {str(error).removeprefix(f'load: {name}: ')}"
    missing = "is not a folder" if path.exists() else "no such folder"
    found = "holds neither config.json nor model/config.json" if path.is_dir() else missing
    raise FileNotFoundError(
        f"{name}: {found}; expected a model folder, a run folder, or pretrained:NAME with NAME one of {listed}{on_hub}"
    )


def _known() -> dict[str, Path]:
    """Folders of pretrained models by name, sorted."""
    folder = Path(str(files("jointebm").joinpath("pretrained")))
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}
