"""The reference of a package as the text of a page: its public names, with their entries."""

import importlib
import inspect
import types
from collections.abc import Iterator

from docstring_text import as_restructured_text, escaped
from public_names import docstring_of, homes, packages
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.ext.napoleon import Config, GoogleDocstring


def entries(package: str) -> str:
    """The reference of a package: a table of its names, then an entry for each that has its home here."""
    names = packages()[package]
    here = [name for name in names if homes()[f"{package}.{name}"] == f"{package}.{name}" not in (*packages(),)]
    lines = ["```{eval-rst}", f".. py:module:: {package}", "", ".. list-table::", "   :widths: 30 70", ""]
    for name in names:
        lines += [f"   * - {_link(package, name)}", f"     - {_summary(package, name)}"]
    lines += ["", *(line for name in here for line in _entry(package, name)), "```"]
    return "\n".join(lines)


def _link(package: str, name: str) -> str:
    home = homes()[f"{package}.{name}"]
    if isinstance(getattr(importlib.import_module(package), name), types.ModuleType):
        return f":py:mod:`{name} <{home}>`"
    return f":py:obj:`{name} <{home}>`"


def _summary(package: str, name: str) -> str:
    """The first sentence of a docstring."""
    return escaped(" ".join(docstring_of(package, name).partition("\n\n")[0].split()))


def _entry(package: str, name: str) -> list[str]:
    member, full = getattr(importlib.import_module(package), name), f"{package}.{name}"
    if inspect.isclass(member):
        return [*_class_entry(full, member), ""]
    if inspect.isroutine(member):
        return [f".. autofunction:: {full}", ""]
    text = GoogleDocstring(list(as_restructured_text(docstring_of(package, name).splitlines())), Config()).lines()
    return [f".. py:data:: {name}", "", *(f"   {line}" for line in text), ""]


def _class_entry(full: str, kind: type) -> Iterator[str]:
    """A class with what it inherits from this library, but not from others."""
    elsewhere = [each.__name__ for each in kind.__mro__ if not each.__module__.startswith("jointebm")]
    fields = kind.model_fields if issubclass(kind, BaseModel) else None
    signature = "" if fields is None else f"({', '.join(_field(name, info) for name, info in fields.items())})"
    yield f".. autoclass:: {full}{signature}"
    yield from ("   :members:", "   :member-order: bysource", f"   :inherited-members: {', '.join(elsewhere)}", "")
    for name, info in (fields or {}).items():
        if info.description:
            yield f"   * **{name}**: {escaped(info.description)}"


def _field(name: str, info: FieldInfo) -> str:
    if info.is_required():
        return name
    return f"{name}={'...' if info.default_factory else repr(info.default)}"
