"""Many Parquet files are one table: columns have a type that holds the values of all files, whatever the order."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import open_tables


def read_whole(folder: Path) -> pa.Table:
    tables = open_tables([folder], kinds={}, reading=ReadingOptions())
    return pa.concat_tables([tables.schema.empty_table(), *tables.read()])


def written(folder: Path, *columns: pa.Array) -> Path:
    """A folder with a file for each of these columns 'a'."""
    for number, column in enumerate(columns):
        pq.write_table(pa.table({"b": range(len(column)), "a": column}), folder / f"{number}.parquet")
    return folder


WHOLE, TEXT = pa.array([1, 2]), pa.array(["x", "y"])
TYPES = {
    "missing and text": (pa.nulls(2), TEXT, pa.string()),
    "no rows of no type": (pa.nulls(0), WHOLE, pa.int64()),
    "whole and real": (WHOLE, pa.array([0.5, None]), pa.float64()),
    "short and long": (WHOLE.cast(pa.int8()), WHOLE, pa.int64()),
    "categories and text": (TEXT.dictionary_encode(), TEXT, pa.string()),
    "units of time": (WHOLE.cast(pa.timestamp("ms")), WHOLE.cast(pa.timestamp("us")), pa.timestamp("us")),
}


@pytest.mark.parametrize("case", TYPES)
def test_types_that_go_together_are_joined_in_any_order(case: str, tmp_path: Path) -> None:
    first, second, expected = TYPES[case]
    for name, columns in {"one": (first, second), "two": (second, first)}.items():
        (tmp_path / name).mkdir()
        found = read_whole(written(tmp_path / name, *columns))
        assert found.column_names == ["b", "a"] and found.schema.field("a").type == expected
        assert found["a"].to_pylist() == [each for column in columns for each in column.cast(expected).to_pylist()]


@pytest.mark.parametrize(
    "columns",
    [(WHOLE, TEXT), (WHOLE.cast(pa.timestamp("us")), WHOLE.cast(pa.timestamp("us", "UTC"))), (WHOLE, pa.array([True]))],
    ids=["numbers and text", "time zones", "numbers and booleans"],
)
def test_types_that_do_not_go_together_are_refused_before_rows_are_read(
    columns: tuple[pa.Array, ...], tmp_path: Path
) -> None:
    for order in (columns, columns[::-1]):
        written(tmp_path, *order)
        message = r"1.parquet: column 'a' holds .*, which does not go together with .* in .*0.parquet; write both"
        with pytest.raises(ValueError, match=message):
            open_tables([tmp_path], kinds={}, reading=ReadingOptions())


def test_a_number_that_its_column_cannot_hold_is_refused_by_file(tmp_path: Path) -> None:
    written(tmp_path, pa.array([0.5]), pa.array([2**60 + 1]))
    with pytest.raises(
        ValueError, match=r"1.parquet: a value does not fit the types of the other files: Integer value"
    ):
        read_whole(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("2023", "02024"), [2023, 2024]),
        (("2023", "__HIVE_DEFAULT_PARTITION__"), [2023, None]),
        (("2023", "late%2F24"), ["2023", "late/24"]),
    ],
)
def test_names_of_folders_are_a_column_of_one_type(
    names: tuple[str, str], expected: list[object], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / f"year={name}").mkdir()
        written(tmp_path / f"year={name}", pa.array([7]))
    found = {row["year"]: row["a"] for row in read_whole(tmp_path).to_pylist()}
    assert found == dict.fromkeys(expected, 7)
