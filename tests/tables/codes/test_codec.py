"""Tables to codes and back."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from jointebm.tables.codes.codec import TableCodec
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
