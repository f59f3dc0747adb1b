"""The grammar of `--given`: block=value pairs, separated by commas.

digit=3                   one label, or one real
attributes=[1,-1,0]       a list, nested like the shape of the block; -1 leaves a label free, nan a real
image=@file.npz           the array of the block in a file
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jointebm.spaces.space import Space
from jointebm.storage.npz import read_arrays
from jointebm.storage.untrusted import quoted

__all__ = ["Given", "parse_given"]


class Given(NamedTuple):
    """Clamped values, as `--given` names them."""

    values: dict[str, npt.NDArray[Any]]  # per block, an array that broadcasts over chains
    num_rows: int | None  # of the arrays; None if all chains get the same values


def parse_given(texts: Sequence[str], space: Space) -> Given:
    """Reads `--given`.

    Example:
        >>> from jointebm import Categorical
        >>> parse_given(["a=3,b=[1,-1]"], Space(a=Categorical(10), b=Categorical(2, (2,)))).values
        {'a': array(3), 'b': array([ 1, -1])}
    """
    values: dict[str, npt.NDArray[Any]] = {}
    num_rows: set[int] = set()
    for pair in (pair for text in texts for pair in _split_pairs(text)):
        name, separator, text = (part.strip() for part in pair.partition("="))
        if not separator or not name or not text:
            raise ValueError(
                f"--given {pair!r}: expected block=value, such as digit=3, bits=[1,-1,0] or image=@file.npz"
            )
        if name not in space:
            raise ValueError(f"--given {pair!r}: unknown block {name!r}; this model has {', '.join(map(repr, space))}")
        if name in values:
            raise ValueError(f"--given: duplicate block {name!r}; give it once")
        values[name] = _read_file(name, Path(text[1:]), space) if text.startswith("@") else _read_number(pair, text)
        if values[name].ndim > len(space[name].variable_shape):
            num_rows.add(len(values[name]))
    num_rows -= {1}
    if len(num_rows) > 1:
        raise ValueError(f"--given: got different numbers of rows, {sorted(num_rows)}; give every block as many")
    return Given(values, num_rows.pop() if num_rows else None)


def _split_pairs(text: str) -> list[str]:
    """Splits at the commas outside brackets."""
    pairs, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            pairs.append("")
        else:
            pairs[-1] += character
    return pairs


def _read_number(pair: str, text: str) -> npt.NDArray[Any]:
    try:
        value = json.loads(text.replace("nan", "NaN"))
        array = np.asarray(value)
    except (ValueError, RecursionError):
        raise ValueError(
            f"--given {pair!r}: {text!r} is neither a number nor a list of numbers of equal lengths; write digit=3, "
            "bits=[1,-1,0], or image=@file.npz for an array in a file"
        ) from None
    if array.dtype.kind not in "if":
        raise ValueError(
            f"--given {pair!r}: {text!r} does not consist of numbers; a label is a whole number, and -1 leaves it free"
        )
    return array


def _read_file(name: str, path: Path, space: Space) -> npt.NDArray[Any]:
    """Reads the array of a block and checks its values, so that an error names the file."""
    try:
        array = read_arrays(path, name)[name]
    except ValueError as error:
        raise ValueError(f"--given {name}=@{error}") from None
    shape = space[name].variable_shape
    try:
        rows = array if array.ndim > len(shape) else array[None]
        space.encode({name: np.broadcast_to(rows, (len(rows), *shape))})
    except ValueError as error:
        raise ValueError(f"--given {name}=@{path}: {quoted(error)}") from None
    return array
