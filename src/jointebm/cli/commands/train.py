"""`jointebm train`: trains a model of blocks."""

from pathlib import Path
from typing import Annotated

import typer

from jointebm.cli.options import (
    DataDir,
    DeviceOption,
    Json,
    Seed,
    Set,
    Threads,
    check_only_resumes,
    given_on_the_line,
    resume_option,
    start_argument,
)

__all__ = ["train"]

_DEFINING = ("recipe", "out", "seed", "assignments", "compiled")  # fixed when a run starts


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
    device: DeviceOption = "auto",
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the steps of the chains: it takes tens of seconds or more, and pays in long runs (default: as in "
            "the recipe).",
        ),
    ] = None,
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
        moved = device if given_on_the_line(context, ["device"]) else None
        resume_training(resume, data, device=moved, as_json=as_json)
    elif recipe is None:
        raise ValueError("train: name a RECIPE ('jointebm recipes' lists them), or pass --resume RUN")
    else:
        folder = out or Path("runs") / f"{recipe}-{seed}"
        further = [f"device={device}"] if given_on_the_line(context, ["device"]) else []
        further += [] if compiled is None else [f"compile={str(compiled).lower()}"]
        assignments = [*(assignments or []), *further]
        start_training(recipe, folder, data, assignments=assignments, seed=seed, as_json=as_json)
