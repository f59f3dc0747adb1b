"""Reads the weights of a model folder; what they declare is checked before any of them is touched."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from jointebm.storage.untrusted import quoted

__all__ = ["check_tensors", "read_weights"]

MAX_HEADER = 1 << 18  # thousands of tensors; a longer header would cost much memory before it is refused
DTYPES = ("F64", "F32", "F16", "BF16")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file of floats of one type.

    The tensors are views of the mapped file: one that is never looked at takes no memory, whatever size it declares.

    Raises:
        ValueError: the file is none, with the file and the reason.
    """
    with path.open("rb") as raw:
        start = raw.read(8)
    declared = int.from_bytes(start, "little")
    if len(start) < 8 or declared > MAX_HEADER:
        reason = "it is shorter than 8 bytes" if len(start) < 8 else f"its header is to have {declared} bytes"
        raise ValueError(f"{path}: not a safetensors file: {reason}, expected at most {MAX_HEADER} of header")
    try:
        with safe_open(path, framework="pt") as file:
            dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # it is no mapping
            _check_dtypes(path, dtypes)
            return {name: file.get_tensor(name) for name in dtypes}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file: {quoted(error)}") from None


def check_tensors(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises unless there are the tensors that the configuration describes, all finite, and no others.

    Args:
        path: of the file, for the message.
        tensors: what it holds.
        shapes: what `config.json` describes.
    """
    for name in sorted(shapes.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "none"
        expected = shapes.get(name, "none")
        if found != expected:
            raise ValueError(
                f"{path}: tensor {quoted(repr(name))} does not fit config.json: got {found}, expected {expected}"
            )
    for name, tensor in tensors.items():
        if tensor.numel() and not all(math.isfinite(end) for end in tensor.aminmax()):
            raise ValueError(f"{path}: tensor {quoted(repr(name))} holds NaN or infinity; the model cannot be used")


def _check_dtypes(path: Path, dtypes: dict[str, str]) -> None:
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            raise ValueError(
                f"{path}: tensor {quoted(repr(name))} does not fit config.json: it holds {dtype}, expected one of "
                f"{', '.join(DTYPES)}"
            )
    if len(set(dtypes.values())) > 1:
        raise ValueError(f"{path}: tensors of different types, {', '.join(sorted(set(dtypes.values())))}; expected one")


def _exceeds(shape: tuple[int, ...], limit: int) -> bool:
    """Whether a shape has more entries than the limit; looks no further than it must, for sizes may be huge."""
    num = 1
    for size in shape:
        num *= size
        if num > limit:
            return True
    return False


def _whole_numbers(plain: Any) -> Iterator[int]:
    """All whole numbers in plain data."""
    if isinstance(plain, int):
        yield plain
    elif isinstance(plain, Mapping | list | tuple):
        for value in plain.values() if isinstance(plain, Mapping) else plain:
            yield from _whole_numbers(value)
