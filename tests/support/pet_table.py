"""A table with every kind of column, and helpers for its files."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

QUICK = ("--set", "num_visits=0", "--set", "rows_per_component=20", "--set", "num_draws=3")


RNG = np.random.default_rng(0)


CITIES = [f"city {number}" for number in range(90)]


def make_table(num: int) -> pd.DataFrame:
    """Every kind of column that a file may hold; two groups that differ in all of them, with holes."""
    group = RNG.integers(0, 2, num)
    table = pd.DataFrame(
        {
            "name": [f"pet {number}" for number in range(num)],
            "size": np.round(RNG.normal(10 + 20 * group, 2), 1),
            "count": pd.array(RNG.integers(0, 4, num) + 10 * group, dtype="Int64"),
            "income": np.where(group == 1, ">50K", "<=50K"),
            "indoors": pd.array(group == 0, dtype="boolean"),
            "born": np.datetime64("2020-01-01") + RNG.integers(0, 300, num) + 1000 * group,
            "city": np.array(CITIES)[RNG.integers(0, 90, num)],
            "code": np.where(group == 1, "007", "042"),
            "one": "same",
            "empty": pd.Series([None] * num, dtype=object),
        }
    )
    for name in ("size", "count", "income", "indoors", "born", "city"):
        table.loc[RNG.random(num) < 0.15, name] = None
    table["born"] = [None if pd.isna(each) else each.date() for each in table["born"]]
    return table


TABLE = make_table(150)


MODELLED = [name for name in TABLE if name not in ("name", "empty")]


def cells(path: Path) -> list[list[str]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path
