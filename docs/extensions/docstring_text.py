"""Docstrings of this library as reStructuredText.

An indented paragraph is a formula. Stars, bars and underscores are themselves: the marks are those of Markdown.
"""

import re
from collections.abc import Iterator, Sequence

SECTION = re.compile(r"(Args|Returns|Yields|Raises|References|Example|Examples|Attributes|Note):")
CODE = re.compile(r"(`+[^`]+`+)")
SPECIAL = re.compile(r"([*|\\]|_(?=\W|$))")


def escaped(text: str) -> str:
    """Text without special characters outside of backticks."""
    return "".join(part if CODE.fullmatch(part) else SPECIAL.sub(r"\\\1", part) for part in CODE.split(text))


def as_restructured_text(lines: Sequence[str]) -> Iterator[str]:
    """A docstring in the form that Sphinx reads, line by line."""
    in_section = in_formula = False
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        if line and not line.startswith(" "):
            if (in_formula and before.strip()) or (
                line.startswith("- ") and before and not before.startswith(("- ", "  "))
            ):
                yield ""  # a paragraph of its own
            in_section, in_formula = bool(SECTION.fullmatch(line)), False
        is_example = line.lstrip().startswith((">>>", "..."))
        if line.startswith("    ") and not in_section and not is_example and not in_formula:
            yield from ("", "::", "")
            in_formula = True
        yield line if in_formula or (in_section and _in_example(lines, number)) else escaped(line)


def _in_example(lines: Sequence[str], number: int) -> bool:
    """Whether a line belongs to code and what it prints: from a prompt to the next empty line."""
    for line in reversed(lines[: number + 1]):
        if not line.strip():
            return False
        if line.lstrip().startswith(">>>"):
            return True
    return False
