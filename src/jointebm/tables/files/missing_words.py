"""Cells of a file that stand for a missing value: the usual words, and those that a user adds."""

import re
from collections.abc import Iterable

__all__ = ["MISSING_WORDS", "is_missing_cell", "missing_words"]

MISSING_WORDS = frozenset({"", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "null", "NULL", "None"})
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0)?", re.ASCII)


def missing_words(said: Iterable[str] | None, *, decimal: str = ".") -> frozenset[str]:
    """The words that a user adds, without the spaces around them; None adds none.

    A whole number is added as 1 and as 1.0, for programs write a column with missing values in either way; with a decimal
    comma as 1,0 too.

    Example:
        >>> sorted(missing_words([" ?", "-999"]))
        ['-999', '-999.0', '?']
    """
    words = {text.strip() for text in said or ()}
    numbers = {word.removesuffix(".0") for word in words if _WHOLE.fullmatch(word)}
    fractions = {f"{number}{point}0" for number in numbers for point in {".", decimal}}
    return frozenset(words | numbers | fractions)


def is_missing_cell(text: str, more: frozenset[str]) -> bool:
    """Whether a cell stands for a missing value; spaces around its text do not matter."""
    plain = text.strip()
    return plain in MISSING_WORDS or plain in more
