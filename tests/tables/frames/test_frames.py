"""Frames to columns and back: missing entries, dtypes, and what is refused."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from jointebm.tables.frames.reading import read_frame, with_column
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import write_filled, write_frame

PANDAS = {
    "int64": pd.Series([1, 2, 3]),
    "int8": pd.Series([1, 2, 3], dtype="int8"),
    "Int64 with NA": pd.array([1, None, 2**62], dtype="Int64"),
    "float with NaN": pd.Series([1.0, None, 3.0]),
    "float32": pd.Series([0.5, None, 3.0], dtype="float32"),
    "Float64": pd.array([1.5, None, 2.0], dtype="Float64"),
    "bool": pd.Series([True, False, True]),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "bool objects": pd.Series([True, None, False], dtype=object),
    "text": pd.Series(["a", None, "b"]),
    "text objects": pd.Series(["a", None, "b"], dtype=object),
    "string": pd.array(["a", None, "b"], dtype="string"),
    "mixed": pd.Series(["a", None, 1], dtype=object),
    "ordered": pd.Series(pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True)),
    "numbers as categories": pd.Series(pd.Categorical([1, None, 2])),
    "times": pd.Series(pd.to_datetime(["2020-01-01 12:30:00", None, "2021-01-01 00:00:01"])),
    "zoned": pd.Series(pd.to_datetime(["2020-07-01", None, "2021-01-01"]).tz_localize("Europe/Berlin")),
    "durations": pd.Series(np.array([1, np.iinfo(np.int64).min, 2]).view("timedelta64[s]")),
    "dates": pd.Series([dt.date(2020, 1, 1), None, dt.date(2020, 1, 2)], dtype=object),
    "arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
    "all missing": pd.Series([None, None, None], dtype=object),
}


@pytest.mark.parametrize("kind", PANDAS)
def test_pandas_columns_come_back_as_they_were(kind: str) -> None:
    frame = pd.DataFrame({"before": [1, 2, 3], kind: PANDAS[kind]}, index=[7, 7, 9])
    frame[kind] = PANDAS[kind] if not isinstance(PANDAS[kind], pd.Series) else PANDAS[kind].array
    read = read_frame(frame)
    assert read.table[kind].is_missing.tolist() == frame[kind].isna().tolist()
    schema = FrameSchema.model_validate_json(read.schema.model_dump_json())
    back = write_frame(read.table, schema, index=read.index)
    pd.testing.assert_frame_equal(back, frame)


def test_polars_columns_come_back_as_they_were() -> None:
    frame = pl.DataFrame(
        {
            "whole": [1, None, 2**62],
            "real": [1.5, None, 3.0],
            "boolean": [True, None, False],
            "text": ["a", None, "b"],
            "date": [dt.date(2020, 1, 1), None, dt.date(2020, 1, 2)],
            "time": [dt.datetime(2020, 1, 1, 12), None, dt.datetime(2021, 1, 1)],
            "duration": [dt.timedelta(1), None, dt.timedelta(2)],
            "nothing": [None, None, None],
        }
    ).with_columns(
        pl.col("text").cast(pl.Categorical).alias("category"),
        pl.col("text").cast(pl.Enum(["b", "a", "z"])).alias("enum"),
        pl.col("time").dt.replace_time_zone("Europe/Berlin").alias("zoned"),
        pl.col("time").cast(pl.Datetime("ms")).alias("milliseconds"),
        (pl.col("whole") % 100).cast(pl.UInt8).alias("small"),
        pl.col("real").cast(pl.Float32).alias("single"),
    )
    read = read_frame(frame)
    assert read.table["nothing"].is_missing.all() and read.table["whole"].values[2] == 2**62
    schema = FrameSchema.model_validate_json(read.schema.model_dump_json())
    assert_frame_equal(write_frame(read.table, schema), frame)
    arrow = frame.drop("nothing", "enum").to_arrow()
    back = write_frame(read_frame(arrow).table, read_frame(arrow).schema)
    assert_frame_equal(pl.from_arrow(back), pl.from_arrow(arrow))


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, 2], [3, 4]], dtype=np.int32),
        np.array([[1, np.nan]], dtype=np.float32),
        np.array([["a", None, 1.5, True]], dtype=object),
        np.array([["a", "bc"]]),
        np.array([[True, False]]),
        np.array([["2020-01-01", "NaT"]], dtype="datetime64[s]"),
    ],
)
def test_arrays_come_back_as_they_were(array: np.ndarray) -> None:
    read = read_frame(array)
    back = write_frame(read.table, read.schema)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_every_missing_value_is_missing() -> None:
    ways = [None, np.nan, pd.NaT, pd.NA, np.float32("nan"), np.datetime64("NaT", "s"), Decimal("NaN")]
    for seen in ("seen", 1.5, True, Decimal("1.5"), dt.date(2020, 1, 1)):
        objects = pd.DataFrame({"x": pd.Series([*ways, seen], dtype=object)})
        assert read_frame(objects).table["x"].is_missing.tolist() == [True] * len(ways) + [False]
    assert read_frame(pl.DataFrame({"x": [None, float("nan"), 1.0]})).table["x"].is_missing.tolist() == [
        True,
        True,
        False,
    ]
    assert read_frame(np.array([[None], [np.nan], [2]], dtype=object)).table[0].is_missing.tolist() == [
        True,
        True,
        False,
    ]


def test_lists_of_text_and_numbers_keep_both() -> None:
    read = read_frame([["a", 1.5], ["b", None]])
    assert read.table[0].role == "label" and read.table[1].role == "real"


def test_y_becomes_one_more_column() -> None:
    read = read_frame(pd.DataFrame({"x": [1, 2]}))
    assert with_column(read, "y", ["a", "b"]).table["y"].values.tolist() == ["a", "b"]
    assert with_column(read, "y", pd.Series([1, 2], index=[5, 6])).schema.column("y").dtype == "int64"
    with pytest.raises(ValueError, match="X has 2 rows, and y 3"):
        with_column(read, "y", [1, 2, 3])


def test_missing_entries_are_filled_and_observed_ones_stay() -> None:
    frame = pd.DataFrame({"i": pd.array([1, None, 3], dtype="Int64"), "e": [np.nan] * 3, "s": ["a", "b", None]})
    trained = read_frame(pd.DataFrame({"i": [1.5, 2.5, 4.0], "e": ["p", "q", "r"], "s": ["x", "y", "z"]}))
    filled = write_filled(read_frame(frame), trained.table, trained.schema)
    assert filled["i"].tolist() == [1.0, 2.5, 3.0]  # Int64 cannot hold 2.5, so it becomes what it was in training
    assert filled["e"].tolist() == ["p", "q", "r"] and filled["s"].tolist() == ["a", "b", "z"]


def test_observed_entries_stay_in_every_arrow_type() -> None:
    seen = pa.table(
        {
            "large": pa.array(["a", "b", None], pa.large_string()),
            "view": pa.array(["a", "b", "c"], pa.string_view()),
            "category": pa.array(["a", "b", None]).dictionary_encode(),
            "money": pa.array([Decimal("1.25"), Decimal("2.50"), None]),
            "cents": pa.array([Decimal("1.25"), Decimal("2.50"), Decimal("3.75")]),
            "half": pa.array(np.array([0.5, 1.5, 2.5], dtype=np.float16)),
            "day": pa.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2), None], pa.date64()),
            "incomplete": pa.array([1, 2, None], pa.int16()),
        }
    )
    filled = write_filled(
        read_frame(seen), read_frame(pa.concat_tables([seen.slice(1, 1)] * 3)).table, read_frame(seen).schema
    )
    assert filled.schema == seen.schema
    schema = FrameSchema.model_validate_json(read_frame(seen).schema.model_dump_json())
    assert write_frame(read_frame(seen).table, schema).equals(seen)  # as a sample is made
    assert filled.slice(0, 2).equals(seen.slice(0, 2)) and filled["cents"].equals(seen["cents"])
    assert filled.slice(2)["money"].to_pylist() == [Decimal("2.50")]
    in_polars = pl.from_arrow(seen.drop_columns(["view", "half"]))
    assert isinstance(in_polars, pl.DataFrame)
    table = read_frame(in_polars)
    assert write_filled(table, read_frame(in_polars[[1, 1, 1]]).table, table.schema).schema == in_polars.schema


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([dt.datetime(2020, 1, 1, 12), dt.date(2020, 1, 1), None], dtype=object),
        pd.Series([dt.datetime(2020, 1, 1), pd.Timestamp("2020-01-01 00:00:00.000000001"), None], dtype=object),
        pd.Series([Decimal("1.25"), Decimal("0.1"), None], dtype=object),
        pd.Series([True, np.True_, None], dtype=object),
        pd.array(["a", "b", None], dtype=pd.ArrowDtype(pa.string())),
        pd.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2), None], dtype=pd.ArrowDtype(pa.date32())),
        pd.array([Decimal("1.25"), Decimal("0.1"), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        pd.array(["a", "b", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    ],
)
def test_observed_entries_stay_in_objects_and_arrow_types_of_pandas(column: object) -> None:
    frame = pd.DataFrame({"x": column, "incomplete": [None, None, 1.5]})
    filled = write_filled(read_frame(frame), read_frame(frame.iloc[[0, 0, 0]]).table, read_frame(frame).schema)
    pd.testing.assert_frame_equal(filled[["x"]].iloc[:2], frame[["x"]].iloc[:2])
    assert [type(each) for each in filled["x"][:2]] == [type(each) for each in frame["x"][:2]]
    assert filled["x"].dtype == frame["x"].dtype
    assert write_frame(read_frame(filled).table, read_frame(frame).schema)["x"].notna().all()  # as a sample is made
    assert filled["x"][2] == filled["x"][0] or frame["x"].notna().all()
    filled.loc[0, "x"] = filled["x"][1]
    assert frame["x"][0] != frame["x"][1] or isinstance(frame["x"][0], bool)  # the frame is the caller's own


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "duplicate column 'a'; rename one of them"),
        (pd.DataFrame({("a", "b"): [1]}), ValueError, "names must be text or whole numbers"),
        (pd.DataFrame({"p": pd.PeriodIndex.from_ordinals([600, 601], freq="M")}), TypeError, "column 'p'.*got Period"),
        (
            pd.DataFrame({"l": [[1], [2]]}),
            TypeError,
            "column 'l': argument must be a string or a real number.*got list",
        ),
        (pl.DataFrame({"l": [[1], [2]]}), TypeError, "column 'l': holds List"),
        (
            pl.DataFrame({"x": pl.Series([2**63], dtype=pl.UInt64)}),
            ValueError,
            r"column 'x': row 0 holds 9223372036854775808; expected whole numbers from -2\^63 to 2\^63 - 1 \(int64\)",
        ),
        (
            pl.DataFrame({"x": pl.Series([1], dtype=pl.Int128)}),
            ValueError,
            "column 'x': holds whole numbers of 128 bits",
        ),
        (
            pd.DataFrame({"x": pd.Series([None, 1, -(2**63), 2**70], dtype=object)}),
            ValueError,
            "column 'x': row 3 holds 1180591620717411303424; expected whole numbers",
        ),
        (
            np.array([[5], [2**63]], dtype=np.uint64),
            ValueError,
            "column 0: row 1 holds 9223372036854775808; expected whole numbers",
        ),
        (pl.DataFrame({"t": [dt.time(1)]}), TypeError, "column 't': holds Time"),
        (pd.DataFrame({"x": [1.0, np.inf]}), ValueError, "column 'x': row 1 holds infinity"),
        (
            pd.DataFrame({"x": [1.0, -1.7e308]}),
            ValueError,
            "column 'x': row 1 holds -1.7e\\+308; expected finite numbers up",
        ),
        (
            pd.DataFrame({"x": pd.Categorical([1.0, np.inf])}),
            ValueError,
            "column 'x': a category is infinity; expected text, finite",
        ),
        (
            pd.DataFrame({"x": pd.Series(["\ud800"], dtype=object)}),
            ValueError,
            r"column 'x': '\\ud800' is not valid Unicode",
        ),
        (
            pd.DataFrame({"x": pd.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], dtype=object)}),
            TypeError,
            r"column 'x': holds objects of times with a zone; convert it: pd.to_datetime\(column, utc=True\)",
        ),
        (
            pd.DataFrame({"x": pd.Series([dt.timedelta(1)], dtype=object)}),
            TypeError,
            r"column 'x': .*got timedelta; convert it: pd.to_timedelta\(column\)",
        ),
        (pd.Series([1, 2]), TypeError, "got pandas.*Series, expected a pandas.*; its to_frame"),
        (np.ma.masked_array([[1.0]], mask=[[True]]), TypeError, r"got a masked array.*array.filled\(np.nan\)"),
        ({"x": [1]}, TypeError, "got builtins.dict, expected a pandas, polars or pyarrow table"),
        (None, TypeError, "got builtins.NoneType, expected a pandas, polars or pyarrow table"),
        (np.zeros(3), ValueError, "Expected 2D array, got 1D array"),
        (np.zeros((2, 2), dtype=complex), TypeError, "complex128"),
    ],
)
def test_unsupported_content_is_refused_by_name(frame: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_frame(frame)
