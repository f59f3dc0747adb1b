"""Named tensors as a safetensors file; what a file declares is checked before any tensor of it is touched."""

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jointebm.storage.untrusted import quoted

__all__ = ["check_tensors", "packed", "read_weights"]

MAX_HEADER = 1 << 18  # bytes: thousands of tensors; a longer header would cost much memory before it is refused
DTYPES = ("F64", "F32", "F16", "BF16")


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file; takes the memory of the tensors once more.

    Tensors may share memory: each is written whole.
    """
    apart: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if place in places else plain
        places.add(place)
    return save(apart)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file of floats of one type.

    The tensors are views of the mapped file: an unread tensor takes no memory, whatever size it declares.

    Raises:
        ValueError: it is not such a file; names the file and the reason.
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


def check_tensors(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises unless the tensors of a file are all finite, with the names and shapes that `config.json` describes."""
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = (tuple(of[name].shape) if name in of else "none" for of in (tensors, expected))
        if found != wanted:
            raise ValueError(
                f"{path}: tensor {quoted(repr(name))} does not fit config.json: got {found}, expected {wanted}"
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
