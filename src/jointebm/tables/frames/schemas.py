"""Storage of the columns of a frame as plain data, so that a saved model returns the kind of frame it was fitted on."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from jointebm.storage.config import Config
from jointebm.tables.codes.categories import Label
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Role, Unit

__all__ = ["Backend", "ColumnSchema", "FrameSchema"]

Backend = Literal["pandas", "polars", "pyarrow", "numpy"]

_OF_ROLE = {"real": "Float64", "whole": "Int64", "boolean": "Boolean", "label": "String"}
_OF_ROLE_NUMPY = {"real": "float64", "whole": "int64", "boolean": "bool", "label": "object"}


class ColumnSchema(Config):
    """Storage of one column."""

    name: Name = Field(description="of the column")
    role: Role = Field(description="what its values are")
    dtype: str = Field(pattern=r"^\P{C}*$", max_length=200, description="pandas' or narwhals' name of the dtype")
    arrow: str | None = Field(None, pattern=r"^\P{C}*$", max_length=200, description="pyarrow's own name of its type")
    unit: Unit | None = Field(None, description="of a time")
    time_zone: str | None = Field(None, pattern=r"^\P{C}*$", max_length=200, description="of a time")
    categories: tuple[Label, ...] | None = Field(None, description="declared ones, in their order")
    ordered: bool = Field(False, description="whether that order has a meaning")

    @property
    def is_duration(self) -> bool:
        """Whether a time is a length of time, not a date."""
        return self.dtype.lower().startswith(("timedelta", "duration"))

    def in_backend(self, backend: Backend, source: Backend) -> "ColumnSchema":
        """The same column in another kind of frame."""
        if backend == source:
            return self
        if self.role == "time":
            name = "timedelta64" if self.is_duration else "datetime64"
            dtype = f"{name}[{'s' if self.unit == 'D' else self.unit}]"
            if backend in ("polars", "pyarrow"):
                dtype = "Duration" if self.is_duration else "Date" if self.unit == "D" else "Datetime"
            return self.model_copy(update={"dtype": dtype})
        if backend == "pandas" and self.categories is not None:
            return self.model_copy(update={"dtype": "category"})
        names = _OF_ROLE if backend in ("polars", "pyarrow") else _OF_ROLE_NUMPY
        return self.model_copy(update={"dtype": names[self.role]})


class FrameSchema(Config):
    """The kind of a frame, and the storage of its columns."""

    backend: Backend = Field(description="library of the frame")
    columns: tuple[ColumnSchema, ...] = Field(description="in their order")

    @property
    def names(self) -> tuple[Name, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def column(self, name: Name) -> ColumnSchema:
        """The column called `name`."""
        return self.columns[self.names.index(name)]

    def select(self, names: Sequence[Name], backend: Backend) -> "FrameSchema":
        """Some of the columns, in a kind of frame."""
        return FrameSchema(
            backend=backend, columns=tuple(self.column(name).in_backend(backend, self.backend) for name in names)
        )
