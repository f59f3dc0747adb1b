"""What the commands print: results on standard output, everything else on standard error."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from jointebm.kernels import Cycle
from jointebm.runs.interrupts import Terminated

__all__ = ["Interrupted", "exit_code", "named_rates", "print_json", "print_table", "say", "write_rates"]


class Interrupted(Exception):  # noqa: N818  # it is no error
    """Ctrl-C or SIGTERM, with what became of the work: one line.

    Args:
        reason: what was raised.
        message: what became of the work, and how to go on.
    """

    def __init__(self, reason: KeyboardInterrupt, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code(reason)


def exit_code(reason: KeyboardInterrupt) -> int:
    """128 plus the number of the signal: 130 after Ctrl-C, 143 after SIGTERM."""
    return 143 if isinstance(reason, Terminated) else 130


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
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < num_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    typer.echo(title)
    Console(markup=False, highlight=False).print(table)
    if caption:
        typer.echo(caption)


def named_rates(kernel: Cycle, accept_rate: Sequence[float]) -> dict[str, float]:
    """Acceptance rates by kernel and the block it moves; several moves of the same kind are averaged.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> space = Space(x=Continuous(), y=Binary())
        >>> cycle = Cycle((kernels.Gibbs(space), kernels.Gibbs(space), kernels.MALA(block="x", step_size=0.1)))
        >>> named_rates(cycle, (1.0, 0.5, 0.25))
        {'Gibbs': 0.75, 'MALA(x)': 0.25}
    """
    rates: dict[str, list[float]] = {}
    for part, rate in zip(kernel.kernels, accept_rate, strict=True):
        block = getattr(part, "block", None)
        rates.setdefault(type(part).__name__ + (f"({block})" if block else ""), []).append(rate)
    return {name: sum(values) / len(values) for name, values in rates.items()}


def write_rates(rates: Mapping[str, float]) -> str:
    """Acceptance rates in words, for a caption."""
    nothing = "0 (nothing free to move, or nothing accepted)"
    return ", ".join(f"{name} {rate:.3f}" if rate else f"{name} {nothing}" for name, rate in rates.items())
