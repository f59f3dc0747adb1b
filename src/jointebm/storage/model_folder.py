"""Model folders of every kind: `config.json`, `model.safetensors`, `README.md`; nothing in them is executed.

What `config.json` declares is compared with what `model.safetensors` holds before anything of that size is made.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from jointebm.storage.atomic import new_folder, write_file
from jointebm.storage.config import Config
from jointebm.storage.untrusted import MAX_JSON, quoted, read_config
from jointebm.storage.weights import check_tensors, packed, read_weights

__all__ = [
    "BLOCK_MODEL",
    "TABLE_MODEL",
    "FolderKind",
    "check_room",
    "check_sizes",
    "folder_kind",
    "read_model",
    "write_model",
]

_C = TypeVar("_C", bound=Config)
_M = TypeVar("_M", bound=nn.Module)

HEAD = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"kind"\s*:\s*"table"')  # how a table's config.json begins
MAX_DIMENSIONS = 64  # of a block; torch computes with no more


class FolderKind(NamedTuple):
    """A kind of model folder."""

    name: Literal["block", "table"]
    what: str  # the configuration, for messages
    max_config: int  # bytes of `config.json`, at most
    opened_by: str  # what reads such a folder, for messages


BLOCK_MODEL = FolderKind("block", "a model configuration", MAX_JSON, "jointebm.load")
TABLE_MODEL = FolderKind(  # a thousand columns of numbers, or a hundred thousand categories
    "table",
    "a table's configuration",
    1 << 23,
    "JointEBM.load, or ask it by 'jointebm impute', 'predict', 'sample' and 'score'",
)


def folder_kind(path: Path) -> FolderKind:
    """The kind of a model folder, from the first bytes of `config.json`."""
    with _found(path, "config.json").open("rb") as file:
        return TABLE_MODEL if HEAD.match(file.read(200)) else BLOCK_MODEL


def write_model(path: Path, config: str, tensors: Mapping[str, Tensor], *, card: str, kind: FolderKind) -> Path:
    """Writes a new model folder, whole or not at all; `config` is the text of `config.json`, `card` that of `README.md`."""
    if len(config.encode()) > kind.max_config:
        raise ValueError(
            f"{path}: {kind.what} of {len(config.encode())} bytes, and at most {kind.max_config} are read again; describe "
            "less, such as columns with very many categories as kinds={name: 'id'}"
        )
    with new_folder(path) as scratch:
        write_file(scratch / "config.json", config.encode())
        write_file(scratch / "model.safetensors", packed(tensors))
        write_file(scratch / "README.md", card.encode())
    return path


def read_model(
    path: Path,
    kind: FolderKind,
    config_type: type[_C],
    *,
    check: Callable[[_C, Mapping[str, Tensor]], object],
    build: Callable[[_C], _M],
) -> tuple[_C, _M]:
    """Reads a model folder of a kind; errors name the file and what is wrong with it.

    Args:
        check: raises if a configuration declares more than the tensors have room for.
        build: makes the module, whose state the tensors become; called with shapes alone (torch's meta device).
    """
    found = folder_kind(path)
    if found != kind:
        raise ValueError(
            f"{path}: holds a {found.name} model, expected a {kind.name} model; open it by {found.opened_by}"
        )
    weights = _found(path, "model.safetensors")
    config = read_config(path / "config.json", kind.what, config_type, max_bytes=kind.max_config)
    tensors = read_weights(weights)
    try:
        check(config, tensors)
        with torch.device("meta"):
            module = build(config)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = f"misses or does not know {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path / 'config.json'}: does not describe a model: {quoted(reason)}") from None
    check_tensors(weights, tensors, module.state_dict())
    module.load_state_dict(tensors, assign=True)
    return config, module.eval()


def check_room(what: str, shape: tuple[int, ...], tensors: Mapping[str, Tensor]) -> None:
    """Raises if one array of this shape has more entries than all tensors; shapes may be absurdly large."""
    limit, num = _num_entries(tensors), 1
    for size in shape if len(shape) <= MAX_DIMENSIONS else (limit + 1,):
        num *= size
        if num > limit:
            raise ValueError(f"{what} is larger than all of model.safetensors, which holds {limit} numbers")


def check_sizes(what: str, description: Mapping[str, Any], tensors: Mapping[str, Tensor], *, at_most: int) -> None:
    """Raises if a description holds a whole number that no tensor has room for, or more than `at_most` of them.

    Every width and number of classes takes at least as many entries of some tensor.
    """
    sizes, limit = list(_whole_numbers(description.values())), _num_entries(tensors)
    if len(sizes) > at_most or not all(0 <= size <= limit for size in sizes):
        raise ValueError(
            f"{what}: {len(sizes)} sizes from {min(sizes)} to {max(sizes)} do not fit model.safetensors, which holds "
            f"{limit} numbers in {len(tensors)} tensors"
        )


def _found(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise FileNotFoundError(f"{path / name}: no such file; a model folder holds config.json and model.safetensors")
    return path / name


def _num_entries(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _whole_numbers(values: Iterable[Any]) -> Iterator[int]:
    """All whole numbers in plain data."""
    for value in values:
        if isinstance(value, int):
            yield value
        elif isinstance(value, Mapping | list | tuple):
            yield from _whole_numbers(value.values() if isinstance(value, Mapping) else value)
