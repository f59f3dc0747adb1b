"""Parameters of a fit and of its answers, as plain data with ranges."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from jointebm.storage.config import MAX_COUNT, Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import MAX_CODED_LEVELS
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.relations.found_relations import AUTO
from jointebm.tables.training.table_config import TableConfig

__all__ = ["MAX_TRAINED_ROWS", "Missingness", "Parameters"]

Missingness = Literal["ignored", "model"]
MAX_TRAINED_ROWS = 2**17  # of a fit, unless the user says otherwise; it makes about 3 million visits of rows


class Parameters(Config):
    """Parameters of a fitted table.

    Example:
        >>> Parameters.checked(num_draws=0)
        Traceback (most recent call last):
        ValueError: num_draws: got 0: input should be greater than or equal to 1
        >>> Parameters.checked(width=3)
        Traceback (most recent call last):
        ValueError: width: got 3: unknown field; available: training, kinds, max_bins, max_levels, max_rows, relations, \
missingness, unseen, num_draws, num_sweeps, num_members, seed
    """

    training: TableConfig = Field(TableConfig(), description="how to train")
    kinds: tuple[tuple[Name, Kind], ...] = Field((), description="overrides the kind that a column's content suggests")
    max_bins: int | None = Field(
        None,
        ge=2,
        le=4096,
        description="codes for a column of numbers, about at most; None is up to four for each of 48 bins, fewer in small "
        "tables",
    )
    max_levels: int = Field(MAX_CODED_LEVELS, ge=2, le=MAX_COUNT, description="codes for a column of categories")
    max_rows: int = Field(
        MAX_TRAINED_ROWS, ge=1, le=2**31, description="rows that are trained on, at most: a random sample of all rows"
    )
    relations: tuple[str, ...] | None = Field(
        (AUTO,), description="texts of relations, 'auto' for those that are detected"
    )
    missingness: Missingness = Field("ignored", description="whether the density knows which entries are missing")
    unseen: Unseen = Field("error", description="how to treat categories not seen in training")
    num_draws: int = Field(
        100, ge=1, le=MAX_COUNT, description="draws that an answer about many missing entries averages, at first"
    )
    num_sweeps: int = Field(10, ge=1, le=MAX_COUNT, description="sweeps, and jumps, per completion or sample")
    num_members: int = Field(
        0, ge=0, le=1000, description="refits to bootstrap samples, for imputations with the uncertainty of the fit"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of all draws")

    @classmethod
    def checked(cls, **fields: Any) -> "Parameters":
        """Parameters with these fields.

        Raises:
            ValueError: a field is unknown or out of its range; names it and the value.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            reason = message[:1].lower() + message[1:]
            if first["type"] == "extra_forbidden":
                known = TableConfig if first["loc"][:-1] == ("training",) else cls
                reason = f"unknown field; available: {', '.join(known.model_fields)}"
            raise ValueError(f"{where}: got {quoted(repr(first['input']))}: {reason}") from None
