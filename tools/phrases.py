"""Checks the prose of the repository: unclear phrases, long Markdown lines, wide Markdown tables.

Prints one line `file:line: fault` for each fault and exits with 1 if there is any. Run by `make lint`.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_LINE = 120
MAX_COLUMNS = 6
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

# Regular expressions of what to avoid, and what to write instead. A space also matches a line break.
PHRASES = {
    r"a second helping": "an extra term",
    r"anew": "again, or a verb with re-",
    r"(go|goes|gone|going|went) astray": "diverge, drift",
    r"(go|goes|gone|going|went) on with": "continue, resume",
    r"(go|goes|gone|going|went) on from": "continue, resume",
    r"by heart": "memorised",
    r"for nothing": "free, at no cost",
    r"(hold|holds|held|holding) against": "compared with, checked against",
    r"(hold|holds|held|holding) still": "clamp",
    r"(is|are|were|was) to be had": "available from",
    r"in the midst": "during, inside",
    r"in vain": "without effect",
    r"(learn|learns|learned) (its|their) fill": "trained",
    r"now and then": "with a fixed probability, every N steps",
    r"of (that|this) name": "unknown X; available: ...",
    r"(stand|stands|stood) there": "is given, is listed",
    r"there (is|are|was|were) none": "missing, unknown, no X",
    r"(was|were) not there": "was not seen, is missing",
    r"ways? out": "fix, remedy",
}
BETWEEN_WORDS = r"\s+(?:[#>|]\s*)?"  # a phrase may run over the end of a line
PATTERNS = [
    (re.compile(rf"\b{phrase}\b".replace(" ", BETWEEN_WORDS), re.IGNORECASE), instead)
    for phrase, instead in PHRASES.items()
]


def main(arguments: list[str]) -> int:
    """Checks the repository at the given path, or the one that holds this file."""
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    faults = sorted(faults_of(root))
    for path, line, fault in faults:
        print(f"{path}:{line}: {fault}")
    return 1 if faults else 0


def faults_of(root: Path) -> Iterator[tuple[Path, int, str]]:
    """Faults of a repository as (path, line, fault)."""
    pages = [*(root / name for name in PAGES if (root / name).exists()), *(root / "docs").rglob("*.md")]
    sources = [path for path in (root / "src").rglob("*") if path.suffix in (".py", ".md")]
    for path in (*pages, *sources):
        text = path.read_text(encoding="utf-8")
        found = (*phrases_of(text), *(shapes_of(text) if path in pages else ()))
        yield from ((path.relative_to(root), line, fault) for line, fault in found)


def phrases_of(text: str) -> Iterator[tuple[int, str]]:
    """Unclear phrases as (line, fault)."""
    for pattern, instead in PATTERNS:
        for match in pattern.finditer(text):
            phrase = " ".join(re.sub(r"[#>|]", " ", match[0]).split())
            yield text.count("\n", 0, match.start()) + 1, f"unclear phrase {phrase!r}; write: {instead}"


def shapes_of(text: str) -> Iterator[tuple[int, str]]:
    """Long lines, and headers of wide tables, as (line, fault)."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_LINE:
            yield number, f"{len(line)} characters; at most {MAX_LINE}"
        if re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line.strip()) and line.count("|") - 1 > MAX_COLUMNS:
            yield number, f"a table of {line.count('|') - 1} columns; at most {MAX_COLUMNS}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
