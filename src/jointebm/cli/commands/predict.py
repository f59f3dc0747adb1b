"""`jointebm predict`: labels of rows in a file, or columns of a table, from whatever else is known of them."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from jointebm.cli.blocks.predict import _as_lists, _is_complete, _naming, _print, _targets, _write
from jointebm.cli.console import print_json, say
from jointebm.cli.files import holds_table, open_model
from jointebm.cli.options import (
    Json,
    Missing,
    ModelName,
    NumDraws,
    NumSweeps,
    Seed,
    Threads,
    Unseen,
    Workers,
    given_on_the_line,
    refuse_options,
)
from jointebm.inference.predict import predict as predict_rows
from jointebm.storage.atomic import check_new
from jointebm.storage.npz import read_arrays

__all__ = ["predict"]

OF_TABLES = ("statistic", "missing", "unseen", "num_draws", "num_sweeps", "workers")


def predict(
    context: typer.Context,
    model: ModelName,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .npz with one array of rows per block that is known; -1 or nan within is missing. For a table's model, "
            "a .csv, .csv.gz or .parquet.",
            show_default=False,
        ),
    ],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="Block to predict; default is every block that has labels missing. Or a column; default is all that the "
            "table does not have. Repeatable.",
        ),
    ] = None,
    method: Annotated[
        Literal["exact", "gibbs", "sample"],
        typer.Option(
            "--method", help="exact: enumeration; gibbs: averaged exact conditionals; sample: the paper's vote."
        ),
    ] = "exact",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write there: .npz with arrays labels_BLOCK and probs_BLOCK, or .csv with a column per label and class. "
            "For a table's model .csv, .csv.gz or .parquet; default is CSV on standard output.",
        ),
    ] = None,
    statistic: Annotated[
        Literal["mean", "median"],
        typer.Option("--statistic", help="Of numbers and dates in a table; the central 90% stand beside it."),
    ] = "mean",
    missing: Missing = None,
    unseen: Unseen = None,
    num_draws: NumDraws = None,
    num_sweeps: NumSweeps = None,
    workers: Workers = 1,
    seed: Seed = 0,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Predicts labels of rows from whatever else is known of them, with the probability of every class.

    A table's model predicts columns; --statistic, --missing, --unseen, --num-draws, --num-sweeps and --workers are for it.
    """
    if holds_table(model):
        refuse_options(context, ("method",), f"{model} is of a table")
        from jointebm.cli.tables.questions import Asked, predict_table
        from jointebm.tables.files.cells import missing_words

        asked = Asked.open(
            model,
            workers=workers,
            as_json=as_json,
            unseen=unseen,
            num_draws=num_draws,
            num_sweeps=num_sweeps,
            random_state=seed if given_on_the_line(context, ["seed"]) else None,
        )
        texts = missing_words(missing)
        predict_table(asked, file, out, target=target, statistic=statistic, missing=texts)
        return
    refuse_options(context, OF_TABLES, f"{model} is no table's model")
    path, opened = open_model(model)
    if out is not None:
        check_new(out, ".npz", ".csv")
    values = read_arrays(file)
    with _naming(file):
        opened.space.require(values)
    targets = _targets(opened.space, values, target, file)
    # A target that is known throughout is asked for afresh; in one with gaps, what is known is held still.
    answered = [name for name in targets if _is_complete(values, name)]
    known = {name: array for name, array in values.items() if name not in answered}
    if not known:
        raise ValueError(f"{file}: holds nothing but what is to be predicted; add an array of another block")
    generator = torch.Generator().manual_seed(seed)
    with _naming(file):
        prediction = predict_rows(opened, known, targets, method=method, generator=generator)
    for name in answered:
        say(f"block {name!r}: {file} gives every label; they are not used")
    if out is not None:
        _write(opened.space, prediction, out)
    if as_json:
        print_json({"model": str(path), "method": method, **_as_lists(prediction)})
    else:
        _print(opened.space, prediction, f"{file}: predicted by {method}")
    if out is not None:
        say(f"wrote {out}")
