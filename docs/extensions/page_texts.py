"""Turns a page of docs/ into what Sphinx reads: generated parts are filled in, links beyond the site are rewritten.

A comment on a line of its own stands for a generated part, so that the page stays readable in the repository, such as
`<!-- site: names jointebm.kernels -->`. `names PACKAGE` is the reference of a package, `commands` that of the command
line, `file PATH` a file of the repository, and `pages PATTERN`, in a table of contents, lists the pages that match
but the index.
"""

import re
from collections.abc import Callable
from pathlib import Path

from command_reference import reference
from reference_entries import entries
from repository_links import rewritten
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PART = re.compile(r"^<!-- site: (\w+) ?(\S*) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers what this extension does with a page before it is parsed."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    path = Path(app.env.doc2path(name))
    if path.suffix != ".md":
        return

    def part(match: re.Match[str]) -> str:
        kind, argument = match.groups()
        if kind not in PARTS:
            raise ValueError(f"{path}: unknown part {match[0]!r}; expected one of {', '.join(PARTS)}")
        app.env.note_reread()  # a part may be of what is no file of the site
        return PARTS[kind](argument)

    content[0] = PART.sub(part, rewritten(content[0], path.relative_to(ROOT).as_posix()))


def _file(name: str) -> str:
    return rewritten((ROOT / name).read_text(encoding="utf-8"), name)


def _pages(pattern: str) -> str:
    docs = ROOT / "docs"
    found = [path for path in sorted(docs.glob(pattern)) if path.name != "index.md"]
    return "\n".join(f"/{path.relative_to(docs).with_suffix('')}" for path in found)


PARTS: dict[str, Callable[[str], str]] = {
    "names": entries,
    "commands": lambda _: reference(),
    "file": _file,
    "pages": _pages,
}
