"""Messages of arrays: a JSON header and, behind it, the numbers themselves.

4 bytes     length of the header, little-endian
header      JSON, padded by spaces to a multiple of 4 bytes; "arrays" lists name, type, shape and offset of each array
numbers     float32 or int32, little-endian, in the order of the list
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["finite_or_none", "pack_frame", "unpack_frame"]

TYPES = {"f": ("float32", "<f4"), "i": ("int32", "<i4")}


def pack_frame(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Packs a message.

    Example:
        >>> header, arrays = unpack_frame(pack_frame({"step": 3}, {"x": np.array([[1.5, np.nan]])}))
        >>> header["step"], arrays["x"].tolist()
        (3, [[1.5, nan]])
    """
    listed, parts, offset = [], [], 0
    for name, array in arrays.items():
        kind, stored = TYPES["f" if array.dtype.kind == "f" else "i"]
        part = np.ascontiguousarray(array, dtype=stored).tobytes()
        listed.append({"name": name, "type": kind, "shape": list(array.shape), "offset": offset})
        parts.append(part)
        offset += len(part)
    text = json.dumps({**header, "arrays": listed}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def unpack_frame(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a message; the inverse of `pack_frame`, which the page has in JavaScript."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    arrays = {}
    for each in header["arrays"]:
        stored = dict(TYPES.values())[each["type"]]
        start, count = 4 + length + each["offset"], math.prod(each["shape"])
        arrays[each["name"]] = np.frombuffer(message, stored, count, start).reshape(each["shape"])
    return header, arrays


def finite_or_none(number: float) -> float | None:
    """The number for JSON, which has neither NaN nor infinity."""
    return float(number) if math.isfinite(number) else None
