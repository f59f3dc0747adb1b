"""Options that several commands share, each with one name and one meaning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

__all__ = ["DataDir", "Json", "ModelName", "Seed", "Set", "Threads", "check_only_resumes", "whole_number"]


def whole_number(low: int, high: int = 1_000_000_000) -> Callable[[str], int]:
    """A parser of whole numbers between two bounds, for `typer.Option`.

    Example:
        >>> whole_number(1)("64")
        64
    """

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise typer.BadParameter(f"got {text!r}, expected a whole number from {low} to {high}")
        return number

    return parse


def _use_threads(num: int | None) -> int | None:
    if num is not None:
        torch.set_num_threads(num)
    return num


ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model folder, a run folder, or pretrained:NAME.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="JOINTEBM_DATA",
        exists=True,
        file_okay=False,
        help="Folder where data files lie; it must exist, although embedded data (toy, digits) read nothing from it.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", parser=whole_number(0, 2**63 - 1), metavar="N", help="Seed of all draws.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the recipe, such as num_iterations=100; 'jointebm recipes RECIPE' lists them. Repeatable.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        parser=whole_number(1, 1024),
        metavar="N",
        callback=_use_threads,
        help="Processor threads; default is torch's.",
    ),
]


def check_only_resumes(context: typer.Context, defining: Sequence[str]) -> None:
    """Raises if --resume comes together with parameters that define a run, which are what they were when it was begun.

    Args:
        context: of the command.
        defining: names of those parameters.
    """
    given = []
    for name in defining:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            parameter = next(parameter for parameter in context.command.params if parameter.name == name)
            given.append(parameter.opts[0] if parameter.opts[0].startswith("-") else name.upper())
    if given:
        raise ValueError(f"--resume goes on with a run as it was begun; leave out {', '.join(given)}")
