"""Predicts labels of rows in an npz file, and writes or prints them."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from jointebm.cli.blocks.models import open_model, shown_model
from jointebm.cli.console import print_json, print_table, say
from jointebm.inference.conditions import variable_names
from jointebm.inference.predict import predict
from jointebm.inference.prediction import Prediction
from jointebm.randomness.device_names import DeviceName
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Space, Values
from jointebm.storage.atomic import check_new, new_file
from jointebm.storage.npz import read_arrays
from jointebm.storage.untrusted import quoted

__all__ = ["predict_rows"]

NUM_SHOWN = 20


def predict_rows(
    name: str,
    file: Path,
    out: Path | None,
    *,
    target: Sequence[str] | None,
    method: Literal["exact", "gibbs", "sample"],
    device: DeviceName,
    seed: int,
    as_json: bool,
) -> None:
    """Predicts labels and writes or prints them with the probability of every class."""
    path, model = open_model(name, device)
    if out is not None:
        check_new(out, ".npz", ".csv")
    values = read_arrays(file)
    with _naming(file):
        model.space.require(values)
    targets = _targets(model.space, values, target, file)
    # A target whose labels are all known is predicted without them; where some are missing, the known ones are clamped.
    ignored = [name for name in targets if _is_complete(values, name)]
    known = {name: array for name, array in values.items() if name not in ignored}
    if not known:
        raise ValueError(f"{file}: holds only the blocks to predict; add an array of another block")
    with _naming(file):
        generator = torch.Generator(model.device).manual_seed(seed)
        prediction = predict(model, known, targets, method=method, generator=generator)
    for name in ignored:
        say(f"block {name!r}: ignoring its labels in {file}, since all are known")
    if out is not None:
        _write(model.space, prediction, out)
    if as_json:
        num_rows = len(next(iter(prediction.labels.values())))
        labels, probs = (
            {name: each.tolist() for name, each in part.items()} for part in (prediction.labels, prediction.probs)
        )
        print_json(
            {"model": shown_model(name, path), "method": method, "rows": num_rows, "labels": labels, "probs": probs}
        )
    else:
        _print(model.space, prediction, f"{file}: predicted by {method}")
    if out is not None:
        say(f"wrote {out}")


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Starts an error about rows with the name of their file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {quoted(error)}") from None


def _targets(space: Space, values: Values, target: Sequence[str] | None, file: Path) -> list[str]:
    """The blocks to predict: the named ones, or all with missing labels."""
    if target is not None:
        space.require(target, discrete=True)
        return list(dict.fromkeys(target))
    missing = [name for name in space.discrete if not _is_complete(values, name)]
    if not missing:
        raise ValueError(f"{file}: no label is missing; name the blocks to predict with --target, or set labels to -1")
    return missing


def _is_complete(values: Values, name: str) -> bool:
    return name in values and not bool((values[name] == -1).any())


def _write(space: Space, prediction: Prediction, out: Path) -> None:
    with new_file(out) as file:
        if out.suffix == ".npz":
            arrays = {f"labels_{name}": labels for name, labels in prediction.labels.items()}
            arrays |= {f"probs_{name}": probs for name, probs in prediction.probs.items()}
            np.savez(file, **{name: value.cpu().numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
        else:
            columns: dict[str, Sequence[Any]] = {"row": range(len(next(iter(prediction.labels.values()))))}
            for variable, (labels, probs) in _variables(space, prediction).items():
                columns[variable] = labels.tolist()
                columns |= {f"{variable}={label}": column for label, column in enumerate(probs.T.tolist())}
            text = io.StringIO()
            csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
            file.write(text.getvalue().encode())


def _variables(space: Space, prediction: Prediction) -> dict[str, tuple[Tensor, Tensor]]:
    """Labels (N,) and class probabilities (N, K) of each variable."""
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
        caption += f"; {num_rows - NUM_SHOWN} more rows: see --json or --out"
    print_table(title, ["row", *variables], rows, caption=caption)
