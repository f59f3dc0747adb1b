"""The border to data frames: pandas, polars, pyarrow and numpy tables in, the same kind with the same dtypes out.

Frames are read through narwhals; how their columns were stored is kept as a `FrameSchema`. The only file that reads
frames; `jointebm.tables.frames.writing` writes them.

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
from jointebm.tables.frames.schemas import Backend, ColumnSchema, FrameSchema

__all__ = ["LARGEST", "Frame", "is_frame", "is_missing", "read_frame", "target_name", "with_column"]

LARGEST = 4e307  # of a number, so that the distance of any two is a float
_TABLES = "a pandas, polars or pyarrow table or a numpy array"
_UNITS: dict[str, Unit] = {"Y": "D", "M": "D", "W": "D", "D": "D", "s": "s", "ms": "ms", "us": "us", "ns": "ns"}


class Frame(NamedTuple):
    """A frame that has been read."""

    schema: FrameSchema
    table: dict[Name, Column]
    num_rows: int
    index: Any  # of a pandas frame, None for the others
    native: Any  # the frame itself, or the array


def read_frame(frame: object, *, names: Sequence[Name] | None = None) -> Frame:
    """Reads a frame of pandas, polars or pyarrow, or an array of numpy (or nested lists).

    NaN, None, NaT, pandas' NA and polars' and Arrow's null are all missing.

    Args:
        frame: rows by columns.
        names: of the columns of an array; None numbers them from 0.

    Raises:
        TypeError: it is no table, or a column holds what no kind of column can: lists, bytes, structs, ...
        ValueError: a column name stands there twice or is neither text nor a number, or a number is infinite or too large.

    Example:
        >>> frame = read_frame(np.array([[1.5, np.nan], [2.0, 3.0]]))
        >>> frame.table[1].is_missing
        array([ True, False])
    """
    if nw.dependencies.is_polars_lazyframe(frame):
        raise TypeError("got a polars.LazyFrame; collect() it first")
    if is_frame(frame):
        return _read_native(frame)
    _check_array(frame)
    return _read_array(frame, names)


def target_name(y: object, names: Sequence[Name]) -> Name:
    """What to call y beside the columns of X: its own name, if it has one of its own, else "target".

    Raises:
        ValueError: X has a column of that name.
    """
    name = getattr(y, "name", None)
    name = name if isinstance(name, str) and name else "target"
    if name in names:
        raise ValueError(f"y is called {name!r} like a column of X; rename it, or leave the column in X and y out")
    return name


def with_column(frame: Frame, name: Name, vector: Any) -> Frame:
    """The frame and one more column behind the others.

    Raises:
        ValueError: it is not one entry per row.
    """
    if nw.dependencies.is_into_series(vector):
        native = nw.from_native(vector, series_only=True).alias(str(name)).to_frame().to_native()
        one = read_frame(native)
    else:
        one = read_frame(np.reshape(_as_array(vector), (len(vector), -1)), names=[name])
    if one.num_rows != frame.num_rows or len(one.table) != 1:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {frame.num_rows} rows, and y {one.num_rows}"
        )
    schema = one.schema.select(one.schema.names, frame.schema.backend).columns[0].model_copy(update={"name": name})
    columns = (*frame.schema.columns, schema)
    table = frame.table | {name: one.table[one.schema.names[0]]}
    return frame._replace(schema=frame.schema.model_copy(update={"columns": columns}), table=table)


def _as_array(array: object) -> np.ndarray:
    """An array; nested lists of text and numbers keep both."""
    values = np.asarray(array)
    return np.array(array, dtype=object) if values.dtype.kind in "US" and not isinstance(array, np.ndarray) else values


def is_frame(frame: object) -> bool:
    """Whether it is a table of pandas, polars or pyarrow, rather than an array or lists."""
    return nw.dependencies.is_into_dataframe(frame)


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
            raise ValueError(f"column {name!r} stands there twice; rename one of them")
    frame = nw.from_native(native, eager_only=True)
    schemas, table = [], {}
    for place, name in enumerate(seen):
        schemas.append(_describe(frame[:, place], name, backend))
        schema, table[name] = _read_series(frame[:, place], schemas[-1])
        schemas[-1] = schema
    index = native.index if backend == "pandas" else None
    return Frame(FrameSchema(backend=backend, columns=tuple(schemas)), table, len(frame), index, native)


def _backend(native: Any) -> Backend:
    module = type(native).__module__.split(".")[0]
    for backend in ("pandas", "polars", "pyarrow"):
        if module == backend and type(native).__name__ != "LazyFrame":
            return backend
    raise TypeError(f"got {_type_name(native)}, expected {_TABLES}")


def _type_name(each: object) -> str:
    return f"{type(each).__module__}.{type(each).__name__}"


def _check_array(array: object) -> None:
    """Raises for what numpy would make an array of that has lost names, or masks, or is none.

    Raises:
        TypeError: it is something else than an array or nested lists.
    """
    if nw.dependencies.is_into_series(array):
        raise TypeError(f"got {_type_name(array)}, expected {_TABLES}; its to_frame() is a table of one column")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("got a masked array; array.filled(np.nan) has its missing entries as NaN")
    is_other_table = any(hasattr(array, name) for name in ("__dataframe__", "__arrow_c_stream__", "__arrow_c_array__"))
    if is_other_table or not (isinstance(array, Sequence) or hasattr(array, "__array__")) or isinstance(array, str):
        raise TypeError(f"got {_type_name(array)}, expected {_TABLES}; convert it")


def _describe(series: "nw.Series[Any]", name: Name, backend: Backend) -> ColumnSchema:
    """The schema of a series; its role may be changed by a look at its objects."""
    dtype = series.dtype
    unit: Unit | None = None
    if dtype.is_integer():
        role: Role = "whole"
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
            f"column {name!r}: holds {dtype}; a column is of numbers, booleans, text, categories, dates or times: convert it"
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
    """What pandas makes the dtype of again; Arrow's decimals and dictionaries have no such name."""
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
    is_missing = series.is_null().to_numpy().astype(bool)
    if schema.role == "label" or series.dtype in (nw.Int128, nw.UInt128):
        return _read_objects(series.to_list(), schema)
    present = series.filter(~series.is_null()).to_numpy()
    if schema.role == "real":
        present = present.astype(np.float64)
        is_missing[~is_missing] = np.isnan(present)
        return schema, _real(present[~np.isnan(present)], is_missing, schema.name)
    if schema.role == "whole" and present.dtype.kind == "u" and (present > np.iinfo(np.int64).max).any():
        return schema.model_copy(update={"role": "real"}), _real(present.astype(np.float64), is_missing, schema.name)
    if schema.role == "time":
        present = present.astype(f"{'timedelta64' if schema.is_duration else 'datetime64'}[{schema.unit}]")
        return schema, Column("time", _spread(present.astype(np.int64), is_missing), is_missing, schema.unit)
    present = present.astype(bool if schema.role == "boolean" else np.int64)
    return schema, Column(schema.role, _spread(present, is_missing), is_missing)


