"""Many numbered rows, and jobs that answer a part of them."""

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jointebm.tables import Rows
from support.rows_of_engines import ROWS

NUM_ROWS = int(os.environ.get("JOINTEBM_SOAK_ROWS", "1000000"))
ROWS_PER_PART = 10_000


def part_of(number: int) -> pa.Table:
    """Numbered rows, those of a small table again and again."""
    first = number * ROWS_PER_PART
    count = min(ROWS_PER_PART, NUM_ROWS - first)
    rows = ROWS.drop_columns(["row"]).take([place % len(ROWS) for place in range(first, first + count)])
    return rows.append_column("row", pa.array(range(first, first + count), ROWS.schema.field("row").type))


def fill(folder: Path, number: int) -> None:
    """A job of the array: the answer of a part gets its name when it is whole."""
    answer = Rows(folder / "model", "impute", number="row")(part_of(number))
    pq.write_table(answer, folder / f"writing-{number}")
    (folder / f"writing-{number}").rename(folder / "filled" / f"{number}.parquet")


class DiesOnce(Rows):
    """`Rows` whose process is killed the first time that any is asked about row 5,000."""

    def __call__(self, batch: Any) -> Any:
        mark = Path(os.environ["JOINTEBM_SOAK_MARK"])
        if 5_000 in batch["row"].to_pylist() and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)
