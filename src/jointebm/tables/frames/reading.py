"""Reads tables of pandas, polars, pyarrow and numpy into columns, and keeps how they were stored as a `FrameSchema`.

Legend: N rows.
"""

import datetime
import decimal
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column, Role, Unit
from jointebm.tables.frames.interchange import Kindred, as_table, is_stream
from jointebm.tables.frames.schemas import Backend, ColumnSchema, FrameSchema

__all__ = ["LARGEST", "Frame", "is_frame", "is_missing", "read_frame", "read_vector", "target_name", "with_column"]

LARGEST = 4e307  # of a number, so that the distance of any two is a float
_TOO_LONG = (
    "expected whole numbers from -2^63 to 2^63 - 1 (int64); convert the column to floats, which round, or to text if its "
    "numbers are labels"
)
_TABLES = "a pandas, polars or pyarrow table or a numpy array"
_OF_KIND: dict[str, Role] = {"f": "real", "i": "whole", "u": "whole", "b": "boolean", "m": "time", "M": "time"}
_UNITS: dict[str, Unit] = {"Y": "D", "M": "D", "W": "D", "D": "D", "s": "s", "ms": "ms", "us": "us", "ns": "ns"}


class Frame(NamedTuple):
    """Columns of a frame, and how it stored them."""

    schema: FrameSchema
    table: dict[Name, Column]
    num_rows: int
    index: Any  # of a pandas frame, else None
    native: Any  # the frame or array, in memory
    kind: Kindred = "table"  # of the frame that was given


def read_frame(frame: object, *, names: Sequence[Name] | None = None) -> Frame:
    """Reads a frame of pandas, polars or pyarrow, or an array of numpy (or nested lists) with these names of its columns.

    A lazy frame of polars is collected by its streaming engine. A batch of Arrow, and any object that exports a stream of
    them, such as a reader or a relation of DuckDB, is read as an Arrow table; a stream can be read once.

    NaN, None, NaT, pandas' NA and polars' and Arrow's null are all missing.

    Raises:
        TypeError: it is not a table, or a column holds an unsupported type, such as lists, bytes or structs.
        ValueError: a duplicate column name, a name that is neither text nor a number, or a number that is infinite or too
            large.
    """
    if is_frame(frame):
        native, kind = as_table(frame)
        return _read_native(native)._replace(kind=kind)
    _check_array(frame)
    return _read_array(frame, names)


def target_name(y: object, names: Sequence[Name]) -> Name:
    """The name of y next to the columns of X: its own name if it has one, else "target"."""
    name = getattr(y, "name", None)
    name = name if isinstance(name, str) and name else "target"
    if name in names:
        raise ValueError(f"y: its name {name!r} is also a column of X; rename one, or fit X alone")
    return name


def with_column(frame: Frame, name: Name, vector: Any) -> Frame:
    """The frame with one more column at the end."""
    one = _of_vector(vector, name)
    if one.num_rows != frame.num_rows or len(one.table) != 1:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {frame.num_rows} rows, and y {one.num_rows}"
        )
    schema = one.schema.select(one.schema.names, frame.schema.backend).columns[0].model_copy(update={"name": name})
    columns = (*frame.schema.columns, schema)
    table = frame.table | {name: one.table[one.schema.names[0]]}
    return frame._replace(schema=frame.schema.model_copy(update={"columns": columns}), table=table)


def read_vector(vector: Any, name: str, *, num_rows: int) -> Column:
    """One value per row: a Series, an Arrow column, or a vector. Raises ValueError unless there are `num_rows`."""
    shape = np.shape(vector)
    if shape != (num_rows,):
        raise ValueError(f"{name}: got shape {shape}, expected a vector of {num_rows} entries, one per row of X")
    return next(iter(_of_vector(vector, name).table.values()))


