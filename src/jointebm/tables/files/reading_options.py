"""How the cells of files are read and written: an option that changes what a cell means is stored with the model.

Later files are read as the table of the fit was, unless a command says otherwise; `changes` names what is contradicted.
"""

import codecs
from collections.abc import Iterable
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted, reason_of
from jointebm.tables.files.missing_words import missing_words

__all__ = ["ReadingOptions"]


class ReadingOptions(Config):
    """How the cells of files are read, kept with a fitted model.

    Example:
        >>> ours = ReadingOptions(missing=("-999",), separator=";")
        >>> ours.changes(ours.changed(separator=","))
        ["--separator ',' (of the fit: ';')"]
    """

    missing: tuple[str, ...] = Field((), description="words for a missing value in addition to the usual ones")
    separator: Literal[",", ";", "\t", "|"] = Field(",", description="of cells in CSV")
    decimal: Literal[".", ","] = Field(".", description="before the fraction of a number in CSV")
    encoding: str = Field("utf-8", max_length=40, description="of text in CSV, as Python names it")

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            codec = codecs.lookup(name)
            "".encode(codec.name)  # raises for those that turn bytes into bytes
        except (LookupError, ValueError):
            raise ValueError(
                f"unknown encoding {quoted(repr(name))}; examples: utf-8, cp1252, latin-1, utf-16"
            ) from None
        return codec.name

    @cached_property
    def words(self) -> frozenset[str]:
        """Texts of cells that stand for a missing value, in addition to the usual ones."""
        return missing_words(self.missing, decimal=self.decimal)

    def changed(
        self,
        *,
        missing: Iterable[str] | None = None,
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
    ) -> Self:
        """The options with some of them replaced, and words added; None keeps those of the fit."""
        given = {"separator": separator, "decimal": decimal, "encoding": encoding}
        words = tuple(sorted(missing_words([*self.missing, *(missing or ())])))
        now = {name: value for name, value in given.items() if value is not None}
        try:
            return type(self)(**(self.model_dump() | {"missing": words} | now))
        except ValidationError as error:
            raise ValueError(f"--{reason_of(error)}") from None

    def changes(self, now: "ReadingOptions") -> list[str]:
        """What other options read otherwise than these, one text each."""
        new = sorted(now.words - missing_words(self.missing, decimal=now.decimal))
        found = [f"--missing {', '.join(map(repr, new))} (not missing in the fit)"] if new else []
        for name in ("separator", "decimal", "encoding"):
            mine, other = getattr(self, name), getattr(now, name)
            if mine != other:
                found.append(f"--{name} {other!r} (of the fit: {mine!r})")
        return found
