"""What the commands print: results on standard output, everything else on standard error."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["Interrupted", "print_json", "print_table", "progress_console", "say"]


class Interrupted(Exception):  # noqa: N818  # it is no error
    """Ctrl-C, with what became of the work: one line."""


def say(message: str) -> None:
    """Writes one line to standard error, whatever line breaks the message has."""
    typer.echo(f"jointebm: {' '.join(message.split())}", err=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Writes one JSON object to standard output."""
    typer.echo(json.dumps(content, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1, caption: str = ""
) -> None:
    """Writes a table to standard output; the first `num_text` columns are text, the rest numbers."""
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < num_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def progress_console() -> Console:
    """Standard error, for progress bars."""
    return Console(stderr=True, markup=False, highlight=False)
