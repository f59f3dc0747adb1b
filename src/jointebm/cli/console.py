"""Prints results to standard output and everything else to standard error."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from jointebm.runs.interrupts import Terminated

__all__ = ["Interrupted", "exit_code", "print_json", "print_table", "say"]


class Interrupted(Exception):  # noqa: N818  # not an error
    """Ends a command after Ctrl-C or SIGTERM with one line."""

    def __init__(self, reason: KeyboardInterrupt, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code(reason)


def exit_code(reason: KeyboardInterrupt) -> int:
    """128 plus the number of the signal: 130 after Ctrl-C, 143 after SIGTERM."""
    return 143 if isinstance(reason, Terminated) else 130


def say(message: str) -> None:
    """Writes a message to standard error as one line, whatever line breaks it holds."""
    typer.echo(f"jointebm: {' '.join(message.split())}", err=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one JSON object."""
    typer.echo(json.dumps(content, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1, caption: str = ""
) -> None:
    """Prints a table; the first `num_text` columns hold text, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < num_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    typer.echo(title)
    Console(markup=False, highlight=False).print(table)
    if caption:
        typer.echo(caption)
