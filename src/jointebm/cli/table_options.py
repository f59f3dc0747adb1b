"""Options that the commands about tables share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointebm.cli.options import MAX_SEED, number_option

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