def _of_vector(vector: Any, name: Name) -> Frame:
    if nw.dependencies.is_into_series(vector):
        return read_frame(nw.from_native(vector, series_only=True).alias(str(name)).to_frame().to_native())
    return read_frame(np.reshape(_as_array(vector), (len(vector), -1)), names=[name])


def _as_array(array: object) -> np.ndarray:
    """An array; nested lists of text and numbers keep both types."""
    values = np.asarray(array)
    return np.array(array, dtype=object) if values.dtype.kind in "US" and not isinstance(array, np.ndarray) else values


def is_frame(frame: object) -> bool:
    """Whether it is a table of pandas, polars or pyarrow, a lazy frame, or a batch or stream of Arrow."""
    return nw.dependencies.is_into_dataframe(frame) or is_stream(frame)


def _read_native(native: Any) -> Frame:
    backend: Backend = _backend(native)
    seen = [
        name.item() if isinstance(name, np.generic) else name
        for name in getattr(native, "column_names", native.columns)
    ]
    for name in seen:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ValueError(
                f"column {name!r}: names must be text or whole numbers, got {type(name).__name__}; rename it"
            )
        if seen.count(name) > 1:
            raise ValueError(f"duplicate column {name!r}; rename one of them")
    frame = nw.from_native(native, eager_only=True)
    read = [_read_series(frame[:, i], _describe(frame[:, i], name, backend)) for i, name in enumerate(seen)]
    schema = FrameSchema(backend=backend, columns=tuple(each for each, _ in read))
    table = {each.name: column for each, column in read}
    return Frame(schema, table, len(frame), native.index if backend == "pandas" else None, native)


def _backend(native: Any) -> Backend:
    module = type(native).__module__.split(".")[0]
    for backend in ("pandas", "polars", "pyarrow"):
        if module == backend:
            return backend
    raise TypeError(f"got {_type_name(native)}, expected {_TABLES}")


def _type_name(each: object) -> str:
    return f"{type(each).__module__}.{type(each).__name__}"


def _check_array(array: object) -> None:
    """Refuses what numpy would turn into an array without names or masks."""
    if nw.dependencies.is_into_series(array):
        raise TypeError(f"got {_type_name(array)}, expected {_TABLES}; its to_frame() is a table of one column")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("got a masked array; pass array.filled(np.nan), with NaN for its missing entries")
    is_other_table = any(hasattr(array, name) for name in ("__dataframe__", "__arrow_c_stream__", "__arrow_c_array__"))
    if is_other_table or not (isinstance(array, Sequence) or hasattr(array, "__array__")) or isinstance(array, str):
        raise TypeError(f"got {_type_name(array)}, expected {_TABLES}; convert it")


def _describe(series: "nw.Series[Any]", name: Name, backend: Backend) -> ColumnSchema:
    """The schema of a series; objects may change its role."""
    dtype = series.dtype
    unit: Unit | None = None
    if dtype.is_integer() and dtype not in (nw.Int128, nw.UInt128):
        role: Role = "whole"
    elif dtype.is_integer():
        raise ValueError(f"column {name!r}: holds whole numbers of 128 bits (dtype {dtype}); {_TOO_LONG}")
    elif dtype.is_numeric():
        role = "real"
    elif dtype == nw.Boolean:
        role = "boolean"
    elif dtype in (nw.Date, nw.Datetime, nw.Duration):
        role, unit = "time", "D" if dtype == nw.Date else dtype.time_unit  # type: ignore[attr-defined]
    elif dtype in (nw.String, nw.Categorical, nw.Enum, nw.Object, nw.Unknown):
        role = "label"
    else:
        raise TypeError(
            f"column {name!r}: holds {dtype}, expected numbers, booleans, text, categories, dates or times; convert it"
        )
    categories, ordered = _categories(series, name, backend)
    return ColumnSchema(
        name=name,
        role=role,
        dtype=_pandas_name(series.to_native().dtype, role) if backend == "pandas" else type(dtype).__name__,
        arrow=str(series.to_native().type) if backend == "pyarrow" else None,
        unit=unit,
        time_zone=getattr(dtype, "time_zone", None),
        categories=categories,
        ordered=ordered,
    )


