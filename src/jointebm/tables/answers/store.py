"""A fitted table as a folder: `config.json`, `model.safetensors`, `README.md`; nothing in it is executed.

The folder appears whole or not at all, and nothing is overwritten. What `config.json` declares is compared with what
`model.safetensors` holds before anything of that size is made.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from jointebm.storage.atomic import new_folder
from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted, read_config
from jointebm.storage.weights import check_tensors, read_weights
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.files.missing_words import ReadingOptions
from jointebm.tables.frames.schemas import FrameSchema

__all__ = ["MAX_CONFIG", "TableFolder", "load_table", "save_table"]

FORMAT = 1
MAX_CONFIG = 1 << 23  # bytes of config.json: a thousand columns of numbers, or a hundred thousand categories


class TableFolder(Config):
    """All of a fitted table but the weights: `config.json`."""

    format: Literal[1] = Field(1, description="version of this layout")
    kind: Literal["table"] = Field("table", description="tells it from other models")
    frame: FrameSchema = Field(description="what it was fitted on")
    codec: TableCodec = Field(description="columns and their codes")
    model: dict[str, Any] = Field(description="shapes of the model")
    target: Name | None = Field(None, description="column that `fit` got as y")
    parameters: Parameters = Field(description="of the fit and of answers")
    reading: ReadingOptions = Field(ReadingOptions(), description="how cells of files are read")

    @classmethod
    def of(
        cls, frame: FrameSchema, codec: TableCodec, model: TableModel, *, target: Name | None, parameters: Parameters
    ) -> "TableFolder":
        """The description of a model."""
        return cls(frame=frame, codec=codec, model=model.spec(), target=target, parameters=parameters)


def save_table(path: str | os.PathLike[str], config: TableFolder, model: TableModel) -> Path:
    """Writes a folder.

    Raises:
        FileExistsError: the folder exists.
        ValueError: the description is longer than `load_table` would read.
    """
    path = Path(path)
    text = config.model_dump_json(indent=None) + "\n"
    if len(text.encode()) > MAX_CONFIG:
        raise ValueError(
            f"{path}: the description of the columns takes {len(text.encode())} bytes, and at most {MAX_CONFIG} are read "
            "again; declare columns with very many categories as kinds={name: 'id'}"
        )
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    with new_folder(path) as scratch:
        (scratch / "config.json").write_text(text)
        save_file(tensors, scratch / "model.safetensors")
        (scratch / "README.md").write_text(_card(config))
    return path


def load_table(path: str | os.PathLike[str]) -> tuple[TableFolder, TableModel]:
    """Reads a folder.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file does not hold what it should, with the file and the reason.
    """
    path = Path(path)
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{path / name}: no such file; a table's folder holds config.json and model.safetensors"
            )
    config = _read_config(path / "config.json")
    tensors = read_weights(path / "model.safetensors")
    try:
        _check_declared(config, tensors)
        with torch.device("meta"):  # shapes without numbers
            model = TableModel.from_spec(config.model)
        if model.num_classes != config.codec.num_codes:
            raise ValueError("the model's columns are not those of the codec")
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = f"misses or does not know {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path / 'config.json'}: does not describe a table's model: {quoted(reason)}") from None
    check_tensors(path / "model.safetensors", tensors, {n: tuple(t.shape) for n, t in model.state_dict().items()})
    model.load_state_dict(tensors, assign=True)
    return config, model.eval()


def _read_config(path: Path) -> TableFolder:
    config = read_config(path, "a table's configuration", TableFolder, version=FORMAT, max_bytes=MAX_CONFIG)
    names = config.frame.names
    if names != config.codec.names or config.target not in (None, *names):
        raise ValueError(f"{path}: not a table's configuration: the frame, the codec and the target name other columns")
    return config


def _check_declared(config: TableFolder, tensors: Mapping[str, Tensor]) -> None:
    """Raises if the configuration declares a model for which the file has no room."""
    num_entries = sum(tensor.numel() for tensor in tensors.values())
    sizes = list(_whole_numbers(config.model))
    if len(sizes) > num_entries or max(sizes, default=0) > num_entries or min(sizes, default=0) < 0:
        raise ValueError(f"sizes do not fit model.safetensors, which holds {num_entries} numbers")
    if config.model.get("num_layers", 0) > len(tensors):
        raise ValueError(f"more layers than model.safetensors holds tensors, {len(tensors)}")


def _whole_numbers(plain: Any) -> Iterator[int]:
    """All whole numbers in plain data."""
    if isinstance(plain, int):
        yield plain
    elif isinstance(plain, Mapping | list):
        for value in plain.values() if isinstance(plain, Mapping) else plain:
            yield from _whole_numbers(value)


def _card(config: TableFolder) -> str:
    lines = [
        "# A joint density of a table",
        "",
        "Fitted by jointebm. `JointEBM.load(path)` reads it; nothing in it is executed.",
        "It holds column names, categories and frequent values of the data it was fitted on.",
        "",
        "| column | holds | codes |",
        "|---|---|---|",
    ]
    for column in config.codec.columns:
        lines.append(f"| {quoted(column.name).replace('|', '/')} | {column.role} | {column.codec.num_codes} |")
    return "\n".join(lines) + "\n"
