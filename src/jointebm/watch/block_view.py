"""Describes a block model to the page: its blocks as controls, where chains may start, and its kernels.

Legend: V variables of a block, K classes of a variable.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.energies.picture import PictureEnergy
from jointebm.inference.model import Model
from jointebm.kernels import Lazy, parts_of
from jointebm.spaces.blocks import Binary, Continuous

__all__ = ["MAX_CONTROLS", "block_view", "kernel_names", "own_start", "shown_grid"]

MAX_CONTROLS = 24  # variables of a block that get a control each; with more, a block is painted as a picture
NUM_BARS = 40  # of a histogram
NUM_SHOWN = 2000  # rows of a histogram


def block_view(model: Model, *, source: str, rows: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """The model as plain data.

    Args:
        model: the model.
        source: how the user named it.
        rows: test rows, which may start chains and give the histograms; without them, draws of q give these.
    """
    known = rows if rows is not None else _reference_rows(model)
    starts = [own_start(model)]
    if starts[0]["id"] != "noise":
        starts.append({"id": "noise", "label": "noise"})
    num_rows = 0 if rows is None else len(next(iter(rows.values())))
    if num_rows:
        starts.append({"id": "row", "label": "a test row"})
    return {
        "kind": "blocks",
        "name": model.config.name,
        "source": source,
        "blocks": [_block(model, name, known) for name in model.space],
        "starts": starts,
        "kernels": kernel_names(model),
        "num_rows": num_rows,
        "log_normalizer": _log_normalizer(model),
    }


def _log_normalizer(model: Model) -> float | None:
    """log Z of f, if it is known."""
    if isinstance(model.energy, PictureEnergy):
        return 0.0  # f is log p
    return None if model.log_normalizer is None else model.log_normalizer.value


def own_start(model: Model) -> dict[str, str]:
    """Where `jointebm.inference.chain_starts` starts the chains of a model."""
    if isinstance(model.energy, LevelEnergy):
        return {"id": "path", "label": "a path over noise levels"}
    if isinstance(model.energy, PictureEnergy):
        return {"id": "exact", "label": "exact draws"}
    if model.reference is not None:
        return {"id": "q", "label": "draws of q"}
    return {"id": "noise", "label": "noise"}


def kernel_names(model: Model) -> list[str]:
    """The kernels of a step, in their order."""
    parts = [part.kernel if isinstance(part, Lazy) else part for part in parts_of(model.kernel)]
    return [type(part).__name__ for part in parts]


def shown_grid(shape: tuple[int, ...], num_variables: int) -> list[int] | None:
    """Height and width of a block as a picture; None if each of its variables gets a control."""
    if len(shape) == 2 and min(shape) > 1:
        return list(shape)
    if num_variables <= MAX_CONTROLS:
        return None
    width = shape[-1] if len(shape) > 1 and shape[-1] > 1 else int(np.ceil(np.sqrt(num_variables)))
    return [-(-num_variables // width), width]


def _block(model: Model, name: str, rows: Mapping[str, Tensor] | None) -> dict[str, Any]:
    block = model.space[name]
    found: dict[str, Any] = {
        "name": name,
        "num_variables": block.num_variables,
        "grid": shown_grid(block.variable_shape, block.num_variables),
    }
    if not isinstance(block, Continuous):
        kind = "binary" if isinstance(block, Binary) else "category"
        return {**found, "kind": kind, "classes": list(block.num_classes_per_variable)}
    bounds = block.decode(model.noise.parameters[name].double())
    low, high = (end.nan_to_num(0.0).reshape(-1).tolist() for end in bounds)
    high = [max(end, start + 1e-6) for start, end in zip(low, high, strict=True)]
    found |= {"kind": "real", "low": low, "high": high, "histogram": None}
    if found["grid"] is None and rows is not None:
        flat = rows[name].reshape(len(rows[name]), -1)[:NUM_SHOWN].numpy()
        ends = np.nanmin(flat, axis=0), np.nanmax(flat, axis=0)
        found["low"] = np.minimum(low, ends[0]).tolist()
        found["high"] = np.maximum(high, ends[1]).tolist()
        found["histogram"] = [
            np.histogram(column[~np.isnan(column)], bins=NUM_BARS, range=(start, end))[0].tolist()
            for column, start, end in zip(flat.T, found["low"], found["high"], strict=True)
        ]
    return found


def _reference_rows(model: Model) -> dict[str, Tensor] | None:
    if model.reference is None:
        return None
    drawn = model.reference.draw(NUM_SHOWN, torch.Generator().manual_seed(0))
    return model.space.decode(drawn)