def _pandas_name(dtype: Any, role: Role) -> str:
    """The name from which pandas makes the dtype; Arrow's decimals and dictionaries have none, so they get another."""
    import pandas as pd  # the caller's own

    try:
        pd.api.types.pandas_dtype(str(dtype))
    except (NotImplementedError, TypeError, ValueError):
        return "double[pyarrow]" if role == "real" else "string[pyarrow]"
    return str(dtype)


def _categories(series: "nw.Series[Any]", name: Name, backend: Backend) -> tuple[tuple[Label, ...] | None, bool]:
    """Declared categories and whether they are ordered."""
    if backend == "pandas" and str(series.to_native().dtype) == "category":
        dtype = series.to_native().dtype
        return tuple(_label(level, name) for level in dtype.categories.tolist()), bool(dtype.ordered)
    if series.dtype == nw.Enum:
        return tuple(series.dtype.categories), False  # type: ignore[attr-defined]
    return None, False


def _read_series(series: "nw.Series[Any]", schema: ColumnSchema) -> tuple[ColumnSchema, Column]:
    if schema.role == "label":
        if schema.arrow is not None and "string" in schema.arrow:
            return _read_texts(series.to_native(), schema)
        return _read_objects(series.to_list(), schema)
    is_missing = series.is_null().to_numpy().astype(bool)
    return schema, _column(schema, series.filter(~series.is_null()).to_numpy(), is_missing)


def _read_texts(texts: Any, schema: ColumnSchema) -> tuple[ColumnSchema, Column]:
    """Texts of Arrow: each different one becomes one object."""
    import pyarrow as pa  # the caller's own

    encoded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    places = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used, place = np.unique(places, return_inverse=True)
    levels = encoded.dictionary.to_pylist()
    schema, of_levels = _read_objects([None if each < 0 else levels[each] for each in used.tolist()], schema)
    return schema, of_levels.take(place)


def _read_array(array: object, names: Sequence[Name] | None) -> Frame:
    values = _as_array(array)
    if values.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {values.ndim}D array of shape {values.shape}. Reshape your data: one row per sample, "
            "one column per feature"
        )
    names = tuple(range(values.shape[1])) if names is None else tuple(names)
    if len(names) != values.shape[1]:
        raise ValueError(f"an array of {values.shape[1]} columns, expected {len(names)}: {', '.join(map(repr, names))}")
    if values.dtype.kind not in (*_OF_KIND, "O", "U"):
        raise TypeError(f"an array of {values.dtype}, expected numbers, booleans, text, dates or objects; convert it")
    read = [_read_array_column(column, name) for name, column in zip(names, values.T, strict=True)]
    schema = FrameSchema(backend="numpy", columns=tuple(each for each, _ in read))
    return Frame(schema, {each.name: column for each, column in read}, len(values), None, values)


def _read_array_column(vector: np.ndarray, name: Name) -> tuple[ColumnSchema, Column]:
    schema = ColumnSchema(name=name, role=_OF_KIND.get(vector.dtype.kind, "label"), dtype=str(vector.dtype))
    if schema.role == "label":
        return _read_objects(vector.tolist(), schema)
    if schema.role != "time":
        return schema, _column(schema, vector, np.zeros(len(vector), dtype=bool))
    schema = schema.model_copy(update={"unit": _UNITS.get(np.datetime_data(vector.dtype)[0], "us")})
    return schema, _column(schema, vector[~np.isnat(vector)], np.isnat(vector))


