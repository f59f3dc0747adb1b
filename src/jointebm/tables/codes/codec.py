"""Tables to codes and back, with the exact change of variables.

    log p(row) = log p(codes) + sum_j log p(value_j | code_j)

Legend: N rows, V columns, K_j codes of column j.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import MAX_CODED_LEVELS, CategoryCodec
from jointebm.tables.codes.column import Column, ColumnCodec, IgnoredCodec, Kind, Role, Unit, shown_time
from jointebm.tables.codes.column_fit import fit_column
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.evidence import Evidence, Interval
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["MISSING_CODE", "CodedColumn", "Name", "TableCodec", "Unseen", "unused_name"]

Name = Annotated[str, Field(max_length=1000)] | int  # columns of an array are numbered
Unseen = Literal["error", "missing"]
MISSING_CODE = -1


class CodedColumn(Config):
    """A column with its codec."""

    name: Name = Field(description="as in the frame, or a number in an array")
    role: Role = Field(description="what its values are")
    unit: Unit | None = Field(None, description="of a time")
    is_duration: bool = Field(False, description="of a time: whether it is a length of time")
    codec: ColumnCodec = Field(description="its codes", discriminator="kind")

    @property
    def range(self) -> str:
        """The smallest and the largest training value of a column of numbers, for messages."""
        assert isinstance(self.codec, NumberCodec)
        return f"{self.shown(self.codec.smallest)} to {self.shown(self.codec.largest)}"

    def shown(self, value: Any) -> str:
        """A value for messages; times are in the unit of the column."""
        plain = value.item() if isinstance(value, np.generic) else value
        return repr(plain) if self.unit is None else shown_time(int(plain), self.unit, is_duration=self.is_duration)

    def converted(self, column: Column) -> Column:
        """The column in the role and unit it had in training, if no value changes."""
        roles = {self.role, column.role}
        if roles == {"time"}:
            return column.in_unit(self.unit)
        if len(roles) == 1 or column.is_missing.all() or isinstance(self.codec, IgnoredCodec):
            return column
        if isinstance(self.codec, CategoryCodec) and "time" not in roles:
            return column  # levels are looked up, and 1, 1.0 and True are equal
        if isinstance(self.codec, NumberCodec) and roles <= {"real", "whole", "boolean"}:
            is_boolean = column.role == "boolean"
            return column._replace(values=column.values.astype(np.int64)) if is_boolean else column
        raise ValueError(
            f"column {self.name!r}: holds {_ROLES[column.role]}, and in training it held {_ROLES[self.role]}; convert it"
        )


class TableCodec(Config):
    """Tables <-> codes: the name, content and codec of every column.

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
            raise ValueError("duplicate column name")
        return self

    @classmethod
    def fit(
        cls,
        table: Mapping[Name, Column | ColumnSummary],
        *,
        kinds: Mapping[Name, Kind] | None = None,
        max_bins: int | None = None,
        max_levels: int = MAX_CODED_LEVELS,
    ) -> "TableCodec":
        """Chooses the codec of each column, or of what is known of it.

        `kinds` overrules the kind that its content suggests.
        """
        kinds = kinds or {}
        for name in kinds:
            if name not in table:
                raise ValueError(f"kinds: unknown column {name!r}; columns: {_listed(table)}")
        columns = []
        for name, column in table.items():
            summary = ColumnSummary.of(column) if isinstance(column, Column) else column
            try:
                codec = fit_column(summary, kind=kinds.get(name), max_bins=max_bins, max_levels=max_levels)
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from None
            columns.append(
                CodedColumn(
                    name=name, role=summary.role, unit=summary.unit, is_duration=summary.is_duration, codec=codec
                )
            )
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
    def bins(self) -> tuple[tuple[int, ...] | None, ...]:
        """Per column, the bin of each code; None if the order of its codes has no meaning."""
        return tuple(column.codec.bins for column in self.columns)

    @property
    def spreads(self) -> tuple[np.ndarray | None, ...]:
        """Per column, the share of a row of each code that counts for each code; None: every row counts for its own."""
        return tuple(column.codec.spread for column in self.columns)

    def index(self, name: object) -> int:
        """Place of a column."""
        plain = name.item() if isinstance(name, np.generic) else name
        for place, known in enumerate(self.names):
            if type(known) is type(plain) and known == plain:
                return place
        raise ValueError(f"unknown column {quoted(repr(name))}; columns of the model: {_listed(self.names)}")

    def encode(self, table: Mapping[Name, Column], *, unseen: Unseen = "error") -> np.ndarray:
        """Codes, shape (N, V), int64; -1 where an entry is missing or its column is not in the table."""
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
        """Draws values inside codes (N, V) by uniforms on [0, 1), (N, V); codes are known and agree with the evidence."""
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
                values = coded.converted(table[coded.name]).values[rows]
                log_prob[rows, place] = coded.codec.log_prob(values, codes[rows, place])
        return log_prob

    def log_weights(self, evidence: Mapping[Name, Evidence]) -> list[np.ndarray | None]:
        """log p(evidence | code) of each column, shape (K_j,), or None without evidence."""
        log_weights: list[np.ndarray | None] = [None] * len(self.columns)
        for name, known in evidence.items():
            place = self.index(name)
            try:
                found = self.columns[place].codec.log_weights(known)
                if np.isneginf(found).all():
                    held = f"; they run from {self.columns[place].range}" if isinstance(known, Interval) else ""
                    raise ValueError(f"no training value agrees with it{held}; widen the interval")
            except ValueError as error:
                raise ValueError(f"given column {name!r}: {error}") from None
            log_weights[place] = found
        return log_weights


def unused_name(name: str, taken: Iterable[Name]) -> str:
    """The name, with marks behind it until no column is called so.

    Example:
        >>> unused_name("gap", ["gap", "gap'"])
        "gap''"
    """
    names = set(map(str, taken))
    while name in names:
        name += "'"
    return name


def _encode(coded: CodedColumn, column: Column, unseen: Unseen) -> np.ndarray:
    """Codes of a column, shape (N,)."""
    rows = np.flatnonzero(~column.is_missing)
    codes = np.full(len(column.values), MISSING_CODE)
    codes[rows] = coded.codec.encode(coded.converted(column).values[rows])
    strange = rows[codes[rows] == MISSING_CODE]
    if len(strange) and unseen == "error":
        raise ValueError(
            f"column {coded.name!r}: row {strange[0]} holds {column.shown(strange[0])}, which was not seen in training; map "
            "it to a known category, or set unseen='missing' to treat it as missing"
        )
    return codes


def _decode(coded: CodedColumn, codes: np.ndarray, uniforms: np.ndarray, evidence: Evidence | None) -> Column:
    if isinstance(coded.codec, IgnoredCodec):
        values = np.zeros(len(codes), dtype={"real": float, "boolean": bool, "label": object}.get(coded.role, np.int64))
        return Column(coded.role, values, np.ones(len(codes), dtype=bool), coded.unit)
    values = coded.codec.decode(codes, uniforms, evidence=evidence)
    return Column(coded.role, values, np.zeros(len(codes), dtype=bool), coded.unit)


_ROLES = {"real": "numbers", "whole": "whole numbers", "boolean": "booleans", "label": "text", "time": "dates or times"}


def _listed(names: Iterable[object]) -> str:
    return quoted(", ".join(map(repr, names)))
