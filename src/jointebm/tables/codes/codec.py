"""A whole table as codes: log p(row) = log p(codes) + sum_j log p(value_j | code_j), the exact change of variables.

Legend: N rows, V columns, K_j codes of column j.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.column import Column, ColumnCodec, IgnoredCodec, Kind, Role, Unit, fit_column
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["MISSING_CODE", "Name", "TableCodec", "Unseen"]

Name = Annotated[str, Field(max_length=1000)] | int  # columns of an array are numbered
Unseen = Literal["error", "missing"]
MISSING_CODE = -1


class CodedColumn(Config):
    """A column as the model knows it."""

    name: Name = Field(description="as in the frame, or a number in an array")
    role: Role = Field(description="what its values are")
    unit: Unit | None = Field(None, description="of a time")
    codec: ColumnCodec = Field(description="its codes", discriminator="kind")


class TableCodec(Config):
    """Tables <-> codes: what every column holds, and its codec.

    Example:
        >>> age = Column("whole", np.array([31, 45, 0]), np.array([False, False, True]))
        >>> job = Column("label", np.array(["nurse", "cook", "cook"], dtype=object), np.zeros(3, dtype=bool))
        >>> codec = TableCodec.fit({"age": age, "job": job})
        >>> codec.encode({"job": job, "age": age})
        array([[ 0,  1],
               [ 1,  0],
               [-1,  0]])
    """

    columns: tuple[CodedColumn, ...] = Field(min_length=1, description="in their order")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({column.name for column in self.columns}) < len(self.columns):
            raise ValueError("a column name stands there twice")
        return self

    @classmethod
    def fit(
        cls,
        table: Mapping[Name, Column],
        *,
        kinds: Mapping[Name, Kind] | None = None,
        max_bins: int = 48,
        max_levels: int = 64,
    ) -> "TableCodec":
        """Chooses the codec of every column.

        Args:
            table: training columns of equal length.
            kinds: overrules the policy for some columns.
            max_bins: budget of codes for a column of numbers.
            max_levels: budget of codes for a column of categories.

        Raises:
            ValueError: a column that cannot be what `kinds` says, or a name there that is no column.
        """
        kinds = kinds or {}
        for name in kinds:
            if name not in table:
                raise ValueError(f"kinds: {name!r} is no column; columns are {_listed(table)}")
        columns = []
        for name, column in table.items():
            try:
                codec = fit_column(column, kind=kinds.get(name), max_bins=max_bins, max_levels=max_levels)
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None
            columns.append(CodedColumn(name=name, role=column.role, unit=column.unit, codec=codec))
        return cls(columns=tuple(columns))

    @property
    def names(self) -> tuple[Name, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def num_codes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return tuple(column.codec.num_codes for column in self.columns)

    @property
    def is_ordered(self) -> tuple[bool, ...]:
        """Whether neighbouring codes are alike, for each column."""
        return tuple(column.codec.is_ordered for column in self.columns)

    def index(self, name: object) -> int:
        """Place of a column.

        Raises:
            ValueError: there is none of this name.
        """
        plain = name.item() if isinstance(name, np.generic) else name
        for place, known in enumerate(self.names):
            if type(known) is type(plain) and known == plain:
                return place
        raise ValueError(f"{name!r} is no column of this model; columns are {_listed(self.names)}")

    def encode(self, table: Mapping[Name, Column], *, unseen: Unseen = "error") -> np.ndarray:
        """Codes, shape (N, V), int64; -1 where an entry is missing or its column is not in the table.

        Args:
            table: some of the columns, in any order, at least one.
            unseen: what becomes of a category that was not there in training.

        Raises:
            ValueError: a column that the model does not know or that holds something else, or an unseen category.
        """
        for name in table:
            self.index(name)
        num_rows = len(next(iter(table.values())).values)
        codes = np.full((num_rows, len(self.columns)), MISSING_CODE)
        for place, coded in enumerate(self.columns):
            if isinstance(coded.codec, IgnoredCodec):
                codes[:, place] = 0
            elif coded.name in table:
                codes[:, place] = _encode(coded, table[coded.name], unseen)
        return codes

    def decode(
        self, codes: np.ndarray, uniforms: np.ndarray, *, evidence: Mapping[Name, Evidence] | None = None
    ) -> dict[Name, Column]:
        """Draws values inside their codes.

        Args:
            codes: shape (N, V); none may be missing.
            uniforms: on [0, 1), float64, shape (N, V).
            evidence: what is known about some columns; their codes must agree with it.
        """
        return {
            coded.name: _decode(coded, codes[:, place], uniforms[:, place], (evidence or {}).get(coded.name))
            for place, coded in enumerate(self.columns)
        }

    def log_prob(self, table: Mapping[Name, Column], codes: np.ndarray) -> np.ndarray:
        """log p(value | code) of each entry, shape (N, V), nats; zero where the code is missing."""
        log_prob = np.zeros(codes.shape)
        for place, coded in enumerate(self.columns):
            rows = np.flatnonzero(codes[:, place] != MISSING_CODE)
            if coded.name in table and not isinstance(coded.codec, IgnoredCodec):
                values = _converted(coded, table[coded.name]).values[rows]
                log_prob[rows, place] = coded.codec.log_prob(values, codes[rows, place])
        return log_prob

    def converted(self, name: Name, column: Column) -> Column:
        """A column in the role and unit it had in training.

        Raises:
            ValueError: it holds something else.
        """
        return _converted(self.columns[self.index(name)], column)

    def log_weights(self, evidence: Mapping[Name, Evidence]) -> list[np.ndarray | None]:
        """log p(evidence | code) of each column, shape (K_j,), or None where nothing is known.

        Raises:
            ValueError: evidence about an unknown column, or of which no training value was a case.
        """
        log_weights: list[np.ndarray | None] = [None] * len(self.columns)
        for name, known in evidence.items():
            place = self.index(name)
            try:
                found = self.columns[place].codec.log_weights(known)
                if np.isneginf(found).all():
                    raise ValueError("nothing in training agrees with it; widen the interval")
            except ValueError as error:
                raise ValueError(f"given column {name!r}: {error}") from None
            log_weights[place] = found
        return log_weights


def _encode(coded: CodedColumn, column: Column, unseen: Unseen) -> np.ndarray:
    """Codes of a column, shape (N,)."""
    rows = np.flatnonzero(~column.is_missing)
    codes = np.full(len(column.values), MISSING_CODE)
    values = _converted(coded, column).values[rows]
    codes[rows] = coded.codec.encode(values)
    strange = rows[codes[rows] == MISSING_CODE]
    if len(strange) and unseen == "error":
        value = column.values[strange[:1]].tolist()[0]
        raise ValueError(
            f"column {coded.name!r}: row {strange[0]} holds {quoted(repr(value))}, which was not there in training; map it "
            "to a known category, or set unseen='missing' to treat it as missing"
        )
    return codes


def _decode(coded: CodedColumn, codes: np.ndarray, uniforms: np.ndarray, evidence: Evidence | None) -> Column:
    if isinstance(coded.codec, IgnoredCodec):
        nothing = {"real": np.float64, "whole": np.int64, "boolean": bool, "label": object, "time": np.int64}[
            coded.role
        ]
        return Column(coded.role, np.zeros(len(codes), dtype=nothing), np.ones(len(codes), dtype=bool), coded.unit)
    values = coded.codec.decode(codes, uniforms, evidence=evidence)
    return Column(coded.role, values, np.zeros(len(codes), dtype=bool), coded.unit)


def _converted(coded: CodedColumn, column: Column) -> Column:
    """The column in the role it had in training, if that loses nothing.

    Raises:
        ValueError: it holds something else than it did in training.
    """
    same = coded.role == column.role and coded.unit == column.unit
    if same or column.is_missing.all() or isinstance(coded.codec, IgnoredCodec):
        return column
    if coded.role == column.role == "time":
        kind = f"datetime64[{column.unit}]"
        return column._replace(values=column.values.view(kind).astype(f"datetime64[{coded.unit}]").astype(np.int64))
    if isinstance(coded.codec, CategoryCodec) and "time" not in (coded.role, column.role):
        return column  # levels are looked up, and 1, 1.0 and True are one
    if {coded.role, column.role} <= {"real", "whole", "boolean"} and isinstance(coded.codec, NumberCodec):
        return column._replace(
            values=column.values.astype(np.int64 if column.role == "boolean" else column.values.dtype)
        )
    raise ValueError(
        f"column {coded.name!r}: holds {_ROLES[column.role]}, and in training it held {_ROLES[coded.role]}; convert it"
    )


_ROLES = {"real": "numbers", "whole": "whole numbers", "boolean": "booleans", "label": "text", "time": "dates or times"}


def _listed(names: object) -> str:
    return quoted(", ".join(map(repr, names)))  # type: ignore[call-overload]
