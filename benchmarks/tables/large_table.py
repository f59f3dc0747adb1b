"""A generated table of twelve columns and any number of rows, written as a Parquet data set of several files.

Rows come from twenty groups; columns depend on the group and on one another. It holds reals with more different values than
are counted exactly, rounded numbers, whole numbers, a date with an order (start <= end), categories of 2 to 240 levels,
and missing entries.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["rows_of", "write_large_table"]

NUM_GROUPS, NUM_SHOPS = 20, 240
ROWS_PER_FILE = 1_000_000


def rows_of(first: int, num: int) -> pa.Table:
    """Rows `first` to `first + num - 1`; equal for any split that begins at multiples of a file."""
    generator = np.random.default_rng([19, first])
    group = (NUM_GROUPS * generator.random(num) ** 2).astype(np.int64)
    x = generator.normal(size=num) + 0.3 * group
    y = 0.8 * x + 0.6 * generator.normal(size=num)
    size = np.exp(0.2 * group + 0.5 * generator.normal(size=num))
    price = np.round(5 + 20 * size + 2 * generator.random(num), 2)
    age = np.clip(np.round(20 + 2 * group + 8 * generator.normal(size=num)), 18, 99).astype(np.int64)
    hours = np.where(generator.random(num) < 0.4, 40, generator.poisson(35 + group)).astype(np.int64)
    start = generator.integers(18_000, 20_000, num)
    end = start + generator.geometric(1 / (2 + group))
    shop = (NUM_SHOPS * generator.random(num) ** 3).astype(np.int64)
    columns = {
        "x": pa.array(x),
        "y": pa.array(y, mask=generator.random(num) < 0.1),
        "size": pa.array(size),
        "price": pa.array(price),
        "age": pa.array(age, mask=generator.random(num) < 0.05),
        "hours": pa.array(hours),
        "start": pa.array(start.astype("datetime64[D]")),
        "end": pa.array(end.astype("datetime64[D]")),
        "kind": pa.array([f"k{i}" for i in range(NUM_GROUPS)]).take(pa.array(group, mask=generator.random(num) < 0.05)),
        "shop": pa.array([f"s{i}" for i in range(NUM_SHOPS)]).take(pa.array(shop)),
        "region": pa.array([f"r{i}" for i in range(12)]).take(pa.array(shop % 12)),
        "paid": pa.array(generator.random(num) < 1 / (1 + np.exp(-y))),
    }
    return pa.table(columns)


def write_large_table(folder: Path, num_rows: int) -> None:
    """Writes part-00000.parquet and so on, of a million rows each at most."""
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, num_rows, ROWS_PER_FILE)):
        rows = rows_of(first, min(ROWS_PER_FILE, num_rows - first))
        pq.write_table(rows, folder / f"part-{number:05d}.parquet", row_group_size=1 << 17)
