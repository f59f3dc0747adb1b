"""`jointebm predict`: predicts columns or labels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jointebm.cli.options import (
    CellSeparator,
    DecimalMark,
    DeviceOption,
    FileEncoding,
    Json,
    Missing,
    ModelName,
    NumDraws,
    NumSweeps,
    Seed,
    TableGiven,
    TablePart,
    Threads,
    UnseenCategories,
    Workers,
    given_on_the_line,
    refuse_options,
)

__all__ = ["predict"]

_TABLE_ONLY = (
    "given",
    "statistic",
    "missing",
    "separator",
    "decimal",
    "encoding",
    "unseen",
    "num_draws",
    "num_sweeps",
    "part",
    "workers",
)
_BLOCKS_ONLY = ("method",)


def predict(
    context: typer.Context,
    model: ModelName,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Model of a table: a .csv, .csv.gz or .parquet file. Model of blocks: a .npz file with an array of rows "
            "for each known block, in which -1 and nan are missing.",
            show_default=False,
        ),
    ],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="Column or block to predict (default: columns that the file lacks and --given does not name; blocks with "
            "missing labels). "
            "Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="New file to write. Model of a table: .csv, .csv.gz or .parquet (default: CSV on standard output). Model "
            "of blocks: .npz with arrays labels_BLOCK and probs_BLOCK, or .csv.",
        ),
    ] = None,
    method: Annotated[
        Literal["exact", "gibbs", "sample"],
        typer.Option(
            "--method",
            help="Blocks only. exact: enumerate all labels; gibbs: average exact conditionals; sample: vote of samples.",
        ),
    ] = "exact",
    statistic: Annotated[
        Literal["mean", "median"],
        typer.Option("--statistic", help="Tables only. Prediction of numbers and dates, next to their central 90%."),
    ] = "mean",
    given: TableGiven = None,
    missing: Missing = None,
    separator: CellSeparator = None,
    decimal: DecimalMark = None,
    encoding: FileEncoding = None,
    unseen: UnseenCategories = None,
    num_draws: NumDraws = None,
    num_sweeps: NumSweeps = None,
    part: TablePart = None,
    workers: Workers = 1,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Predict columns or labels of rows from all else that is known of them, with a probability for every class.

    --given, --statistic, the options of CSV, --unseen, --num-draws, --num-sweeps, --part and --workers are for models of
    tables; --method is for models of blocks.
    """
    from jointebm.cli.blocks.models import holds_table

    if holds_table(model):
        refuse_options(context, _BLOCKS_ONLY, f"{model} is a model of a table")
        from jointebm.cli.tables.questions import Asked, predict_table

        own_seed = seed if given_on_the_line(context, ["seed"]) else None
        changes = {"unseen": unseen, "num_draws": num_draws, "num_sweeps": num_sweeps, "random_state": own_seed}
        reading = {"missing": missing, "separator": separator, "decimal": decimal, "encoding": encoding}
        asked = Asked.open(
            model, part=part, workers=workers, device=device, as_json=as_json, reading=reading, changes=changes
        )
        predict_table(asked, file, out, given=given or [], target=target, statistic=statistic)
    else:
        refuse_options(context, _TABLE_ONLY, f"{model} is a model of blocks")
        from jointebm.cli.blocks.row_predictions import predict_rows

        predict_rows(model, file, out, target=target, method=method, device=device, seed=seed, as_json=as_json)
