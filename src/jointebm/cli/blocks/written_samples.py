"""Writes samples of blocks to a file and a picture, and summarises them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer
from torch import Tensor

from jointebm.cli.blocks.acceptance import named_rates, write_rates
from jointebm.cli.console import print_table, say
from jointebm.inference.conditions import variable_names
from jointebm.inference.model import Model
from jointebm.sampling.samples import Samples, Trajectory
from jointebm.storage.atomic import new_file

__all__ = ["convergence_summary", "print_summary", "summary_of", "write_samples"]

MAX_SHOWN = 20  # quantities in the printed table, the worst first


def summary_of(model: Model, samples: Samples, *, interrupted: bool) -> dict[str, Any]:
    """The summary of samples, as `--json` prints it."""
    return {
        "num": len(samples.chain.f),
        "num_steps": samples.num_steps,
        "interrupted": interrupted,
        "mean_f": float(samples.chain.f.cpu().double().mean()),
        "accept_rate": named_rates(model.kernel, samples.accept_rate),
        "counts": _counts(model, samples.values),
    }


def convergence_summary(trajectory: Trajectory) -> dict[str, dict[str, dict[str, float | None]]]:
    """Diagnostics of f and every variable, as `--json` prints them; null where no chain ever changes."""
    return {
        "convergence": {
            name: {key: value if math.isfinite(value) else None for key, value in found._asdict().items()}
            for name, found in trajectory.convergence().items()
        }
    }


def _counts(model: Model, values: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Counts of each label of each discrete variable."""
    counts = {}
    for name in model.space.discrete:
        columns = values[name].reshape(-1, model.space[name].num_variables).T
        for variable, column, num in zip(
            variable_names(model.space, name), columns, model.space.num_classes(name), strict=True
        ):
            counts[variable] = column.bincount(minlength=num).tolist()
    return counts


def write_samples(model: Model, samples: Samples, kept: Mapping[str, Tensor], out: Path, title: str) -> str | None:
    """Writes the arrays and, if a block can be drawn, a picture; returns its name."""
    with new_file(out) as file:
        np.savez(file, **{name: value.cpu().numpy() for name, value in kept.items()})  # type: ignore[arg-type]
    try:
        from jointebm.plots import plot_samples, save_figure
    except ImportError as error:
        say(f"no picture: {error}")
        return None
    try:
        ax = plot_samples(model, samples.values, title=title or "unconditional")
    except ValueError as error:
        say(f"no picture: {error}")
        return None
    picture = out.with_suffix(".png")
    with new_file(picture) as file:
        save_figure(ax.figure, file)
    return str(picture)


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints the summary as a table, and the names of the files."""
    rates = write_rates(summary["accept_rate"]) or "none"
    rows = [[variable, " ".join(map(str, counts))] for variable, counts in summary["counts"].items()]
    print_table(
        f"{summary['model']}: {summary['num']} samples after {summary['num_steps']} steps",
        ["label", "counts of its classes, from 0"],
        rows,
        num_text=2,
        caption=f"mean f {summary['mean_f']:.3f} nats; acceptance: {rates}",
    )
    if "convergence" in summary:
        stuck = {
            name for name, each in summary["convergence"].items() if each["r_hat"] is None and each["standard_error"]
        }
        found = sorted(
            summary["convergence"].items(), key=lambda pair: (pair[0] not in stuck, -(pair[1]["r_hat"] or 0.0))
        )
        print_table(
            f"convergence of {len(found)} quantities, the worst first",
            ["quantity", "mean", "standard error", "R-hat", "bulk draws", "tail draws"],
            [
                [name, *("-" if value is None else f"{value:.4g}" for value in each.values())]
                for name, each in found[:MAX_SHOWN]
            ],
        )
    for key in ("out", "picture"):
        if summary.get(key):
            typer.echo(summary[key])
