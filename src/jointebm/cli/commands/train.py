"""`jointebm train`: a recipe becomes a run folder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from jointebm.cli.blocks.evaluate import evaluation, print_evaluation
from jointebm.cli.console import Interrupted, named_rates, print_json, say, write_rates
from jointebm.cli.options import (
    DataDir,
    Json,
    Seed,
    Set,
    Threads,
    begun_with,
    check_only_resumes,
    going_on_from,
    whole_number,
)
from jointebm.cli.progress import StepProgress
from jointebm.recipes import Recipe, override
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import Run, recipe_of
from jointebm.runs.training_run import resume as resume_run
from jointebm.runs.training_run import train as train_recipe
from jointebm.storage.atomic import check_new, new_file
from jointebm.training.divergence import Intervention
from jointebm.training.trainer import Metrics

__all__ = ["train"]


def train(
    context: typer.Context,
    recipe: Annotated[str | None, begun_with("RECIPE", "Name of a recipe; 'jointebm recipes' lists them.")] = None,
    *,
    resume: Annotated[Path | None, going_on_from("RUN", "its newest checkpoint")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the run; default is runs/RECIPE-SEED."),
    ] = None,
    seed: Seed = 0,
    labels_per_class: Annotated[
        int | None,
        typer.Option(
            "--labels-per-class",
            parser=whole_number(1),
            metavar="N",
            help="Hide all labels but N of each class; short for --set labels_per_class=N.",
        ),
    ] = None,
    observe: Annotated[
        float | None,
        typer.Option(
            "--observe",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Hide labels at random, each with probability 1 - SHARE; short for --set observe_labels=SHARE.",
        ),
    ] = None,
    assignments: Set = None,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Trains a recipe into a new folder, or goes on with a run, then evaluates it on the test rows.

    The folder holds recipe.json, run.json, metrics.jsonl, checkpoints/, model/ and evaluation.json. What is hidden from
    training is drawn from the recipe's hiding_seed, not from --seed, and recorded with the recipe; test rows stay whole.
    """
    if resume is not None:
        check_only_resumes(context, ("recipe", "out", "seed", "labels_per_class", "observe", "assignments"))
        run = _resumed(resume, data)
    elif recipe is None:
        raise ValueError("train: name a RECIPE ('jointebm recipes' lists them), or pass --resume RUN")
    else:
        folder = out or Path("runs") / f"{recipe}-{seed}"
        changed = override(find(recipe), [*(assignments or []), *_hidden(labels_per_class, observe)])
        check_new(folder)
        run = _trained(changed, folder, seed, data)
    report = _evaluated(run)
    if as_json:
        print_json(report)
    else:
        rates = named_rates(run.model.kernel, run.metrics.accept_rate)
        print_evaluation(report, f"acceptance at the end of training: {write_rates(rates)}")


def _hidden(labels_per_class: int | None, observe: float | None) -> list[str]:
    """The options that hide entries, as fields of the recipe."""
    fields = {"labels_per_class": labels_per_class, "observe_labels": observe}
    return [f"{name}={value}" for name, value in fields.items() if value is not None]


def _trained(recipe: Recipe, out: Path, seed: int, data_dir: Path | None) -> Run:
    with _progress(recipe, out) as on_metrics:
        return train_recipe(recipe, out, seed=seed, data_dir=data_dir, on_metrics=on_metrics, on_intervention=_tell)


def _resumed(path: Path, data_dir: Path | None) -> Run:
    with _progress(recipe_of(path), path) as on_metrics:
        return resume_run(path, data_dir=data_dir, on_metrics=on_metrics, on_intervention=_tell, on_damage=say)


def _tell(intervention: Intervention) -> None:
    say(str(intervention))


@contextmanager
def _progress(recipe: Recipe, out: Path) -> Iterator[Callable[[Metrics], None]]:
    """A progress bar to feed metrics to; Ctrl-C says how far the run came and how to go on."""
    num_iterations = recipe.train.num_iterations
    with StepProgress(f"training {recipe.name}", num_iterations) as progress:
        try:
            yield lambda metrics: progress.show(metrics.iteration, _figures(metrics))
        except KeyboardInterrupt as reason:
            where = f"interrupted after {progress.num_done} of {num_iterations} iterations"
            raise Interrupted(reason, f"{where}; {_way_on(out)}") from None


def _way_on(out: Path) -> str:
    """What an interrupted run left, and what to do with it."""
    if (out / "model").exists():
        return f"{out / 'model'} is complete; go on with: jointebm evaluate {out}"
    if (out / "recipe.json").exists():
        return f"go on with: jointebm train --resume {out} --threads {torch.get_num_threads()}"
    return "nothing is written yet"


def _figures(metrics: Metrics) -> str:
    """What one watches while it trains."""
    accept_rate = "/".join(f"{rate:.2f}" for rate in metrics.accept_rate)
    return (
        f"gap {metrics.energy_gap:.2f}  accept {accept_rate}  grad {metrics.grad_norm:.2g}  "
        f"range {metrics.chain_low:.2f}..{metrics.chain_high:.2f}"
    )


def _evaluated(run: Run) -> dict[str, Any]:
    """The report of a run, which is also written beside it; its seconds are those of the training."""
    try:
        report = evaluation(run.model, run.dataset, run.path / "model", seed=run.seed)
    except KeyboardInterrupt as reason:
        raise Interrupted(reason, f"interrupted in the evaluation; {_way_on(run.path)}") from None
    report = {"run": str(run.path), **report, "seconds": round(run.seconds, 2)}
    with new_file(run.path / "evaluation.json") as file:
        file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    return report
