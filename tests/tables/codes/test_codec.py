"""Whole tables as codes, and what is known about them."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from jointebm.tables.answers.row_keys import content_keys
from jointebm.tables.codes.codec import TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Interval
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.frames.reading import read_frame

TABLE = pd.DataFrame(
    {
        "age": [31, 45, 38, 31] * 10,
        "pay": [0.0, 12.5, None, 20.0] * 10,
        "job": ["nurse", "cook", None, "cook"] * 10,
        "since": pd.to_datetime(["2020-01-01", "2021-06-01", None, "2020-01-01"] * 10),
        "name": [f"person {i}" for i in range(40)],
        "empty": [None] * 40,
    }
)
CODEC = TableCodec.fit(read_frame(TABLE).table)


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


def test_columns_may_come_in_any_order_and_kind_of_frame_or_be_left_out() -> None:
    assert (codes_of(TABLE[TABLE.columns[::-1]]) == codes_of(TABLE)).all()
    assert (codes_of(pl.from_pandas(TABLE)) == codes_of(TABLE)).all()
    assert (codes_of(TABLE[["job"]])[:, 0] == -1).all()
    floats = TABLE[["age"]].astype(float)
    floats.loc[0, "age"] = np.nan  # a hole makes a column of whole numbers one of reals
    assert (codes_of(floats)[1:, 0] == codes_of(TABLE)[1:, 0]).all() and codes_of(floats)[0, 0] == -1


def test_an_unseen_category_is_an_error_or_missing() -> None:
    strange = TABLE[["job"]].replace("nurse", "pilot")
    with pytest.raises(ValueError, match=r"column 'job': row 0 holds 'pilot', which was not there in training"):
        codes_of(strange)
    assert (codes_of(strange, unseen="missing")[:, 2] == -1).sum() == 20
    with pytest.raises(ValueError, match=r"column 'job': row 0 holds 3, which was not there in training"):
        codes_of(pd.DataFrame({"job": [3]}))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"wage": [1]}), "'wage' is no column of this model; columns are 'age', 'pay'"),
        (pd.DataFrame({"age": ["old"]}), "column 'age': holds text, and in training it held whole numbers"),
        (pd.DataFrame({"since": [3]}), "column 'since': holds whole numbers, and in training it held dates or times"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_column(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codes_of(frame)


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="kinds: 'wage' is no column; columns are 'age'"):
        TableCodec.fit(read_frame(TABLE).table, kinds={"wage": "id"})
    with pytest.raises(ValueError, match="column 'job': asked to be numeric"):
        TableCodec.fit(read_frame(TABLE).table, kinds={"job": "numeric"})


def test_evidence_is_read_in_the_columns_own_terms() -> None:
    day = pd.Timestamp("2020-01-01").to_datetime64().astype(f"datetime64[{CODEC.columns[3].unit}]").astype(int)
    said = {"age": 31, "job": {"cook"}, "pay": (10, None), "since": "2020-01-01"}
    known = read_given(said, CODEC)
    assert known == {"age": Choice((31,)), "job": Choice(("cook",)), "pay": Interval(10, None), "since": Choice((day,))}
    for same in (dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))):
        assert read_given({"since": same}, CODEC)["since"] == Choice((day,))
    weights = CODEC.log_weights(known)
    assert [None if each is None else np.isfinite(each).sum() for each in weights] == [1, 2, 1, 1, None, None]


WEEKS = pd.DataFrame({"week": [dt.date(2024, 1, 1) + dt.timedelta(weeks=number) for number in range(8)] * 5})
WEEKLY = TableCodec.fit(read_frame(WEEKS).table)
LENGTHS = pd.DataFrame({"length": pd.to_timedelta([1, 2, 3, 4] * 10, unit="s").astype("timedelta64[s]")})


def test_ends_between_the_values_of_a_column_of_times_lie_inside_the_interval() -> None:
    first = 19_723  # days from 1970 to 2024-01-01
    noon = (dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 1, 3, 12))
    assert read_given({"week": noon}, WEEKLY)["week"] == Interval(first + 1, first + 2)
    assert read_given({"week": ("1969-12-30T12", "1969-12-31T12")}, WEEKLY)["week"] == Interval(-1, -1)
    lengths = TableCodec.fit(read_frame(LENGTHS).table)
    ends = (pd.Timedelta("1.000000001s"), dt.timedelta(seconds=3.5))
    assert read_given({"length": ends}, lengths, durations=frozenset({"length"}))["length"] == Interval(2, 3)
    assert read_given({"length": ("1500ms", " 1m")}, lengths, durations=frozenset({"length"}))["length"] == Interval(
        2, 60
    )
    with pytest.raises(ValueError, match="lies between the values of the column; those are whole seconds"):
        read_given({"length": ends[1]}, lengths, durations=frozenset({"length"}))
    with pytest.raises(ValueError, match="got '1 hour', expected a timedelta, or text such as '90m' or '3600s'"):
        read_given({"length": "1 hour"}, lengths, durations=frozenset({"length"}))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("2024-01-03", r"got '2024-01-03'; values lie on a grid, near by are 2024-01-01 and intervals such as"),
        (dt.datetime(2024, 1, 1, 12), "which lies between the values of the column; those are whole days"),
        (pd.NaT, "expected a date or time"),
        ({None}, "expected a date or time"),
        (3, "expected a date or time"),
    ],
)
def test_a_time_that_the_column_cannot_hold_is_refused(said: object, message: str) -> None:
    assert read_given({"week": {"2024-01-08", dt.datetime(2024, 1, 15)}}, WEEKLY)
    with pytest.raises(ValueError, match=f"given column 'week': .*{message}"):
        read_given({"week": said}, WEEKLY)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"wage": 3}, "'wage' is no column"),
        ({"job": "pilot"}, "given column 'job': category 'pilot' was not there in training; known are 'cook', 'nurse'"),
        ({"job": ("cook", "nurse")}, "without an order have no intervals"),
        ({"age": 31.5}, "given column 'age': got 31.5; values lie on a grid, near by are 32"),
        ({"age": 10**30}, "given column 'age': got 1000000000000000000000000000000; values lie on a grid"),
        ({"age": "31"}, "given column 'age': got '31', expected a number"),
        ({"age": (100, None)}, "given column 'age': nothing in training agrees"),
        ({"age": (1, 2, 3)}, "a tuple is an interval"),
        ({"age": set()}, "an empty choice"),
        ({"age": np.array([31, 45])}, "got ndarray array.*, which is several values; use a set or list for choices"),
        ({"job": pd.Index(["cook"])}, "got Index.*, which is several values; use a set or list for choices"),
        ({"age": (45, 31)}, "got \\(45, 31\\), whose low end lies above its high end; an interval is \\(low, high\\)"),
        ({"age": np.inf}, "given column 'age': got inf, expected a number"),
        ({"age": (np.inf, None)}, "given column 'age': nothing in training agrees"),
        ({"since": "yesterday"}, "expected a date or time"),
        ({"name": "person 3"}, "the model does not know this column \\(id\\)"),
    ],
)
def test_evidence_that_cannot_be_is_refused_by_column(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.log_weights(read_given(said, CODEC))


def test_ends_may_be_infinite_and_names_and_values_numpys_own() -> None:
    everything = CODEC.log_weights(read_given({"age": (-np.inf, np.inf), "pay": (None, np.inf)}, CODEC))
    assert all((everything[column] == 0).all() for column in (0, 1))  # type: ignore[union-attr]
    names = np.array(["age", "job"])
    said = {names[0]: np.int8(31), names[1]: np.str_("cook")}
    assert read_given(said, CODEC) == {"age": Choice((31,)), "job": Choice(("cook",))}
    assert read_given({"pay": Decimal("12.5")}, CODEC) == {"pay": Choice((12.5,))}
    with pytest.raises(TypeError, match=r"given: got \[\('age', 31\)\], expected columns with what is known of them"):
        read_given([("age", 31)], CODEC)  # type: ignore[arg-type]


def test_keys_tell_rows_apart_by_content_alone() -> None:
    names = ["age", "job"]

    def keys(frame: object) -> torch.Tensor:
        table = read_frame(frame).table
        return content_keys(table, names, num_rows=len(next(iter(table.values())).values))

    whole = keys(TABLE)
    assert len(set(whole.tolist())) == 4 and whole[0] == whole[4]
    assert (keys(TABLE[["job", "age"]].iloc[::-1]) == whole.flip(0)).all()
    assert (keys(pl.from_pandas(TABLE).slice(3, 5)) == whole[3:8]).all()
    assert (keys(TABLE.astype({"age": float, "job": "category"})) == whole).all()


def test_keys_tell_whole_numbers_apart_that_floats_do_not() -> None:
    ids = pd.DataFrame({"id": [2**60, 2**60 + 1, -(2**60) - 1, 2**63 - 1, 2**63 - 2, 7]})
    keys = content_keys(read_frame(ids).table, ["id"], num_rows=6)
    assert len(set(keys.tolist())) == 6
    labels = Column("label", np.array([2**60, 2**60 + 1, 7], dtype=object), np.zeros(3, dtype=bool))
    floats = Column("real", np.array([2.0**60, 2.0**60, 7.0]), np.zeros(3, dtype=bool))
    of_labels, of_floats = (content_keys({"id": each}, ["id"], num_rows=3) for each in (labels, floats))
    assert of_labels.tolist() == keys[[0, 1, 5]].tolist()
    assert of_floats[[0, 2]].tolist() == keys[[0, 5]].tolist()
