"""Rows of a table that a fit reads in chunks: of a frame in memory, a stream of Arrow, or files.

Legend: N rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jointebm.tables.codes.chunks import ROWS_PER_CHUNK, Chunk, Chunks
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.frames.reading import Frame, read_frame
from jointebm.tables.frames.schemas import FrameSchema

__all__ = ["TableRows", "rows_of_arrow", "rows_of_frame", "rows_of_stream"]


@dataclass(frozen=True, eq=False)
class TableRows:
    """A table that is read in chunks.

    Args:
        schema: how its columns are stored; of objects, such as texts, as far as that is known without their values.
        read: the chunks, from the beginning.
        is_repeatable: whether it can be read more than once.
    """

    schema: FrameSchema
    read: Callable[[], Chunks]
    is_repeatable: bool

    def schema_of(self, columns: Mapping[Name, ColumnSummary]) -> FrameSchema:
        """The schema, with roles that values decide."""
        stored = [
            each.model_copy(update={"role": columns[each.name].role, "unit": columns[each.name].unit})
            for each in self.schema.columns
        ]
        return self.schema.model_copy(update={"columns": tuple(stored)})


def rows_of_frame(frame: Frame, kept: np.ndarray | None = None) -> TableRows:
    """The rows of a frame, or some of them by number; they are numbered from 0 in their order."""

    def read_chunk(first: int) -> Chunk:
        rows: Any = slice(first, first + ROWS_PER_CHUNK)
        rows = rows if kept is None else kept[rows]
        return Chunk({name: column.take(rows) for name, column in frame.table.items()}, first)

    num_rows = frame.num_rows if kept is None else len(kept)
    return TableRows(
        frame.schema, lambda: (partial(read_chunk, first) for first in range(0, num_rows, ROWS_PER_CHUNK)), True
    )


def rows_of_stream(stream: Any) -> TableRows:
    """The rows of what exports a stream of Arrow batches, which is read once.

    Example:
        >>> import pyarrow as pa
        >>> rows = rows_of_stream(pa.table({"a": [1, 2]}).to_reader())
        >>> [read().table["a"].values.tolist() for read in rows.read()]
        [[1, 2]]
    """
    import pyarrow as pa  # the border to Arrow, which polars and DuckDB do not need

    reader = pa.RecordBatchReader.from_stream(stream)
    return rows_of_arrow(reader.schema, lambda: iter(reader), is_repeatable=False)


def rows_of_arrow(
    schema: Any, batches: Callable[[], Iterator[Any]], *, is_repeatable: bool, what: str = ""
) -> TableRows:
    """The rows of batches or tables of Arrow, of one schema.

    Args:
        schema: of all of them.
        batches: yields them, from the beginning.
        is_repeatable: whether `batches` can be called again.
        what: what they are read from, for messages.
    """
    import pyarrow as pa

    def read_chunk(batch: Any, first: int) -> Chunk:
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        try:
            return Chunk(read_frame(table).table, first)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{what}in the part that begins at row {first}: {error}") from None

    def chunks() -> Chunks:
        first = 0
        for batch in batches():
            for start in range(0, batch.num_rows, ROWS_PER_CHUNK):
                part = batch.slice(start, ROWS_PER_CHUNK)
                yield partial(read_chunk, part, first)
                first += part.num_rows

    return TableRows(read_frame(schema.empty_table()).schema, chunks, is_repeatable)
