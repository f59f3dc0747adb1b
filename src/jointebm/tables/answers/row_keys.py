"""Keys of rows, which key their random draws: their number in the question, or an id that the user names.

Rows that differ in their number, or in their id, get independent draws, however alike they are. A number has the same key
as a whole number, a real, or a category.

Legend: N rows.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import row_keys
from jointebm.tables.codes.column import Column

__all__ = ["keys_of_draw", "keys_of_ids", "keys_of_numbers", "require_different"]

_NUMBER, _ID, _DRAW = range(1, 4)  # keys of different origin never meet, nor those of samples, which are plain numbers


def keys_of_numbers(first: int | np.ndarray, num: int) -> Tensor:
    """Keys of rows number `first`, `first + 1`, ..., or of rows with these numbers, shape (num,), int64.

    Example:
        >>> torch.equal(keys_of_numbers(0, 5)[3:], keys_of_numbers(3, 2))
        True
    """
    numbers = torch.arange(first, first + num) if isinstance(first, int) else torch.from_numpy(first)
    return _keys(_NUMBER, numbers)


def keys_of_ids(ids: Column, what: str) -> Tensor:
    """Keys of rows by their ids, shape (N,), int64; `what` names the ids in messages.

    Raises:
        ValueError: a row has no id.

    Example:
        >>> whole = Column("whole", np.array([2, 1]), np.array([False, False]))
        >>> real = Column("real", np.array([1.0, 2.0]), np.array([False, False]))
        >>> keys_of_ids(whole, "ids")[0] == keys_of_ids(real, "ids")[1]
        tensor(True)
    """
    if ids.is_missing.any():
        row = int(ids.is_missing.argmax())
        raise ValueError(
            f"{what}: row {row} has no id; give it one, or leave the ids out: draws then follow row numbers"
        )
    return _keys(_ID, torch.from_numpy(_hashes(ids)))


def keys_of_draw(keys: Tensor, draw: int) -> Tensor:
    """The keys of the same rows in draw number `draw`, for draws of different models, shape (N,), int64."""
    return _keys(_DRAW, keys, torch.full_like(keys, draw))


def require_different(keys: Tensor, what: str, *, first: int = 0) -> None:
    """Raises ValueError if two rows have one key; names the first such row, counted from `first`."""
    sorted_keys, order = keys.sort(stable=True)
    again = order[1:][sorted_keys[1:] == sorted_keys[:-1]]
    if len(again):
        row = int(again.min())
        earlier = int((keys == keys[row]).nonzero()[0])
        raise ValueError(
            f"{what}: row {first + row} has the same id as row {first + earlier}, so their draws would not be "
            "independent; give every row an id of its own, or leave the ids out: draws then follow row numbers"
        )


def _keys(origin: int, *parts: Tensor) -> Tensor:
    return row_keys(torch.stack([torch.full_like(parts[0], origin), *parts], dim=1))


def _hashes(column: Column) -> np.ndarray:
    """Shape (N,), int64."""
    if column.role != "label":
        return _of_numbers(column.values)
    return np.array([_hash(value) for value in column.values.tolist()], dtype=np.int64)


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
