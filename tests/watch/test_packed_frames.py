"""Messages of arrays."""

import json

import numpy as np
import pytest

from jointebm.watch.packed_frames import finite_or_none, pack_frame, unpack_frame


@pytest.mark.parametrize("text", ["", "x", "xy", "xyz", "a longer text with ü"])
def test_arrays_start_at_multiples_of_four_bytes_for_any_header(text: str) -> None:
    arrays = {
        "reals": np.array([[0.1, np.nan], [np.inf, -2.5]]),
        "labels": np.array([3, -1]),
        "empty": np.zeros((0, 2)),
    }
    message = pack_frame({"text": text}, arrays)
    header, found = unpack_frame(message)
    start = int.from_bytes(message[:4], "little") + 4
    assert header["text"] == text
    assert all((start + each["offset"]) % 4 == 0 for each in header["arrays"])
    assert json.loads(message[4:start])["arrays"][1]["shape"] == [2]
    for name, array in arrays.items():
        assert np.array_equal(found[name], array.astype(found[name].dtype), equal_nan=array.dtype.kind == "f")


def test_a_header_takes_no_numbers_that_are_not_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack_frame({"f": float("nan")}, {})
    assert finite_or_none(float("inf")) is None
    assert finite_or_none(1.5) == 1.5