def _read_objects(objects: list[object], schema: ColumnSchema) -> tuple[ColumnSchema, Column]:
    """A column of Python objects: what they are decides its role."""
    gaps = np.array([is_missing(each) for each in objects], dtype=bool)
    present = [each for each, missing in zip(objects, gaps, strict=True) if not missing]
    types = {type(each) for each in present}
    if schema.categories is None and types and str not in types:
        if all(issubclass(each, bool | np.bool_) for each in types):
            values = _spread(np.array(present, dtype=bool), gaps)
            return schema.model_copy(update={"role": "boolean"}), Column("boolean", values, gaps)
        if all(issubclass(each, datetime.date | np.datetime64) for each in types):
            if any(isinstance(each, datetime.datetime) and each.tzinfo is not None for each in present):
                way_out = "pd.to_datetime(column, utc=True)"
                raise TypeError(f"column {schema.name!r}: holds objects of times with a zone; convert it: {way_out}")
            unit: Unit = "D" if types == {datetime.date} else "us"
            values = _spread(np.array(present, dtype=f"datetime64[{unit}]").astype(np.int64), gaps)
            return schema.model_copy(update={"role": "time", "unit": unit}), Column("time", values, gaps, unit)
        if all(issubclass(each, numbers.Real | decimal.Decimal) and not issubclass(each, bool) for each in types):
            is_whole = all(issubclass(each, numbers.Integral) for each in types)
            if is_whole and all(abs(int(each)) < 2**63 for each in present):  # type: ignore[call-overload]
                values = _spread(np.array(present, dtype=np.int64), gaps)
                return schema.model_copy(update={"role": "whole"}), Column("whole", values, gaps)
            reals = _real(np.array(present, dtype=np.float64), gaps, schema.name)
            return schema.model_copy(update={"role": "real"}), reals
    labels = np.empty(len(present), dtype=object)
    labels[:] = [_label(each, schema.name) for each in present]
    values = _spread(labels, gaps)
    return schema, Column("label", values, gaps, declared=schema.categories, ordered=schema.ordered)


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
    if values.dtype.kind not in "fiubOUSmM" or values.dtype.kind == "S":
        raise TypeError(f"an array of {values.dtype}; expected numbers, booleans, text, dates or objects: convert it")
    schemas, table = [], {}
    for name, column in zip(names, values.T, strict=True):
        schema, table[name] = _read_vector(column, ColumnSchema(name=name, role="label", dtype=str(values.dtype)))
        schemas.append(schema)
    return Frame(FrameSchema(backend="numpy", columns=tuple(schemas)), table, len(values), None, values)


