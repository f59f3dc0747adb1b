"""Opens the models that commands name, and their data."""

from pathlib import Path

from jointebm.data import Dataset
from jointebm.data.registry import open_dataset
from jointebm.inference.model import Model
from jointebm.inference.model_loading import load_model
from jointebm.inference.pretrained import find_model
from jointebm.randomness.device_names import DeviceName
from jointebm.storage.model_folder import TABLE_MODEL, folder_kind
from jointebm.storage.untrusted import quoted

__all__ = ["holds_table", "open_data_of", "open_model", "shown_model"]


def holds_table(name: str) -> bool:
    """Whether a model is a model of a table."""
    return folder_kind(find_model(name)) == TABLE_MODEL


def open_model(name: str, device: DeviceName) -> tuple[Path, Model]:
    """Finds and loads a model of blocks."""
    path = find_model(name)
    return path, load_model(path, device=device)


def shown_model(name: str, path: Path) -> str:
    """What a summary calls a model: its folder, or pretrained:NAME."""
    return name if name.startswith("pretrained:") else str(path)


def open_data_of(model: Model, data_dir: Path | None) -> Dataset:
    """The data that a model was trained on."""
    dataset = open_dataset(model.config.data, data_dir)
    if dataset.space != model.space:
        raise ValueError(
            f"data {model.config.data!r}: got blocks {dataset.space}, but the model has {quoted(model.space)}; it was "
            "trained on other data, or by another version of jointebm"
        )
    return dataset
