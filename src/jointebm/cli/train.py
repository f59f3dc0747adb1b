"""`jointebm train`: a recipe becomes a run folder."""

import json
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jointebm.cli.console import Interrupted, print_json, progress_console
from jointebm.cli.evaluate import evaluation, print_evaluation
from jointebm.cli.files import new_file
from jointebm.cli.options import DataDir, Json, RecipeName, Seed, Set, Threads
from jointebm.recipes import find, override
from jointebm.runs import Run
from jointebm.runs import train as train_recipe
from jointebm.training import Metrics

__all__ = ["train"]


def train(
    recipe: RecipeName,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the run; default is runs/RECIPE-SEED."),
    ] = None,
    seed: Seed = 0,
    assignments: Set = None,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Trains a recipe into a new folder, then evaluates it on the test rows.

    The folder holds recipe.json, run.json, metrics.jsonl, model/ and evaluation.json.
    """
    changed = override(find(recipe), assignments or [])
    folder = out or Path("runs") / f"{recipe}-{seed}"
    with TrainingProgress(changed.name, changed.train.num_iterations) as progress:
        try:
            run = train_recipe(changed, folder, seed=seed, data_dir=data, on_metrics=progress.show)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted after {progress.num_done} of {changed.train.num_iterations} iterations; {folder} keeps what "
                "was logged, but no model"
            ) from None
    report = _evaluated(run, seed)
    if as_json:
        print_json(report)
    else:
        print_evaluation(report, accept_rate=dict(zip(_kernel_names(run), run.metrics.accept_rate, strict=True)))


def _evaluated(run: Run, seed: int) -> dict[str, Any]:
    """The report of a run, which is also written beside it; its seconds are those of the training."""
    path = run.path / "model"
    report = {"run": str(run.path), **evaluation(run.model, run.dataset, path, seed=seed), "seconds": round(run.seconds, 2)}
    with new_file(run.path / "evaluation.json") as file:
        file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    return report
