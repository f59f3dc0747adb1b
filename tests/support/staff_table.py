"""A table of numbers, labels, times, names and nothing."""

import pandas as pd

from jointebm.tables.codes.codec import TableCodec
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
