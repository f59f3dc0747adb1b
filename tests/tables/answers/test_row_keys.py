"""Keys of rows: by number and by id."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import Tensor

from jointebm.tables.answers.row_keys import keys_of_draw, keys_of_ids, keys_of_numbers, require_different
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import read_frame


def keys(frame: object) -> Tensor:
    return keys_of_ids(next(iter(read_frame(frame).table.values())), "ids")


def test_keys_of_numbers_do_not_depend_on_the_part() -> None:
    whole = keys_of_numbers(0, 1000)
    parts = [keys_of_numbers(first, min(7, 1000 - first)) for first in range(0, 1000, 7)]
    assert torch.equal(torch.cat(parts), whole) and len(whole.unique()) == 1000
    assert keys_of_numbers(5, 0).shape == (0,)


def test_keys_of_numbers_ids_draws_and_samples_never_meet() -> None:
    numbers, ids = keys_of_numbers(0, 500), keys(pd.DataFrame({"id": np.arange(500)}))
    draws = [keys_of_draw(each, draw) for each in (numbers, ids) for draw in range(3)]
    everything = torch.cat([torch.arange(500), numbers, ids, *draws])
    assert len(everything.unique()) == len(everything)


def test_keys_of_ids_depend_on_the_ids_alone() -> None:
    frame = pd.DataFrame({"id": ["a", "b", "7", "ä"]})
    whole = keys(frame)
    assert len(whole.unique()) == 4
    assert torch.equal(keys(frame.iloc[::-1]), whole.flip(0))
    assert torch.equal(keys(pl.from_pandas(frame).slice(1, 2)), whole[1:3])
    assert torch.equal(keys(frame.astype("category")), whole)
    numbers = keys(pd.DataFrame({"id": [3, 5]}))
    assert torch.equal(keys(pd.DataFrame({"id": [3.0, 5.0]})), numbers)
    assert torch.equal(keys(pd.DataFrame({"id": [3, 5]}, dtype=object)), numbers)


def test_keys_distinguish_whole_numbers_beyond_float_precision() -> None:
    found = keys(pd.DataFrame({"id": [2**60, 2**60 + 1, -(2**60) - 1, 2**63 - 1, 2**63 - 2, 7]}))
    assert len(found.unique()) == 6
    labels = Column("label", np.array([2**60, 2**60 + 1, 7], dtype=object), np.zeros(3, dtype=bool))
    floats = Column("real", np.array([2.0**60, 7.0]), np.zeros(2, dtype=bool))
    assert torch.equal(keys_of_ids(labels, "ids"), found[[0, 1, 5]])
    assert torch.equal(keys_of_ids(floats, "ids"), found[[0, 5]])


def test_missing_and_repeated_ids_are_named_by_row() -> None:
    with pytest.raises(ValueError, match=r"^column 'id': row 2 has no id; give it one"):
        keys_of_ids(read_frame(pd.DataFrame({"id": ["a", "b", None, None]})).table["id"], "column 'id'")
    repeated = keys(pd.DataFrame({"id": ["c", "a", "b", "b", "a"]}))
    with pytest.raises(ValueError, match=r"^ids: row 3 has the same id as row 2, so"):
        require_different(repeated, "ids")
    with pytest.raises(ValueError, match="row 4 has the same id as row 3"):
        require_different(repeated, "ids", first=1)
    require_different(repeated[:3], "ids")