def _read_vector(vector: np.ndarray, schema: ColumnSchema) -> tuple[ColumnSchema, Column]:
    kind = vector.dtype.kind
    if kind in "OU":
        return _read_objects(vector.tolist(), schema)
    if kind in "mM":
        unit = _UNITS.get(np.datetime_data(vector.dtype)[0], "us")
        is_missing = np.isnat(vector)
        values = np.where(is_missing, 0, vector.astype(f"{kind}8[{unit}]").astype(np.int64))
        return schema.model_copy(update={"role": "time", "unit": unit}), Column("time", values, is_missing, unit)
    if kind == "f" or (kind == "u" and (vector > np.iinfo(np.int64).max).any()):
        reals = vector.astype(np.float64)
        return schema.model_copy(update={"role": "real"}), _real(reals[~np.isnan(reals)], np.isnan(reals), schema.name)
    role: Role = "boolean" if kind == "b" else "whole"
    column = Column(role, vector.astype(bool if kind == "b" else np.int64), np.zeros(len(vector), dtype=bool))
    return schema.model_copy(update={"role": role}), column


def _real(present: np.ndarray, is_missing: np.ndarray, name: Name) -> Column:
    too_large = np.abs(present) > LARGEST
    if too_large.any():
        row, number = np.flatnonzero(~is_missing)[too_large][0], present[too_large][0]
        what = "infinity" if np.isinf(number) else str(number)
        raise ValueError(
            f"column {name!r}: row {row} holds {what}; expected finite numbers, up to {LARGEST:.0e} in size, or NaN for "
            "missing ones"
        )
    return Column("real", _spread(present, is_missing), is_missing)


def _spread(present: np.ndarray, is_missing: np.ndarray) -> np.ndarray:
    """All rows from those that are not missing."""
    values = np.zeros(len(is_missing), dtype=present.dtype)
    values[~is_missing] = present
    return values


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
            raise ValueError(f"column {name!r}: {quoted(ascii(plain))} is no Unicode text; correct it") from None
        return str(plain)
    way_out = "pd.to_timedelta(column)" if isinstance(plain, datetime.timedelta) else "column.astype(str)"
    raise TypeError(
        f"column {name!r}: argument must be a string or a real number (or a boolean or date), got {type(each).__name__}; "
        f"convert it: {way_out}"
    )
