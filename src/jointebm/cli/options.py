"""Options that several commands share, each with one name and one meaning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

__all__ = [
    "MAX_SEED",
    "DataDir",
    "Json",
    "Missing",
    "ModelName",
    "NumDraws",
    "NumSweeps",
    "OtherSeed",
    "OutTable",
    "Seed",
    "Set",
    "TableFile",
    "Threads",
    "Unseen",
    "Workers",
    "begun_with",
    "check_only_resumes",
    "given_on_the_line",
    "going_on_from",
    "number_option",
    "refuse_options",
    "whole_number",
]

MAX_SEED = 2**63 - 1


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


def number_option(name: str, low: int, high: int, help_text: str, **more: Any) -> Any:
    """An option that takes a whole number between two bounds.

    Args:
        name: of the option.
        low: its smallest value.
        high: its largest.
        help_text: what it is.
        **more: further fields of `typer.Option`.
    """
    return typer.Option(name, parser=whole_number(low, high), metavar="N", help=help_text, **more)


def given_on_the_line(context: typer.Context, names: Sequence[str]) -> list[str]:
    """Which parameters were given, rather than left at their defaults, as a user writes them.

    Args:
        context: of the command.
        names: of parameters.
    """
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    written = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    return [written[name] if written[name].startswith("-") else name.upper() for name in given]


def refuse_options(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raises if options were given that mean nothing for this kind of model.

    Args:
        context: of the command.
        names: of their parameters.
        reason: why, such as "MODEL is of a table".
    """
    options = given_on_the_line(context, names)
    if options:
        raise ValueError(f"{reason}, for which {', '.join(options)} means nothing; leave it out")


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
Seed = Annotated[int, number_option("--seed", 0, MAX_SEED, "Seed of all draws.")]
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
    number_option("--threads", 1, 1024, "Processor threads; default is torch's.", callback=_use_threads),
]


def check_only_resumes(context: typer.Context, defining: Sequence[str]) -> None:
    """Raises if --resume comes together with parameters that define a run, which are what they were when it was begun.

    Args:
        context: of the command.
        defining: names of those parameters.
    """
    given = given_on_the_line(context, defining)
    if given:
        raise ValueError(f"--resume goes on with a run as it was begun; leave out {', '.join(given)}")


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


TableFile = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A table: .csv, .csv.gz or .parquet.", show_default=False)
]


OutTable = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="New .csv, .csv.gz or .parquet file; default is CSV on standard output."
    ),
]


Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        metavar="TEXT",
        help="What stands for a missing value in CSV, beside nothing, NA, NaN, null and the like. Repeatable.",
    ),
]


Unseen = Annotated[
    Literal["error", "missing"] | None,
    typer.Option("--unseen", help="What a category that was not there in training is; default is what the model says."),
]


Workers = Annotated[int, number_option("--workers", 1, 1024, "Processes; the result is the same for any number.")]


NumDraws = Annotated[
    int | None,
    number_option(
        "--num-draws",
        1,
        1_000_000,
        "Completions that are averaged over where several entries of a row are missing; default is the model's own.",
    ),
]


NumSweeps = Annotated[
    int | None,
    number_option("--num-sweeps", 1, 1_000_000, "Sweeps for each draw; default is the model's own."),
]


OtherSeed = Annotated[
    int | None, number_option("--seed", 0, MAX_SEED, "Seed of all draws; default is that of the model.")
]
