"""Arguments and options that several commands share, each with one name and one meaning.

Nothing here imports torch at its head: importing it takes longer than showing a help text may.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jointebm.randomness.device_names import DeviceName

__all__ = [
    "NUM_SAMPLES",
    "CellSeparator",
    "DataDir",
    "DecimalMark",
    "DeviceOption",
    "FileEncoding",
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
    "TableGiven",
    "TablePart",
    "Threads",
    "UnseenCategories",
    "Workers",
    "check_only_resumes",
    "given_on_the_line",
    "number_option",
    "refuse_options",
    "resume_option",
    "start_argument",
]

NUM_SAMPLES = 64  # drawn by `jointebm sample` without --num
_MAX_SEED = 2**63 - 1


def number_option(name: str, low: int, high: int, help_text: str, **more: Any) -> Any:
    """An option that takes a whole number between two bounds."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise typer.BadParameter(f"got {text!r}, expected a whole number from {low} to {high}")
        return number

    return typer.Option(name, parser=parse, help=help_text, **{"metavar": "N"} | more)


def start_argument(metavar: str, help_text: str) -> Any:
    """The argument of a command that starts a run, unless --resume is given."""
    return typer.Argument(metavar=metavar, help=f"{help_text} Omitted with --resume.", show_default=False)


def resume_option(metavar: str, place: str) -> Any:
    """The option --resume."""
    return typer.Option("--resume", metavar=metavar, help=f"Resume an interrupted run from {place}.")


def given_on_the_line(context: typer.Context, names: Sequence[str]) -> list[str]:
    """The options among `names` that the user wrote, spelled as on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    written = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    return [written[name] if written[name].startswith("-") else name.upper() for name in given]


def refuse_options(context: typer.Context, names: Sequence[str], kind: str) -> None:
    """Raises if an option is given that does not apply to this kind of model."""
    options = given_on_the_line(context, names)
    if options:
        raise ValueError(f"{', '.join(options)}: {kind}, to which this does not apply; leave it out")


def check_only_resumes(context: typer.Context, defining: Sequence[str]) -> None:
    """Raises if --resume is combined with parameters that were fixed when the run started."""
    given = given_on_the_line(context, defining)
    if given:
        raise ValueError(
            f"--resume continues a run with the settings it was started with; leave out {', '.join(given)}"
        )


def _one_of(option: str, text: str, meanings: Mapping[str, str]) -> str:
    if text not in meanings:
        raise typer.BadParameter(f"got {text!r}, expected one of {', '.join(map(repr, meanings))}", param_hint=option)
    return meanings[text]


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise typer.BadParameter(f"got {text!r}, expected I/N with I from 1 to N, such as 3/64", param_hint="--part")
    return int(number), int(of)


def _use_threads(num: int | None) -> int | None:
    if num is not None:
        import torch

        torch.set_num_threads(num)
    return num


# Every command

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output, and nothing else.")]
Threads = Annotated[
    int | None,
    number_option(
        "--threads", 1, 1024, "Number of processor threads (default: torch's choice).", callback=_use_threads
    ),
]
DeviceOption = Annotated[
    DeviceName,
    typer.Option("--device", help="Where to compute; auto: cuda where there is one, else cpu."),
]
Seed = Annotated[int, number_option("--seed", 0, _MAX_SEED, "Seed of all random draws.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model folder, a run folder, or pretrained:NAME.", show_default=False),
]

# Recipes and their data

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="JOINTEBM_DATA",
        exists=True,
        file_okay=False,
        help="Folder of the data files; it must exist. The embedded data sets (toy, digits) need no files.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a field of the recipe, such as num_iterations=100. 'jointebm recipes RECIPE' lists the fields. "
        "Repeatable.",
    ),
]

# Tables

TableFile = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="A table with a header: .csv, .csv.gz or .parquet.", show_default=False),
]
OutTable = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="New file to write: .csv, .csv.gz or .parquet (default: CSV on standard output).",
    ),
]
TableGiven = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="COLUMN=VALUE,...",
        help="Evidence about missing entries, the same for all rows: age=30, age=30..40, age=30.., 'job={nurse,cook}', "
        "age=missing. Repeatable.",
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        "--missing",
        metavar="TEXT",
        help="A cell that stands for a missing value, such as -999 or '?', in addition to empty cells, NA, NaN, null and "
        "the like. A model remembers those that it was fitted with. Repeatable.",
    ),
]
_REMEMBERED = "A model remembers it, and CSV is written likewise."
CellSeparator = Annotated[
    str | None,
    typer.Option(
        "--separator",
        metavar="TEXT",
        parser=lambda text: _one_of("--separator", text, {",": ",", ";": ";", "tab": "\t", "\t": "\t", "|": "|"}),
        help=f"Separator of cells in CSV: ',' (default of 'fit'), ';', '|' or tab. {_REMEMBERED}",
    ),
]
DecimalMark = Annotated[
    str | None,
    typer.Option(
        "--decimal",
        metavar="TEXT",
        parser=lambda text: _one_of("--decimal", text, {".": ".", ",": ","}),
        help=f"Mark before the fraction of a number in CSV: '.' (default of 'fit') or ','. {_REMEMBERED}",
    ),
]
FileEncoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help=f"Encoding of CSV, such as cp1252 (default of 'fit': utf-8). {_REMEMBERED}",
    ),
]
UnseenCategories = Annotated[
    Literal["error", "missing"] | None,
    typer.Option("--unseen", help="How to treat categories not seen in training (default: as in the model)."),
]
Workers = Annotated[
    int, number_option("--workers", 1, 1024, "Number of processes; the result is the same for any number.")
]
TablePart = Annotated[
    Any,  # two numbers
    typer.Option(
        "--part",
        metavar="I/N",
        parser=lambda text: _part(text),
        help="Answer part I of N of the rows only, such as 3/64 in a job array; the parts joined in their order equal the "
        "whole, bit for bit (default: all rows).",
    ),
]
NumDraws = Annotated[
    int | None,
    number_option(
        "--num-draws",
        1,
        1_000_000,
        "Completions to average over where several entries of a row are missing (default: as in the model).",
    ),
]
NumSweeps = Annotated[
    int | None,
    number_option("--num-sweeps", 1, 1_000_000, "Sweeps over the columns for each draw (default: as in the model)."),
]
OtherSeed = Annotated[
    int | None, number_option("--seed", 0, _MAX_SEED, "Seed of all random draws (default: as in the model).")
]
