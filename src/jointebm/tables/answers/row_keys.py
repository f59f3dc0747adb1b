"""Keys of rows: hashes of their content, which key their random draws.

Equal rows have equal keys. A number has the same hash as a whole number, a real, or a category.

Legend: N rows, V columns.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import row_keys
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column

__all__ = ["content_keys"]

_MISSING = -(2**63) + 1


def content_keys(table: Mapping[Name, Column], names: Sequence[Name], *, num_rows: int) -> Tensor:
    """Hashes the rows of a table, shape (N,), int64; an absent column counts as missing.

    Example:
        >>> age = Column("real", np.array([1.0, 2.0]), np.array([False, False]))
        >>> whole = Column("whole", np.array([2, 1]), np.array([False, False]))
        >>> content_keys({"age": age}, ["age"], num_rows=2)[0] == content_keys({"age": whole}, ["age"], num_rows=2)[1]
        tensor(True)
    """
    hashes = np.full((num_rows, len(names)), _MISSING)
    for place, name in enumerate(names):
        if name in table:
            column = table[name]
            hashes[:, place] = np.where(column.is_missing, _MISSING, _hashes(column))
    return row_keys(torch.from_numpy(hashes))


def _hashes(column: Column) -> np.ndarray:
    if column.role != "label":
        return _of_numbers(column.values)
    seen: dict[object, int] = {}
    for value in column.values[~column.is_missing].tolist():
        if value not in seen:
            seen[value] = _hash(value)
    return np.array([seen.get(value, 0) for value in column.values.tolist()], dtype=np.int64)


def _hash(value: object) -> int:
    if isinstance(value, str):
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)
    return int(_of_numbers(np.array([value]))[0])


def _of_numbers(values: np.ndarray) -> np.ndarray:
    """The bits of the float, or of the whole number where floats are too coarse."""
    floats = values.astype(np.float64) + 0.0  # plus zero: -0.0 is 0.0
    is_large = (np.abs(floats) >= 2**53) & ((np.abs(floats) < 2**63) | (values.dtype.kind == "i"))
    return np.where(is_large, np.where(is_large, values, 0).astype(np.int64), floats.view(np.int64))
