"""Cells of a file that stand for a missing value: the usual words, and those that a user adds.

A model remembers the words that it was fitted with: whoever asks it about another file of the same kind means the same.
"""

import re
from collections.abc import Iterable

from pydantic import Field

from jointebm.storage.config import Config

__all__ = ["MISSING_WORDS", "ReadingOptions", "is_missing_cell", "missing_words"]

MISSING_WORDS = frozenset({"", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "null", "NULL", "None"})
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0)?", re.ASCII)


class ReadingOptions(Config):
    """How the cells of files are read, kept with a fitted model."""

    missing: tuple[str, ...] = Field((), description="words for a missing value in addition to the usual ones")


def missing_words(said: Iterable[str] | None) -> frozenset[str]:
    """The words that a user adds, without the spaces around them; None adds none.

    A whole number is added as 1 and as 1.0, for programs write a column with missing values in either way.

    Example:
        >>> sorted(missing_words([" ?", "-999"]))
        ['-999', '-999.0', '?']
    """
    words = {text.strip() for text in said or ()}
    numbers = {word.removesuffix(".0") for word in words if _WHOLE.fullmatch(word)}
    return frozenset(words | numbers | {f"{number}.0" for number in numbers})


def is_missing_cell(text: str, more: frozenset[str]) -> bool:
    """Whether a cell stands for a missing value; spaces around its text do not matter."""
    plain = text.strip()
    return plain in MISSING_WORDS or plain in more
