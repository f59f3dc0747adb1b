"""Writes columns as frames of pandas, polars, pyarrow and numpy with the names, order, dtypes and categories of a schema.

Legend: N rows.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import narwhals as nw
import numpy as np

from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.interchange import in_kind
from jointebm.tables.frames.reading import Frame
from jointebm.tables.frames.schemas import Backend, ColumnSchema, FrameSchema

__all__ = ["only_column", "write_filled", "write_frame", "write_like"]

_WHOLE = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
_DTYPES = {name: getattr(nw, name) for name in [*_WHOLE, "Float32", "Float64", "Boolean", "String", "Categorical"]}


def write_frame(table: Mapping[Name, Column], schema: FrameSchema, *, index: Any = None) -> Any:
    """Makes a frame.

    A column with missing entries whose dtype has no missing value, such as int64, becomes float64 or object.

    Example:
        >>> column = Column("whole", np.array([1, 2]), np.array([False, True]))
        >>> schema = ColumnSchema(name=0, role="whole", dtype="int64")
        >>> write_frame({0: column}, FrameSchema(backend="numpy", columns=(schema,)))
        array([[ 1.],
               [nan]])
    """
    columns = {each.name: (table[each.name], each) for each in schema.columns}
    if schema.backend == "numpy":
        return _array([_vector(*each) for each in columns.values()])
    if schema.backend == "pandas":
        import pandas as pd  # the caller's own

        series = [_pandas_series(*each, index) for each in columns.values()]
        frame = pd.concat(series, axis=1) if series else pd.DataFrame(index=index)
        frame.columns = pd.Index(list(columns))
        return frame
    if schema.backend == "pyarrow":
        import pyarrow as pa  # the caller's own

        return pa.table({str(name): _arrow_array(*each) for name, each in columns.items()})
    written = [_narwhals_series(*each, "polars") for each in columns.values()]
    return nw.from_dict({str(each.name): each for each in written}).to_native()


def write_filled(frame: Frame, drawn: Mapping[Name, Column], fitted: FrameSchema) -> Any:
    """The frame with its missing entries filled from drawn columns; entries missing in both stay missing.

    Columns without filled entries, and observed objects, are those of the caller; other columns are new, in the same dtype.
    """
    filled: dict[int, tuple[Column, ColumnSchema]] = {}
    for place, schema in enumerate(frame.schema.columns):
        column, values = frame.table[schema.name], drawn[schema.name]
        if (column.is_missing & ~values.is_missing).any():
            trained = fitted.column(schema.name).in_backend(frame.schema.backend, fitted.backend)
            filled[place] = _fill(column, values, schema, trained)
    return in_kind(_FILL[frame.schema.backend](frame, filled), frame.kind)


def write_like(table: Mapping[Name, Column], schema: FrameSchema, asked: Frame) -> Any:
    """Makes a frame of the kind of the one that was asked about, with its index."""
    return in_kind(write_frame(table, schema, index=asked.index), asked.kind)


def only_column(frame: Any) -> Any:
    """The only column of a frame: a Series, an Arrow column, or a vector."""
    if isinstance(frame, np.ndarray):
        return frame[:, 0]
    return nw.from_native(frame, eager_only=True)[:, 0].to_native()


def _fill(column: Column, drawn: Column, schema: ColumnSchema, trained: ColumnSchema) -> tuple[Column, ColumnSchema]:
    is_missing = column.is_missing & drawn.is_missing
    new = column.is_missing & ~drawn.is_missing
    if column.is_missing.all() and (schema.role != drawn.role or schema.dtype == "Unknown"):
        return drawn._replace(is_missing=is_missing), trained
    fills = drawn.in_unit(column.unit).values if schema.role == drawn.role == "time" else drawn.values
    if schema.role == "whole" and (fills[new] != np.rint(fills[new].astype(np.float64))).any():
        schema = trained  # the column held reals in training
    values = np.where(column.is_missing, fills, column.values)
    return column._replace(role=schema.role, values=values, is_missing=is_missing), schema


def _fill_array(frame: Frame, filled: Mapping[int, tuple[Column, ColumnSchema]]) -> np.ndarray:
    vectors = list(frame.native.T)
    for place, (column, schema) in filled.items():
        vector, stored = _vector(column, schema), vectors[place]
        both = vector.dtype == stored.dtype == object
        vectors[place] = np.where(frame.table[schema.name].is_missing, vector, stored) if both else vector
    return _array(vectors)


def _fill_pandas(frame: Frame, filled: Mapping[int, tuple[Column, ColumnSchema]]) -> Any:
    import pandas as pd  # the caller's own

    result = frame.native.copy()
    for place, (column, schema) in filled.items():
        stored = frame.native.iloc[:, place]
        series = _pandas_series(column, schema, frame.index)
        if series.dtype == object and stored.dtype == object:
            series = stored.where(~frame.table[schema.name].is_missing, series)
        elif isinstance(stored.dtype, pd.ArrowDtype) and schema == frame.schema.columns[place]:
            series = series.astype(stored.dtype)  # its name may not give the dtype back
        result.isetitem(place, series)
    return result


def _fill_polars(frame: Frame, filled: Mapping[int, tuple[Column, ColumnSchema]]) -> Any:
    columns = []
    for place, (column, schema) in filled.items():
        series, stored = _narwhals_series(column, schema, "polars").to_native(), frame.native.dtypes[place]
        is_new_type = schema != frame.schema.columns[place] or schema.dtype == "Enum"  # an Enum may have new levels
        columns.append(series if is_new_type else series.cast(stored))
    return frame.native.with_columns(columns)


def _fill_arrow(frame: Frame, filled: Mapping[int, tuple[Column, ColumnSchema]]) -> Any:
    result = frame.native
    for place, (column, schema) in filled.items():
        array, field = _narwhals_series(column, schema, "pyarrow").to_native(), result.schema.field(place)
        if schema == frame.schema.columns[place]:
            array = _as_stored(array, field.type)
        result = result.set_column(place, field.with_type(array.type), array)
    return result


def _arrow_array(column: Column, schema: ColumnSchema) -> Any:
    array, stored = _narwhals_series(column, schema, "pyarrow").to_native(), _arrow_type(schema.arrow or "")
    return array if stored is None else _as_stored(array, stored)


def _arrow_type(name: str) -> Any:
    """The type called so; None for those that need none, such as zoned times."""
    import pyarrow as pa  # the caller's own

    if decimal := re.fullmatch(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)", name):
        return getattr(pa, f"decimal{decimal[1]}")(int(decimal[2]), int(decimal[3]))
    if dictionary := re.fullmatch(r"dictionary<values=(\w+), indices=(\w+), ordered=([01])>", name):
        values, indices = pa.type_for_alias(dictionary[1]), pa.type_for_alias(dictionary[2])
        return pa.dictionary(indices, values, ordered=dictionary[3] == "1")
    try:
        return pa.type_for_alias(name)
    except ValueError:
        return None


def _as_stored(array: Any, arrow: Any) -> Any:
    """An Arrow array cast to a stored type."""
    if array.type == arrow:
        return array
    if hasattr(arrow, "index_type"):  # a dictionary
        array = array.cast(arrow.value_type).dictionary_encode()
    return array.cast(arrow)


_FILL: dict[Backend, Callable[[Frame, Mapping[int, tuple[Column, ColumnSchema]]], Any]] = {
    "numpy": _fill_array,
    "pandas": _fill_pandas,
    "polars": _fill_polars,
    "pyarrow": _fill_arrow,
}


def _objects(column: Column) -> np.ndarray:
    """Python objects with None for missing entries, shape (N,)."""
    objects = np.empty(len(column.values), dtype=object)
    objects[:] = column.values.tolist()
    objects[column.is_missing] = None
    return objects


def _times(column: Column, schema: ColumnSchema) -> np.ndarray:
    kind = "timedelta64" if schema.is_duration else "datetime64"
    times = column.values.astype(np.int64).view(f"{kind}[{schema.unit}]")
    return np.where(column.is_missing, np.array("NaT", dtype=times.dtype), times)


def _vector(column: Column, schema: ColumnSchema) -> np.ndarray:
    """A column as a numpy vector, shape (N,)."""
    if schema.role == "time":
        times = _times(column, schema)
        return times.astype(schema.dtype) if schema.dtype != "object" else times.astype(object)
    if schema.dtype == "object" or (schema.role == "label" and column.is_missing.any()):
        return _objects(column)
    if schema.role == "label" or not column.is_missing.any():
        return column.values.astype(schema.dtype)
    reals = np.where(column.is_missing, np.nan, column.values.astype(np.float64))
    return reals.astype(schema.dtype) if np.dtype(schema.dtype).kind == "f" else reals


def _array(vectors: list[np.ndarray]) -> np.ndarray:
    kinds = {vector.dtype.kind for vector in vectors}
    if len({vector.dtype for vector in vectors}) > 1 and not kinds <= set("fiub"):
        vectors = [vector.astype(object) for vector in vectors]
    return np.stack(vectors, axis=1)


def _pandas_series(column: Column, schema: ColumnSchema, index: Any) -> Any:
    import pandas as pd

    if schema.dtype == "category":
        declared = list(schema.categories or ())
        levels = _objects(column)
        new = [level for level in dict.fromkeys(levels.tolist()) if level is not None and level not in declared]
        return pd.Series(pd.Categorical(levels, categories=declared + new, ordered=schema.ordered), index=index)
    if schema.role == "time" and schema.dtype != "object":
        times = pd.Series(_times(column, schema), index=index)
        if schema.time_zone is not None:
            times = times.dt.tz_localize("UTC").dt.tz_convert(schema.time_zone)
        return times.astype(schema.dtype)
    if schema.dtype == "object":
        objects = _times(column, schema).astype(object) if schema.role == "time" else _objects(column)
        return pd.Series(objects, index=index, dtype=object)
    if not column.is_missing.any():
        return pd.Series(column.values, index=index).astype(schema.dtype)
    try:
        return pd.Series(pd.array(_objects(column), dtype=schema.dtype), index=index)
    except (TypeError, ValueError):  # the dtype has no missing value
        wider = np.float64 if schema.role in ("real", "whole") else object
        return pd.Series(_objects(column), index=index).astype(wider)


def _narwhals_series(column: Column, schema: ColumnSchema, backend: Literal["polars", "pyarrow"]) -> Any:
    objects = _objects(column).tolist()
    name = str(schema.name)
    if schema.role == "time":
        whole = nw.new_series(name, objects, nw.Int32 if schema.unit == "D" else nw.Int64, backend=backend)
        if schema.unit == "D":
            return whole.cast(nw.Date)
        unit: Any = schema.unit
        if schema.is_duration:
            return whole.cast(nw.Duration(unit))
        times = whole.cast(nw.Datetime(unit))
        if schema.time_zone is None:
            return times
        return times.dt.replace_time_zone("UTC").dt.convert_time_zone(schema.time_zone)
    if schema.dtype == "Enum":
        declared = list(schema.categories or ())
        new = [level for level in dict.fromkeys(objects) if level is not None and level not in declared]
        return nw.new_series(name, objects, nw.String, backend=backend).cast(nw.Enum([*map(str, declared), *new]))
    if schema.dtype not in _DTYPES:  # all missing, or decimals
        return nw.new_series(name, objects, None if schema.role == "label" else nw.Float64, backend=backend)
    first = nw.String if schema.dtype == "Categorical" else _DTYPES[schema.dtype]
    series = nw.new_series(name, objects, first, backend=backend)
    return series.cast(_DTYPES[schema.dtype]) if first is nw.String else series
