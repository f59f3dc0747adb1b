"""Runs `jointebm predict` for a model of blocks."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.cli.console import print_table
from jointebm.inference.conditions import variable_names
from jointebm.inference.predict import Prediction
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Space, Values
from jointebm.storage.atomic import new_file
from jointebm.storage.untrusted import quoted

__all__ = []


NUM_SHOWN = 20


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
