"""Tables of other kinds: Arrow batches, streams of them, and lazy frames, read as a whole and given back as they came."""

from collections.abc import Callable
from typing import Any, Literal

import narwhals as nw

__all__ = ["Kindred", "as_table", "in_kind", "is_read_once", "is_stream"]

Kindred = Literal["table", "batch", "reader", "lazy"]  # of a frame


def is_stream(table: object) -> bool:
    """Whether it is a lazy frame of polars, or hands over Arrow batches (`__arrow_c_stream__`, `__arrow_c_array__`)."""
    if nw.dependencies.is_into_series(table):
        return False
    if nw.dependencies.is_polars_lazyframe(table):
        return True
    return hasattr(table, "__arrow_c_stream__") or (
        hasattr(table, "__arrow_c_array__") and hasattr(table, "schema")  # a batch; an array has none
    )


def is_read_once(table: object) -> bool:
    """Whether it is a stream of Arrow batches that are not in memory yet, such as a reader or a relation of DuckDB."""
    if nw.dependencies.is_into_dataframe(table) or nw.dependencies.is_polars_lazyframe(table):
        return False
    return is_stream(table) and not hasattr(table, "__arrow_c_array__")


def as_table(table: Any) -> tuple[Any, Kindred]:
    """A frame in memory, and the kind of what was given; a stream is read to its end, once.

    Example:
        >>> import pyarrow as pa
        >>> batch = pa.record_batch({"a": [1, 2]})
        >>> table, kind = as_table(batch)
        >>> kind, in_kind(table, kind).equals(batch)
        ('batch', True)
    """
    if nw.dependencies.is_into_dataframe(table) or not is_stream(table):
        return table, "table"
    if nw.dependencies.is_polars_lazyframe(table):
        return table.collect(engine="streaming"), "lazy"
    import pyarrow as pa  # the border to Arrow, which polars and DuckDB do not need

    if hasattr(table, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(table)]), "batch"
    reader = pa.RecordBatchReader.from_stream(table)
    return reader.read_all(), "reader" if isinstance(table, pa.RecordBatchReader) else "table"


def in_kind(frame: Any, kind: Kindred) -> Any:
    """An answer as the kind of frame that was asked about; other streams than Arrow's own get an Arrow table."""
    return _WRITERS[kind](frame)


def _batch(table: Any) -> Any:
    import pyarrow as pa

    combined = table.combine_chunks().to_batches()
    return combined[0] if combined else pa.RecordBatch.from_pylist([], schema=table.schema)


_WRITERS: dict[Kindred, Callable[[Any], Any]] = {
    "table": lambda frame: frame,
    "batch": _batch,
    "reader": lambda table: table.to_reader(),
    "lazy": lambda frame: frame.lazy(),
}
