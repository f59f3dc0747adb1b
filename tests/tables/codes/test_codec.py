"""Tables to codes and back, and the keys of rows."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from jointebm.tables.answers.row_keys import content_keys
from jointebm.tables.codes.codec import TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import read_frame
from support.staff_table import CODEC, TABLE


def codes_of(frame: object, **more: object) -> np.ndarray:
    return CODEC.encode(read_frame(frame).table, **more)  # type: ignore[arg-type]


def test_tables_round_trip_and_missing_is_minus_one() -> None:
    codes = codes_of(TABLE)
    assert (codes[:, :4] == -1).sum(axis=0).tolist() == [0, 10, 10, 10]
    decoded = CODEC.decode(codes.clip(min=0), np.full(codes.shape, 0.5))
    seen = ~TABLE["pay"].isna().to_numpy()
    assert decoded["pay"].values[seen].tolist() == TABLE["pay"][seen].tolist()
    assert decoded["name"].is_missing.all() and decoded["empty"].is_missing.all()
    assert TableCodec.model_validate_json(CODEC.model_dump_json()) == CODEC


def test_columns_may_be_absent_or_in_any_order_and_kind_of_frame() -> None:
    assert (codes_of(TABLE[TABLE.columns[::-1]]) == codes_of(TABLE)).all()
    assert (codes_of(pl.from_pandas(TABLE)) == codes_of(TABLE)).all()
    assert (codes_of(TABLE[["job"]])[:, 0] == -1).all()
    floats = TABLE[["age"]].astype(float)
    floats.loc[0, "age"] = np.nan  # a missing entry turns whole numbers into reals
    assert (codes_of(floats)[1:, 0] == codes_of(TABLE)[1:, 0]).all() and codes_of(floats)[0, 0] == -1


def test_an_unseen_category_is_an_error_or_missing() -> None:
    strange = TABLE[["job"]].replace("nurse", "pilot")
    with pytest.raises(ValueError, match=r"column 'job': row 0 holds 'pilot', which was not seen in training"):
        codes_of(strange)
    assert (codes_of(strange, unseen="missing")[:, 2] == -1).sum() == 20
    with pytest.raises(ValueError, match=r"column 'job': row 0 holds 3, which was not seen in training"):
        codes_of(pd.DataFrame({"job": [3]}))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"wage": [1]}), "unknown column 'wage'; columns of the model: 'age', 'pay'"),
        (pd.DataFrame({"age": ["old"]}), "column 'age': holds text, and in training it held whole numbers"),
        (pd.DataFrame({"since": [3]}), "column 'since': holds whole numbers, and in training it held dates or times"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_by_name(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codes_of(frame)


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="kinds: unknown column 'wage'; columns: 'age'"):
        TableCodec.fit(read_frame(TABLE).table, kinds={"wage": "id"})
    with pytest.raises(ValueError, match="column 'job': kind is 'numeric', but"):
        TableCodec.fit(read_frame(TABLE).table, kinds={"job": "numeric"})


def test_keys_depend_on_content_alone() -> None:
    names = ["age", "job"]

    def keys(frame: object) -> torch.Tensor:
        table = read_frame(frame).table
        return content_keys(table, names, num_rows=len(next(iter(table.values())).values))

    whole = keys(TABLE)
    assert len(set(whole.tolist())) == 4 and whole[0] == whole[4]
    assert (keys(TABLE[["job", "age"]].iloc[::-1]) == whole.flip(0)).all()
    assert (keys(pl.from_pandas(TABLE).slice(3, 5)) == whole[3:8]).all()
    assert (keys(TABLE.astype({"age": float, "job": "category"})) == whole).all()


def test_keys_distinguish_whole_numbers_beyond_float_precision() -> None:
    ids = pd.DataFrame({"id": [2**60, 2**60 + 1, -(2**60) - 1, 2**63 - 1, 2**63 - 2, 7]})
    keys = content_keys(read_frame(ids).table, ["id"], num_rows=6)
    assert len(set(keys.tolist())) == 6
    labels = Column("label", np.array([2**60, 2**60 + 1, 7], dtype=object), np.zeros(3, dtype=bool))
    floats = Column("real", np.array([2.0**60, 2.0**60, 7.0]), np.zeros(3, dtype=bool))
    of_labels, of_floats = (content_keys({"id": each}, ["id"], num_rows=3) for each in (labels, floats))
    assert of_labels.tolist() == keys[[0, 1, 5]].tolist()
    assert of_floats[[0, 2]].tolist() == keys[[0, 5]].tolist()
