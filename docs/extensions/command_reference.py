"""The reference of the command line, from its Typer application, as the text of a page."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from jointebm.cli import app

BAR = r"\|"  # in a cell of a table


def reference() -> str:
    """A section for each command: what it does, its arguments and its options."""
    return "\n".join(line for name, command in get_command(app).commands.items() for line in _section(name, command))  # type: ignore[attr-defined]


def _section(name: str, command: Any) -> Iterator[str]:
    yield from (f"## `jointebm {name}`", "", _prose(command.help or ""), "")
    shown = [each for each in command.params if each.name != "help" and not getattr(each, "hidden", False)]
    words = [_metavar(each) for each in shown if each.param_type_name == "argument"]
    yield from ("```text", " ".join(["jointebm", name, *words, "[OPTIONS]"]), "```", "")
    yield from ("| argument or option | what it is | default |", "|---|---|---|")
    for each in shown:
        yield f"| {_name(each).replace('|', BAR)} | {_cell(getattr(each, 'help', '') or '')} | {_default(each)} |"
    yield ""


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return ", ".join(f"`{opt}{value}`" for opt in (*parameter.opts, *parameter.secondary_opts))


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    return "" if value in (None, (), [], False) or callable(value) else f"`{value}`"


def _prose(text: str) -> str:
    """The help of a command as Markdown: its paragraphs, without the marks of click."""
    paragraphs = [" ".join(part.replace("\b", "").split()) for part in text.split("\n\n")]
    return "\n\n".join(_plain(part) for part in paragraphs if part)


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", BAR)


def _plain(text: str) -> str:
    """Angle brackets and stars as text; the rest of the help is Markdown already."""
    return text.replace("<", "&lt;").replace("*", r"\*")
