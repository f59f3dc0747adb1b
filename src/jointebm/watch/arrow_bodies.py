"""Arrow streams as bodies of requests and answers.

A stream may hold compressed buffers, of which a few kilobytes unpack to gigabytes. Such streams are refused before any
buffer is read.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["ARROW", "read_stream", "read_table", "stream_of_lists"]

ARROW = "application/vnd.apache.arrow.stream"
DICTIONARY, RECORDS = 2, 3  # kinds of messages with buffers


def read_table(body: bytes) -> Any:
    """The table of an Arrow stream.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: the body is no Arrow stream, or is compressed.
    """
    pa = _pyarrow()
    try:
        for kind, metadata in _messages(pa, body):
            if kind in (DICTIONARY, RECORDS) and _is_compressed(metadata, kind):
                raise ValueError("Arrow: the stream is compressed; write it without compression")
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, struct.error, EOFError, OSError) as error:
        raise ValueError(f"Arrow: not a stream of record batches: {str(error).splitlines()[0][:200]}") from None
    return table


def read_stream(body: bytes) -> dict[str, Any]:
    """The columns of an Arrow stream by name."""
    table = read_table(body)
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError("Arrow: duplicate column; rename one of them")
    return dict(zip(table.column_names, table.columns, strict=True))


def stream_of_lists(columns: Mapping[str, Sequence[Any]], also: Mapping[str, Any]) -> bytes:
    """An Arrow stream of columns, with what else there is to say as the metadata "jointebm" of its schema."""
    pa = _pyarrow()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({"jointebm": json.dumps(also, allow_nan=False)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError:
        raise ImportError("Arrow needs pyarrow: pip install 'jointebm[tables]', or send JSON") from None
    return pa


def _messages(pa: Any, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and metadata of every message of a stream."""
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        metadata = message.metadata.to_pybytes()
        yield _uint8(metadata, _field(metadata, _root(metadata), 1)), metadata


def _is_compressed(metadata: bytes, kind: int) -> bool:
    """Whether the record batch of a message, or of its dictionary, has the field `compression` (Message.fbs)."""
    header = _table(metadata, _field(metadata, _root(metadata), 2))
    if kind == DICTIONARY:
        header = _table(metadata, _field(metadata, header, 1))
    return _field(metadata, header, 3) != 0


def _root(metadata: bytes) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffers table is; 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    size = struct.unpack_from("<H", metadata, vtable)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0


def _table(metadata: bytes, place: int) -> int:
    if place == 0:
        raise ValueError("Arrow: a message without its header")
    return place + int(struct.unpack_from("<I", metadata, place)[0])


def _uint8(metadata: bytes, place: int) -> int:
    return metadata[place] if place else 0
