"""Files that the commands read and write: models, and outputs that appear whole or not at all."""

import contextlib
from pathlib import Path

from jointebm.data import Dataset
from jointebm.data.registry import open_dataset
from jointebm.inference.model import Model, load
from jointebm.inference.pretrained import find_model
from jointebm.storage.untrusted import quoted, read_json
from jointebm.tables.answers.store import MAX_CONFIG

__all__ = ["holds_table", "open_data_of", "open_model"]


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
