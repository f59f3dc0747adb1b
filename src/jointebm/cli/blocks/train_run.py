"""Trains a model of blocks in a run folder, shows the progress, and evaluates the model."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch

from jointebm.cli.blocks.acceptance import named_rates, write_rates
from jointebm.cli.blocks.evaluate import evaluation, print_evaluation
from jointebm.cli.console import Interrupted, print_json, say
from jointebm.cli.processes import joined
from jointebm.cli.progress import StepProgress
from jointebm.randomness.device_names import DeviceName
from jointebm.recipes.catalogue import find
from jointebm.recipes.recipe import Recipe, override
from jointebm.runs.training_run import Run, recipe_of
from jointebm.runs.training_run import resume as resume_run
from jointebm.runs.training_run import train as train_recipe
from jointebm.storage.atomic import check_new, new_file
from jointebm.training.divergence import Intervention
from jointebm.training.trainer import Metrics
from jointebm.training.world import World

__all__ = ["resume_training", "start_training"]


def start_training(
    name: str, out: Path, data_dir: Path | None, *, assignments: Sequence[str], seed: int, as_json: bool
) -> None:
    """Trains a recipe into a new folder, then evaluates the model and prints the report."""
    recipe = override(find(name), assignments)
    with joined(recipe.train.device) as world:
        world.from_first(lambda: check_new(out))
        with _progress(recipe, out, world) as told:
            run = train_recipe(recipe, out, seed=seed, data_dir=data_dir, **told, world=world)
    if world.rank == 0:
        _finish(run, as_json=as_json)


def resume_training(path: Path, data_dir: Path | None, *, device: DeviceName | None, as_json: bool) -> None:
    """Resumes a run from its newest checkpoint, then evaluates the model and prints the report."""
    recipe = recipe_of(path)
    with joined(device or recipe.train.device) as world, _progress(recipe, path, world) as told:
        run = resume_run(path, data_dir=data_dir, device=device, **told, on_damage=say, world=world)
    if world.rank == 0:
        _finish(run, as_json=as_json)


def _finish(run: Run, *, as_json: bool) -> None:
    report = _evaluated(run)
    if as_json:
        print_json(report)
    else:
        rates = write_rates(named_rates(run.model.kernel, run.metrics.accept_rate))
        without_chains = run.metrics.energy_gap is None
        note = f"acceptance at the end of training: {rates or 'no kernel ran, q was drawn from'}"
        print_evaluation(report, "" if without_chains else note)


def _tell(intervention: Intervention) -> None:
    say(str(intervention))


class _Told(TypedDict):
    """Whom a run tells what it does: nobody in other processes than the first."""

    on_metrics: Callable[[Metrics], object] | None
    on_intervention: Callable[[Intervention], object] | None


@contextmanager
def _progress(recipe: Recipe, out: Path, world: World) -> Iterator[_Told]:
    """A progress bar that takes metrics; Ctrl-C reports how far the run is and how to resume it."""
    if world.rank:
        yield {"on_metrics": None, "on_intervention": None}
        return
    num_iterations = recipe.train.num_iterations
    with StepProgress(f"training {recipe.name}", num_iterations) as progress:

        def show(metrics: Metrics) -> None:
            progress.show(metrics.iteration, _figures(metrics))

        try:
            yield {"on_metrics": show, "on_intervention": _tell}
        except KeyboardInterrupt as reason:
            where = f"interrupted after {progress.num_done} of {num_iterations} iterations"
            raise Interrupted(reason, f"{where}; {_next_step(out, world.size)}") from None


def _next_step(out: Path, num_processes: int = 1) -> str:
    """The state of an interrupted run on disk, and the command that resumes it."""
    if (out / "model").exists():
        return f"{out / 'model'} is complete; evaluate it with: jointebm evaluate {out}"
    if (out / "recipe.json").exists():
        started = "" if num_processes == 1 else f"torchrun --nproc-per-node {num_processes} -m "
        return f"resume with: {started}jointebm train --resume {out} --threads {torch.get_num_threads()}"
    return "nothing has been written"


def _figures(metrics: Metrics) -> str:
    """The figures next to the progress bar."""
    if metrics.energy_gap is None or metrics.chain_low is None or metrics.chain_high is None:  # without chains
        terms = "  ".join(f"{name} {value:.3g}" for name, value in (metrics.terms or {}).items())
        return f"{terms}  grad {metrics.grad_norm:.2g}"
    accept_rate = "/".join(f"{rate:.2f}" for rate in metrics.accept_rate) or "-"
    ess = "" if metrics.ess is None else f"ess {metrics.ess:.0f}  "
    return (
        f"gap {metrics.energy_gap:.2f}  accept {accept_rate}  {ess}grad {metrics.grad_norm:.2g}  "
        f"range {metrics.chain_low:.2f}..{metrics.chain_high:.2f}"
    )


def _evaluated(run: Run) -> dict[str, Any]:
    """The report of a run, also written to evaluation.json; its seconds are those of the training."""
    try:
        report = evaluation(run.model, run.dataset, run.path / "model", seed=run.seed)
    except KeyboardInterrupt as reason:
        raise Interrupted(reason, f"interrupted during the evaluation; {_next_step(run.path)}") from None
    report = {"run": str(run.path), **report, "seconds": round(run.seconds, 2)}
    with new_file(run.path / "evaluation.json") as file:
        file.write((json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    return report
