"""What a docstring of this library means to Sphinx.

A name in backticks is a link if it is public, and code if not.
"""

import re
from typing import Any

from docstring_text import as_restructured_text
from docutils import nodes
from docutils.parsers.rst import roles
from public_names import homes, packages
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROUTING = re.compile(r"set_\w+_request")  # added to estimators by scikit-learn
ALIAS = "Alias for field number"  # what Python writes about each field of a NamedTuple


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the default role, and what autodoc leaves out."""
    roles.register_local_role("name", _name)
    app.connect("autodoc-process-docstring", _reads_as_text, priority=100)  # before sections are read
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _unlinked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _name(
    role: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """`Model` and `kernels.MALA` are links to their entries, anything else is code."""
    target, code = _targets().get(text.removeprefix("jointebm.")), nodes.literal(rawtext, text)
    if target is None:
        return [code], []
    kind = "mod" if target in packages() else "obj"
    reference = pending_xref("", code, refdomain="py", reftype=kind, reftarget=target, refexplicit=True, refwarn=True)
    return [reference], []


def _targets() -> dict[str, str]:
    """Full names of entries, by every way to write a public name."""
    found = {}
    for full, home in homes().items():
        short = full.removeprefix("jointebm.")
        found |= {short: home, short.rpartition(".")[2]: home}
    return found


def _reads_as_text(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    before_text = [""] if what in ("property", "attribute") else []  # "word: text" there is no type and text
    lines[:] = [*before_text, *as_restructured_text(lines)]


def _skip(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple without a docstring of their own, and what pydantic and scikit-learn add."""
    added = name == "model_config" or ROUTING.fullmatch(name) or str(getattr(member, "__doc__", "")).startswith(ALIAS)
    return True if added else None


def _unlinked(app: Sphinx, env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Types and errors are links where they have an entry, and text elsewhere."""
    is_type = node.get("reftype") in ("class", "exc") or str(node.get("reftarget")).startswith("typing.")
    return content if node.get("refdomain") == "py" and is_type else None
