"""The two parameters of a command that begins a run or, with --resume, goes on with one."""

from typing import Any

import typer

__all__ = ["begun_with", "going_on_from"]


def begun_with(metavar: str, help_text: str) -> Any:
    """The argument that a run is begun with, and that --resume takes the place of.

    Args:
        metavar: its name.
        help_text: what it is.
    """
    return typer.Argument(metavar=metavar, help=f"{help_text} Left out with --resume.", show_default=False)


def going_on_from(metavar: str, place: str) -> Any:
    """The option --resume.

    Args:
        metavar: what is resumed.
        place: completes "Go on with an interrupted run, from".
    """
    return typer.Option("--resume", metavar=metavar, help=f"Go on with an interrupted run, from {place}.")
