"""Arrow streams as bodies of requests and answers.

A few hundred bytes of Arrow can stand for gigabytes: compressed buffers, nulls and runs, which need no bytes of their own,
and views, many of which may show one long text. Compressed streams are refused before any buffer is read, and the entries
of all others are counted before any becomes an object.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jointebm.storage.untrusted import quoted
from jointebm.watch.limits import Limits, OverLimitError

__all__ = ["ARROW", "read_stream", "read_table", "stream_of_lists"]

ARROW = "application/vnd.apache.arrow.stream"
DICTIONARY, RECORDS = 2, 3  # kinds of messages with buffers


def read_table(body: bytes, limits: Limits) -> Any:
    """The table of an Arrow stream, of numbers, booleans, texts, times, categories of them, and lists.

    Raises:
        ImportError: pyarrow is not installed.
        OverLimitError: it has more rows, or more entries than a body has bytes.
        ValueError: the body is no Arrow stream, is compressed, or holds other types.
    """
    pa = _pyarrow()
    try:
        for kind, metadata in _messages(pa, body):
            if kind in (DICTIONARY, RECORDS) and _is_compressed(metadata, kind):
                raise ValueError("Arrow: the stream is compressed; write it without compression")
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        limits.require_rows(table.num_rows)
        table.validate(full=True)
    except (pa.ArrowException, struct.error, EOFError, OSError) as error:
        raise ValueError(f"Arrow: not a stream of record batches: {str(error).splitlines()[0][:200]}") from None
    columns = zip(table.column_names, table.columns, strict=True)
    num = sum(_num_entries(pa, name, chunk) for name, column in columns for chunk in column.chunks)
    if num > limits.body:
        raise OverLimitError(f"Arrow: {num} entries, and this service reads {limits.body} at once; ask in parts")
    return table


def read_stream(body: bytes, limits: Limits) -> dict[str, list[Any]]:
    """The columns of an Arrow stream of numbers and lists of numbers, by name."""
    table = read_table(body, limits)
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError("Arrow: duplicate column; rename one of them")
    types = _pyarrow().types
    for field in table.schema:
        kind = field.type
        while hasattr(kind, "value_type") and not types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_kind(kind) for is_kind in (types.is_null, types.is_boolean, types.is_integer, types.is_floating)):
            raise ValueError(
                f"Arrow: block {quoted(field.name)!r} holds {quoted(str(kind))}, expected numbers or lists of them"
            )
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}


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


def _num_entries(pa: Any, name: str, array: Any) -> int:
    """Entries of an array and of the lists in it; raises if a few bytes may stand for many entries of its type."""
    kind, types = array.type, pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return len(array) + _num_entries(pa, name, array.values)
    leaf = kind.value_type if types.is_dictionary(kind) else kind
    known = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal)
    if not any(is_kind(leaf) for is_kind in (*known, types.is_string, types.is_large_string)):
        raise ValueError(
            f"Arrow: column {quoted(name)!r} holds {quoted(str(kind))}, expected numbers, booleans, text, times or lists"
        )
    return len(array)


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
