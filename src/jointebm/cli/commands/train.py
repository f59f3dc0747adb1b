"""`jointebm train`: trains a model of blocks."""

from pathlib import Path
from typing import Annotated

import typer

from jointebm.cli.options import (
    DataDir,
    Json,
    Seed,
    Set,
    Threads,
    check_only_resumes,
    resume_option,
    start_argument,
)

__all__ = ["train"]

_DEFINING = ("recipe", "out", "seed", "assignments")  # fixed when a run starts


def train(
    context: typer.Context,
    recipe: Annotated[str | None, start_argument("RECIPE", "Name of a recipe; 'jointebm recipes' lists them.")] = None,
    *,
    resume: Annotated[Path | None, resume_option("RUN", "its newest checkpoint")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the run (default: runs/RECIPE-SEED)."),
    ] = None,
    assignments: Set = None,
    seed: Seed = 0,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Train a model of blocks from a recipe, then evaluate it on the test rows of its data.

    The run folder holds recipe.json, run.json, metrics.jsonl, checkpoints/, model/ and evaluation.json. After Ctrl-C or
    SIGTERM, --resume continues the run bit for bit. To hide labels from training, set labels_per_class or observe_labels.
    """
    from jointebm.cli.blocks.train_run import resume_training, start_training

    if resume is not None:
        check_only_resumes(context, _DEFINING)
        resume_training(resume, data, as_json=as_json)
    elif recipe is None:
        raise ValueError("train: name a RECIPE ('jointebm recipes' lists them), or pass --resume RUN")
    else:
        folder = out or Path("runs") / f"{recipe}-{seed}"
        start_training(recipe, folder, data, assignments=assignments or [], seed=seed, as_json=as_json)
