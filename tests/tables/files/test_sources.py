"""Tables in files: rows that are read, and errors that name file, line and column."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointebm.tables.files.cells import Tally
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import ColumnType, open_source, open_tables

TYPES: dict[str, ColumnType] = {
    "name": ("text", pa.string()),
    "size": ("real", pa.float64()),
    "count": ("real", pa.int64()),
    "income": ("text", pa.string()),
    "indoors": ("boolean", pa.bool_()),
    "born": ("date", pa.date32()),
}
GOOD = "size,count,income,indoors,born\n10.1,3,<=50K,True,2020-02-03\n"


MALFORMED: dict[str, tuple[bytes, str]] = {
    "too few cells": (
        f"{GOOD}1.5,2\n".encode(),
        "line 3, column 'income': the row has 2 cells, but the header names 5",
    ),
    "too many cells": (f"{GOOD}1,2,<=50K,True,2020-02-03,9\n".encode(), "line 3, column 6: the row has 6 cells"),
    "no number": (f"{GOOD}tall,,,,\n".encode(), "line 3, column 'size': got 'tall', expected a number"),
    "infinity": (f"{GOOD}inf,,,,\n".encode(), "line 3, column 'size': got 'inf', expected a number"),
    "a number beyond the range": (f"{GOOD}1.7e308,,,,\n".encode(), "line 3, column 'size': got '1.7e308', expected a"),
    "more than a float": (f"{GOOD}1e999,,,,\n".encode(), "line 3, column 'size': got '1e999', expected a number"),
    "no boolean": (f"{GOOD},,,perhaps,\n".encode(), "line 3, column 'indoors': got 'perhaps', expected True or False"),
    "no date": (f"{GOOD},,,,2023-02-30\n".encode(), "line 3, column 'born': got '2023-02-30', expected a date such as"),
    "after a cell of two lines": (
        b'name,size\n"two\nlines",1.5\nx,tall\n',
        "line 4, column 'size': got 'tall', expected a number",
    ),
    "an unknown column": (
        b"size,weight\n1,2\n",
        "unknown column 'weight'; leave it out, for this model has 'name', 'size'",
    ),
    "a column twice": (b"size,count,size\n1,2,3\n", "line 1: duplicate column 'size'"),
    "no name": (b"size,,count\n1,2,3\n", "line 1: column 2 has no name"),
    "numbers of rows": (b",size\n0,1\n", "line 1: column 1 has no name; if it numbers the rows, leave it out"),
    "semicolons": (
        b"size;count\n1;2\n",
        "line 1: got one column, 'size;count'; name what separates its cells (--separator ';')",
    ),
    "tabs": (
        b"size\tcount\n1\t2\n",
        "line 1: got one column, 'size\\tcount'; name what separates its cells (--separator tab)",
    ),
    "empty": (b"", "is empty; expected a first line"),
    "only line breaks": (b"\n\n\n", "is empty; expected a first line"),
    "not UTF-8": (f"{GOOD}1,1,".encode() + b"caf\xe9,,\n", "line 3, column 'income': 'caf\\udce9' is not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1, column 1: "),
    "NUL": (f"{GOOD}1\0,,,,\n".encode(), "line 3, column 'size': '1\\x00' holds a NUL"),
    "an open quote": (f'{GOOD}1,2,"<=50K,True,\n'.encode(), "line 3: the row that begins here is not valid CSV"),
    "a torn quote": (f'{GOOD}1,2,"<=50"K,True,\n'.encode(), "line 3: the row that begins here is not valid CSV"),
    "a huge cell": (
        f"{GOOD}{'9' * 200_000},,,,\n".encode(),
        "line 3: the row that begins here is not valid CSV: field larger",
    ),
}


def read_whole(path: Path, **more: object) -> pa.Table:
    tables = open_tables([path], **more)  # type: ignore[arg-type]
    return pa.concat_tables([tables.schema.empty_table(), *tables.read()])


def rows_of(path: Path, *said: str) -> pa.Table:
    source = open_source(path, list(TYPES), TYPES.__getitem__, ReadingOptions().changed(missing=said))
    return pa.concat_tables([part.table for part in source.parts(None)])


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_named_by_file_line_and_column(tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.csv") as caught:
        rows_of(tmp_path / "bad.csv")
    assert message in str(caught.value)


def test_text_in_a_column_of_numbers_is_a_mistake_unless_declared(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x\n" + "".join(f"{number}\n" for number in range(60)) + "tall\n")
    with pytest.raises(
        ValueError, match=r"column 'x', line 62: got 'tall', and 60 of the column's 61 cells are numbers"
    ):
        read_whole(path, kinds={}, reading=ReadingOptions())
    assert read_whole(path, kinds={}, reading=ReadingOptions(missing=("tall",)))["x"].null_count == 1
    assert read_whole(path, kinds={"x": "categorical"}, reading=ReadingOptions())["x"].type == pa.string()
    path.write_text("x\n1\n" + "9" * 5000 + "\n")
    with pytest.raises(ValueError, match=r"t.csv, column 'x', line 3: got '999"):
        read_whole(path, kinds={}, reading=ReadingOptions())


@pytest.mark.parametrize("text", ["", " ", "NA", " NA", "NA ", "\tnull\t", " ? ", "-7", " -7.0"])
def test_spaces_around_a_missing_word_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(f'size,income\n1.5,low\n"{text}","{text}"\n')
    for table in (
        rows_of(tmp_path / "t.csv", "?", " -7"),
        read_whole(tmp_path / "t.csv", kinds={}, reading=ReadingOptions(missing=("?", " -7"))),
    ):
        assert table["size"].to_pylist() == [1.5, None] and table["income"].to_pylist() == ["low", None]


def test_missing_words_are_missing_in_parquet_too(tmp_path: Path) -> None:
    columns = {
        "size": pa.array([1.5, -7.0, None]),
        "count": pa.array([3, -7, 4], pa.int16()),
        "income": pa.array(["low", " ? ", "-7"]),
        "name": pa.array(["?", "a", "b"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    expected = {
        "size": [1.5, None, None],
        "count": [3, None, 4],
        "income": ["low", None, None],
        "name": [None, "a", "b"],
    }
    for table in (
        rows_of(tmp_path / "t.parquet", "?", "-7"),
        read_whole(tmp_path / "t.parquet", kinds={}, reading=ReadingOptions(missing=("?", "-7"))),
    ):
        assert table.to_pydict() == expected and table.schema.equals(pa.table(columns).schema)
    assert rows_of(tmp_path / "t.parquet")["count"].to_pylist() == [3, -7, 4]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda content: content[:-40],
    "overwritten": lambda content: content[:4] + b"x" * 100 + content[104:],
    "empty": lambda content: b"",  # noqa: ARG005
    "CSV": lambda content: b"size\n1\n",  # noqa: ARG005
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_parquet_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"size": [float(number) for number in range(99)]}), path)
    path.write_bytes(DAMAGED[name](path.read_bytes()))
    with pytest.raises(ValueError, match=r"t.parquet: not a readable Parquet file"):
        rows_of(path)
    with pytest.raises(ValueError, match=r"t.parquet: not a readable Parquet file"):
        read_whole(path, kinds={}, reading=ReadingOptions())


def test_cells_of_another_dialect_are_the_same_table(tmp_path: Path) -> None:
    plain, local = tmp_path / "plain.csv", tmp_path / "local.csv"
    plain.write_text("x,n,day,name\n1.5,1,2024-02-29,caf\xe9\n-2.0,,2024-03-01,a;b\n1e3,-999,2024-03-02,1.2.3\n")
    local.write_text(
        'x;n;day;name\n1,5;1;2024-02-29;caf\xe9\n-2,0;;2024-03-01;"a;b"\n1e3;-999,0;2024-03-02;1.2.3\n', "cp1252"
    )
    words = ("-999",)
    ours = ReadingOptions(missing=words, separator=";", decimal=",", encoding="cp1252")
    tables = [
        read_whole(path, kinds={}, reading=reading)
        for path, reading in ((plain, ReadingOptions(missing=words)), (local, ours))
    ]
    assert tables[0].equals(tables[1]) and tables[1]["x"].to_pylist() == [1.5, -2.0, 1000.0]
    assert tables[1]["n"].to_pylist() == [1, None, None]
    with pytest.raises(
        ValueError, match=r"line 2, column 'name': .* is not UTF-8; name the file's encoding \(--encoding\)"
    ):
        read_whole(local, kinds={}, reading=ReadingOptions(separator=";", decimal=","))


@pytest.mark.parametrize(
    ("cells", "line"), [(["1,5"] * 40 + ["1.5"], 42), (["1.5", "2.5", "7"], 2), (["1.5"] * 39 + ["?"] * 2, 2)]
)
def test_numbers_with_the_other_decimal_mark_are_no_categories(cells: list[str], line: int, tmp_path: Path) -> None:
    """Whichever mark is the other one."""
    path, swap = tmp_path / "t.csv", str.maketrans(",.", ".,")
    for mark, other, texts in ((",", ".", cells), (".", ",", [cell.translate(swap) for cell in cells])):
        path.write_text("\n".join(["n;x", *(f"3;{text}" for text in texts), ""]))
        reading = ReadingOptions(separator=";", decimal=mark)
        expected = (
            rf"column 'x', line {line}: got '1\{other}5', but .* \(--decimal '\{mark}'\); .* --decimal '\{other}'"
        )
        with pytest.raises(ValueError, match=expected):
            read_whole(path, kinds={}, reading=reading)
        read = read_whole(path, kinds={"x": "categorical"}, reading=reading)
        assert read["x"].to_pylist()[0] == texts[0] and read["n"].to_pylist()[0] == 3


def test_texts_some_of_which_have_a_comma_stay_texts() -> None:
    tally = Tally()
    for line, text in enumerate(["1,5", "1,2,3", "a", "1.5"], start=2):
        tally.add(text, line)
    assert tally.kind("column 'x'") == "text"


def test_wide_encodings_are_read_and_bytes_of_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,caf\xe9\n", "utf-16")
    assert read_whole(path, kinds={}, reading=ReadingOptions(encoding="utf-16"))["y"].to_pylist() == ["caf\xe9"]
    path.write_bytes(b"x,y\n1,2\n3")
    with pytest.raises(ValueError, match=f"{path}: is not utf-16"):
        read_whole(path, kinds={}, reading=ReadingOptions(encoding="utf-16"))
    for name in ("klingon", "zlib"):
        with pytest.raises(ValueError, match=f"unknown encoding '{name}'"):
            ReadingOptions(encoding=name)


@pytest.mark.parametrize("text", ["inf", "-Infinity", "+INF", "1e400", "-9e307"])
def test_an_infinite_cell_among_numbers_is_named_and_makes_no_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"size,kind\n1.5,inf\n2,cat\n{text},3\n")
    with pytest.raises(
        ValueError, match=r"t.csv, column 'size', line 4: got .* among numbers, expected a finite"
    ) as error:
        read_whole(path, kinds={}, reading=ReadingOptions())
    assert f"got {text!r}" in str(error.value) and f"--missing {text!r}" in str(error.value)
    with pytest.raises(ValueError, match="column 'size', line 4: got"):
        read_whole(path, kinds={"size": "numeric"}, reading=ReadingOptions())
    read = read_whole(path, kinds={}, reading=ReadingOptions(missing=(text,)))
    assert read["size"].to_pylist() == [1.5, 2.0, None]
    assert read["kind"].to_pylist()[1:] == ["cat", "3"]
    read = read_whole(path, kinds={"size": "categorical"}, reading=ReadingOptions())
    assert read["size"].to_pylist() == ["1.5", "2", text]


def test_texts_that_look_infinite_are_texts_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("size,kind\ninf,inf\nInf,no\n-inf,7\n")
    read = read_whole(path, kinds={}, reading=ReadingOptions())
    assert read.to_pydict() == {"size": ["inf", "Inf", "-inf"], "kind": ["inf", "no", "7"]}


def test_a_whole_number_of_hundreds_of_digits_is_infinite_among_numbers() -> None:
    tally = Tally()
    for line, text in enumerate(["1", "9" * 400, "3.5"], start=2):
        tally.add(text, line)
    with pytest.raises(ValueError, match=r"line 3: got '99.* among numbers, expected a finite number"):
        tally.kind("column 'x'")
    assert _parsed_kind("9" * 30) == "real"


def _parsed_kind(text: str) -> str | None:
    tally = Tally()
    tally.add(text, 2)
    return tally.kind("column 'x'")
