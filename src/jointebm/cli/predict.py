"""`jointebm predict`: labels of rows in a file, or columns of a table, from whatever else is known of them."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from torch import Tensor

from jointebm.blocks import Binary
from jointebm.cli.console import print_json, print_table, say
from jointebm.cli.files import check_new, holds_table, new_file, open_model
from jointebm.cli.options import Json, ModelName, Seed, Threads, given_on_the_line, refuse_options
from jointebm.cli.table_options import Missing, NumDraws, NumSweeps, Unseen, Workers
from jointebm.conditioning import Prediction
from jointebm.conditioning import predict as predict_rows
from jointebm.conditions import variable_names
from jointebm.npz import read_arrays
from jointebm.spaces import Space, Values
from jointebm.untrusted import quoted

__all__ = ["predict"]

NUM_SHOWN = 20
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
        from jointebm.cli.tables.asking import Asked, predict_table
        from jointebm.cli.tables.cells import missing_words

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


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Puts the name of the file before what is wrong with its rows."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {quoted(error)}") from None


def _targets(space: Space, values: Values, target: list[str] | None, file: Path) -> list[str]:
    """The blocks to predict: those that are named, or else those in which something is missing."""
    if target is not None:
        space.require(target, discrete=True)
        return list(dict.fromkeys(target))
    missing = [name for name in space.discrete if not _is_complete(values, name)]
    if not missing:
        raise ValueError(f"{file}: no label is missing; name what is to be predicted with --target, or set it to -1")
    return missing


def _is_complete(values: Values, name: str) -> bool:
    return name in values and not bool((values[name] == -1).any())


def _as_lists(prediction: Prediction) -> dict[str, Any]:
    return {
        "rows": len(next(iter(prediction.labels.values()))),
        "labels": {name: labels.tolist() for name, labels in prediction.labels.items()},
        "probs": {name: probs.tolist() for name, probs in prediction.probs.items()},
    }


def _write(space: Space, prediction: Prediction, out: Path) -> None:
    with new_file(out) as file:
        if out.suffix == ".npz":
            arrays = {f"labels_{name}": labels for name, labels in prediction.labels.items()}
            arrays |= {f"probs_{name}": probs for name, probs in prediction.probs.items()}
            np.savez(file, **{name: value.cpu().numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
        else:
            text = io.StringIO()
            csv.writer(text).writerows(_csv_rows(space, prediction))
            file.write(text.getvalue().encode())


def _csv_rows(space: Space, prediction: Prediction) -> list[list[Any]]:
    """A header, then per row each label and the probability of each of its classes."""
    header: list[Any] = ["row"]
    columns: list[list[Any]] = [list(range(len(next(iter(prediction.labels.values())))))]
    for variable, (labels, probs) in _variables(space, prediction).items():
        header += [variable, *(f"{variable}={label}" for label in range(probs.shape[1]))]
        columns += [labels.tolist(), *probs.T.tolist()]
    return [header, *map(list, zip(*columns, strict=True))]


def _variables(space: Space, prediction: Prediction) -> dict[str, tuple[Tensor, Tensor]]:
    """Per variable, its labels (N,) and the probabilities of all its classes (N, K)."""
    variables: dict[str, tuple[Tensor, Tensor]] = {}
    for name in prediction.labels:
        probs = prediction.probs[name]
        if isinstance(space[name], Binary):
            probs = torch.stack([1 - probs, probs], dim=-1)
        counts = list(space.num_classes(name))
        columns = prediction.labels[name].reshape(len(probs), -1).T
        parts = probs.reshape(len(probs), -1).split(counts, dim=1)
        variables |= dict(zip(variable_names(space, name), zip(columns, parts, strict=True), strict=True))
    return variables


def _print(space: Space, prediction: Prediction, title: str) -> None:
    variables = _variables(space, prediction)
    num_rows = len(next(iter(variables.values()))[0])
    rows = []
    for row in range(min(num_rows, NUM_SHOWN)):
        cells = [f"{int(labels[row])} ({float(probs[row, labels[row]]):.3f})" for labels, probs in variables.values()]
        rows.append([str(row), *cells])
    caption = "label (its probability)"
    if num_rows > NUM_SHOWN:
        caption += f"; {num_rows - NUM_SHOWN} more rows: use --json or --out"
    print_table(title, ["row", *variables], rows, caption=caption)