def _read_objects(objects: list[object], schema: ColumnSchema) -> tuple[ColumnSchema, Column]:
    """A column of Python objects, whose types decide its role."""
    missing = np.array([is_missing(each) for each in objects], dtype=bool)
    present = [each for each, absent in zip(objects, missing, strict=True) if not absent]
    if schema.categories is None:
        role, unit = _role_of({type(each) for each in present})
        schema = schema.model_copy(update={"role": role, "unit": unit})
    if schema.role == "time" and any(
        isinstance(each, datetime.datetime) and each.tzinfo is not None for each in present
    ):
        fix = "pd.to_datetime(column, utc=True)"
        raise TypeError(f"column {schema.name!r}: holds objects of times with a zone; convert it: {fix}")
    vector = np.empty(len(present), dtype=object)
    vector[:] = [_label(each, schema.name) for each in present] if schema.role == "label" else present
    return schema, _column(schema, vector, missing)


def _role_of(types: set[type]) -> tuple[Role, Unit | None]:
    """Role and unit of objects of these types."""
    if types and all(issubclass(each, bool | np.bool_) for each in types):
        return "boolean", None
    if types and all(issubclass(each, datetime.date | np.datetime64) for each in types):
        return "time", "D" if types == {datetime.date} else "us"
    if types and all(issubclass(each, numbers.Real | decimal.Decimal) and not issubclass(each, bool) for each in types):
        return "whole" if all(issubclass(each, numbers.Integral) for each in types) else "real", None
    return "label", None


def _column(schema: ColumnSchema, present: np.ndarray, is_missing: np.ndarray) -> Column:
    """A column from the entries that are not missing; NaN among reals is missing too."""
    if schema.role == "real":
        present, is_missing = present.astype(np.float64), is_missing.copy()
        is_missing[~is_missing] = np.isnan(present)
        present = present[~np.isnan(present)]
        too_large = np.abs(present) > LARGEST
        if too_large.any():
            row, number = np.flatnonzero(~is_missing)[too_large][0], present[too_large][0]
            raise ValueError(
                f"column {schema.name!r}: row {row} holds {'infinity' if np.isinf(number) else number}; expected finite "
                f"numbers up to {LARGEST:.0e} in size, or NaN for missing ones"
            )
    elif schema.role == "whole":
        if present.dtype == np.uint64 or present.dtype.kind == "O":
            too_long = np.flatnonzero((present >= 2**63) | (present < -(2**63)))
            if len(too_long):
                row, number = np.flatnonzero(~is_missing)[too_long[0]], int(present[too_long[0]])
                raise ValueError(f"column {schema.name!r}: row {row} holds {number}; {_TOO_LONG}")
        present = present.astype(np.int64)
    elif schema.role == "time":
        present = present.astype(f"{'timedelta64' if schema.is_duration else 'datetime64'}[{schema.unit}]").astype(
            np.int64
        )
    elif schema.role == "boolean":
        present = present.astype(bool)
    values = np.zeros(len(is_missing), dtype=present.dtype)
    values[~is_missing] = present
    return Column(schema.role, values, is_missing, schema.unit, schema.categories, schema.ordered, schema.is_duration)


def is_missing(each: object) -> bool:
    """Whether an object is None, NaN, NaT or pandas' NA."""
    if each is None or type(each).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(each, float | decimal.Decimal | np.generic) and bool(each != each)


def _label(each: object, name: Name) -> Label:
    """A category as plain data."""
    plain = each.item() if isinstance(each, np.generic) else each
    if isinstance(plain, float) and abs(plain) == np.inf:
        raise ValueError(f"column {name!r}: a category is infinity; expected text, finite numbers or booleans")
    if isinstance(plain, bool | int | float):
        return plain
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise ValueError(f"column {name!r}: {quoted(ascii(plain))} is not valid Unicode; correct it") from None
        return str(plain)
    fix = "pd.to_timedelta(column)" if isinstance(plain, datetime.timedelta) else "column.astype(str)"
    raise TypeError(
        f"column {name!r}: argument must be a string or a real number (or a boolean or date), got {type(each).__name__}; "
        f"convert it: {fix}"
    )
