"""Options that the commands about tables share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointebm.cli.options import whole_number

__all__ = ["Missing", "NumDraws", "NumSweeps", "OtherSeed", "OutTable", "TableFile", "Unseen", "Workers"]

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
Workers = Annotated[
    int,
    typer.Option(
        "--workers", parser=whole_number(1, 1024), metavar="N", help="Processes; the result is the same for any number."
    ),
]
NumDraws = Annotated[
    int | None,
    typer.Option(
        "--num-draws",
        parser=whole_number(1, 1_000_000),
        metavar="N",
        help="Completions that are averaged over where several entries of a row are missing; default is the model's own.",
    ),
]
NumSweeps = Annotated[
    int | None,
    typer.Option(
        "--num-sweeps",
        parser=whole_number(1, 1_000_000),
        metavar="N",
        help="Gibbs sweeps for each draw; default is the model's own.",
    ),
]
OtherSeed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        parser=whole_number(0, 2**63 - 1),
        metavar="N",
        help="Seed of all draws; default is that of the model.",
    ),
]
