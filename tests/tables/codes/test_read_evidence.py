"""Given values, sets and intervals, in the units of the columns."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from jointebm.tables.codes.codec import TableCodec
from jointebm.tables.codes.evidence import Choice, Interval
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.frames.reading import read_frame
from support.staff_table import CODEC


def test_evidence_is_read_in_the_units_of_the_column() -> None:
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
LENGTHS = pd.DataFrame({"length": np.tile(np.arange(1, 5), 10).astype("timedelta64[s]")})


def test_ends_between_the_values_of_a_column_of_times_round_into_the_interval() -> None:
    first = 19_723  # days from 1970 to 2024-01-01
    noon = (dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 1, 3, 12))
    assert read_given({"week": noon}, WEEKLY)["week"] == Interval(first + 1, first + 2)
    assert read_given({"week": ("1969-12-30T12", "1969-12-31T12")}, WEEKLY)["week"] == Interval(-1, -1)
    lengths = TableCodec.fit(read_frame(LENGTHS).table)

    def read(said: object) -> object:
        return read_given({"length": said}, lengths)["length"]

    ends = (pd.Timedelta("1.000000001s"), dt.timedelta(seconds=3.5))
    assert read(ends) == Interval(2, 3) and read(("1500ms", " 1m")) == Interval(2, 60)
    with pytest.raises(ValueError, match="lies between the values of the column; those are whole seconds"):
        read(ends[1])
    for said in ("1 hour", "90", 90, np.timedelta64("NaT", "s"), dt.date(2024, 1, 1)):
        with pytest.raises(ValueError, match="expected a timedelta, or text such as '90m'"):
            read(said)


OFFSETS = ["2024-01-08T01:30+01:30", "2024-01-07 19:00:00-0500", "2024-01-08T00:00Z", "2024-01-08T09+09", "2024-01-08"]
ZONED = [pd.Timestamp("2024-01-08 01:00", tz="Europe/Berlin"), np.datetime64("2024-01-08T00", "h")]


@pytest.mark.parametrize("said", [*OFFSETS, *ZONED])
def test_times_with_an_offset_are_read_in_utc(said: object) -> None:
    assert read_given({"week": said}, WEEKLY)["week"] == Choice((19_730,))
    assert read_given({"week": (said, None)}, WEEKLY)["week"] == Interval(19_730, None)


def test_a_pair_is_an_interval_only_as_a_tuple() -> None:
    both, between = {"age": [31, 45]}, {"age": (31, 45)}
    assert read_given(both, CODEC) == {"age": Choice((31, 45))} and read_given(between, CODEC) == {
        "age": Interval(31, 45)
    }
    weights = [np.isfinite(CODEC.log_weights(read_given(said, CODEC))[0]) for said in (both, between)]  # type: ignore[arg-type]
    assert [each.tolist() for each in weights] == [[True, False, True], [True, True, True]]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "2024-01-03",
            "got '2024-01-03', which is off the grid of the column; the nearest value is 2024-01-01, and an interval",
        ),
        (dt.datetime(2024, 1, 1, 12), "which lies between the values of the column; those are whole days"),
        (pd.NaT, "expected a date or time"),
        ({None}, "expected a date or time"),
        (3, "expected a date or time"),
        (np.timedelta64(3, "D"), "expected a date or time"),
    ],
)
def test_a_time_off_the_grid_is_refused(said: object, message: str) -> None:
    assert read_given({"week": {"2024-01-08", dt.datetime(2024, 1, 15)}}, WEEKLY)
    with pytest.raises(ValueError, match=f"given column 'week': .*{message}"):
        read_given({"week": said}, WEEKLY)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"wage": 3}, "unknown column 'wage'"),
        ({"job": "pilot"}, "given column 'job': category 'pilot' was not seen in training; known: 'cook', 'nurse'"),
        ({"job": [["cook"]]}, r"given column 'job': category \['cook'\] was not seen in training"),
        ({"job": ("cook", "nurse")}, "without an order have no intervals"),
        ({"age": 31.5}, "given column 'age': got 31.5, which is off the grid of the column; the nearest value is 32"),
        ({"age": 10**30}, "given column 'age': got 1000000000000000000000000000000, which is off the grid"),
        ({"age": "31"}, "given column 'age': got '31', expected a number"),
        ({"age": (100, None)}, "given column 'age': no training value agrees"),
        ({"age": (1, 2, 3)}, "a tuple is an interval"),
        ({"age": set()}, "got an empty choice"),
        ({"age": np.array([31, 45])}, "got ndarray array.*, which is several values; use a set or list for choices"),
        ({"job": pd.Index(["cook"])}, "got Index.*, which is several values; use a set or list for choices"),
        ({"age": (45, 31)}, "got \\(45, 31\\), whose low end is above its high end; an interval is \\(low, high\\)"),
        ({"age": np.inf}, "given column 'age': got inf, expected a number"),
        ({"age": (np.inf, None)}, "given column 'age': no training value agrees"),
        ({"since": "yesterday"}, "expected a date or time"),
        ({"name": "person 3"}, "the model ignores this column \\(id\\)"),
    ],
)
def test_impossible_evidence_is_refused_by_column(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.log_weights(read_given(said, CODEC))


def test_infinite_ends_and_numpy_values_are_accepted() -> None:
    everything = CODEC.log_weights(read_given({"age": (-np.inf, np.inf), "pay": (None, np.inf)}, CODEC))
    assert all((everything[column] == 0).all() for column in (0, 1))  # type: ignore[union-attr]
    names = np.array(["age", "job"])
    said = {names[0]: np.int8(31), names[1]: np.str_("cook")}
    assert read_given(said, CODEC) == {"age": Choice((31,)), "job": Choice(("cook",))}
    assert read_given({"pay": Decimal("12.5")}, CODEC) == {"pay": Choice((12.5,))}


@pytest.mark.parametrize("said", [[("age", 31)], pd.DataFrame({"age": [31.0] * 3}), np.ones((3, 3))])
def test_given_values_that_are_not_a_mapping_are_refused_in_one_line(said: object) -> None:
    with pytest.raises(TypeError, match=r"given: got \w+, expected a mapping such as {'age': \(30, None\)}$"):
        read_given(said, CODEC)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got") as caught:
        read_given({"age": (said, None)}, CODEC)
    assert "\n" not in str(caught.value)
