"""A run: a recipe trained into a folder that says all about it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/lock             held by the process that trains
RUN/metrics.jsonl    one line per `log_every` iterations, and one per intervention against divergence ("event")
RUN/checkpoints/     the newest states of training (see `jointebm.checkpoint`)
RUN/model/           the trained model, with averaged parameters
RUN/evaluation.json  accuracy and calibration, if the command line trained it
"""

import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from jointebm.checkpoint import lock, newest, write
from jointebm.data import Dataset, open_dataset
from jointebm.divergence import Diverged, Intervention
from jointebm.interrupts import held_back
from jointebm.models import Model, ModelConfig
from jointebm.recipes import RECIPES, Recipe
from jointebm.training import Metrics, Trainer

__all__ = ["Run", "initial_model", "recipe_of", "resume", "train"]

OnMetrics = Callable[[Metrics], object]
OnIntervention = Callable[[Intervention], object]


class Run(NamedTuple):
    """A finished run.

    Args:
        path: its folder.
        seed: of the weights and of all draws.
        model: what it trained, as saved.
        dataset: what it was trained on.
        seconds: training time.
        metrics: of the last iteration.
    """

    path: Path
    seed: int
    model: Model
    dataset: Dataset
    seconds: float
    metrics: Metrics


def initial_model(recipe: Recipe, dataset: Dataset, *, seed: int) -> Model:
    """The model of a recipe before training, with weights drawn from the seed.

    Example:
        >>> from jointebm import recipes
        >>> from jointebm.data import Toy
        >>> sum(p.numel() for p in initial_model(recipes.toy_paper(), Toy(), seed=0).parameters())
        134145
    """
    config = ModelConfig(
        name=recipe.name,
        data=recipe.data,
        space=dataset.space.config,
        energy=recipe.energy,
        kernel=recipe.kernel,
        num_chains=recipe.num_test_chains,
        num_steps=recipe.num_test_steps,
    )
    # torch.nn draws initial weights from the global generator only; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(config)


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    on_metrics: OnMetrics | None = None,
    on_intervention: OnIntervention | None = None,
) -> Run:
    """Trains a recipe into a new folder.

    Args:
        recipe: what to train.
        out: the run's folder, which must not exist.
        seed: of the weights and of all draws; the same seed, versions and threads give the same model.
        data_dir: folder where data files lie; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or goes back.

    Raises:
        FileExistsError: the folder exists.
        Diverged: training diverged for good; the folder keeps the metrics and checkpoints up to there, and no model.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another folder or remove it, or go on with train --resume")
    dataset = open_dataset(recipe.data, data_dir)
    model, trainer = _prepare(recipe, dataset, seed=seed)
    out.mkdir(parents=True)
    (out / "recipe.json").write_text(recipe.model_dump_json(indent=2) + "\n")
    _write_json(out / "run.json", {"recipe": recipe.name, "seed": seed, **environment()})
    with lock(out / "lock"):
        return _run(out, recipe, model, dataset, trainer, on_metrics, on_intervention)


def resume(
    path: str | os.PathLike[str],
    *,
    data_dir: Path | None = None,
    on_metrics: OnMetrics | None = None,
    on_intervention: OnIntervention | None = None,
) -> Run:
    """Goes on with a run that was interrupted, from its newest intact checkpoint, or from the start if there is none.

    With the same versions, device type and threads, parameters, averages, buffers and metrics come out bit for bit as
    those of an uninterrupted run.

    Args:
        path: the run's folder.
        data_dir: folder where data files lie; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or goes back.

    Raises:
        FileNotFoundError: this is no run folder.
        FileExistsError: the run is finished.
        BlockingIOError: another process is training it.
    """
    path = Path(path)
    recipe, seed = recipe_of(path), _seed_of(path)
    if (path / "model").exists():
        raise FileExistsError(f"{path}: is finished; its model is in {path / 'model'}")
    dataset = open_dataset(recipe.data, data_dir)
    model, trainer = _prepare(recipe, dataset, seed=seed)
    with lock(path / "lock"):
        loaded = newest(path / "checkpoints")
        for line in loaded.damaged:
            warnings.warn(f"{line}; going on from the checkpoint before it", stacklevel=2)
        if loaded.checkpoint is not None:
            trainer.restore(loaded.checkpoint)
        _cut(path / "metrics.jsonl", 0 if loaded.checkpoint is None else loaded.checkpoint.plain["metrics_bytes"])
        return _run(path, recipe, model, dataset, trainer, on_metrics, on_intervention)


def recipe_of(path: Path) -> Recipe:
    """The recipe that a run folder was begun with."""
    try:
        return Recipe.model_validate_json(_text(path / "recipe.json"))
    except ValueError:
        raise ValueError(f"{path / 'recipe.json'}: not a recipe of this version") from None


def _seed_of(path: Path) -> int:
    try:
        return int(json.loads(_text(path / "run.json"))["seed"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path / 'run.json'}: does not hold the seed of the run") from None


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a run folder that can be resumed holds it")
    return path.read_text()


def _prepare(recipe: Recipe, dataset: Dataset, *, seed: int) -> tuple[Model, Trainer]:
    model = initial_model(recipe, dataset, seed=seed)
    trainer = Trainer(model.energy, dataset.space, dataset.batch, kernel=model.kernel, config=recipe.train, seed=seed)
    with torch.no_grad():  # a network that does not fit its data is found before anything is written
        model.energy(trainer.noise.draw(1, generator=torch.Generator()))
    return model, trainer


def _run(
    path: Path,
    recipe: Recipe,
    model: Model,
    dataset: Dataset,
    trainer: Trainer,
    on_metrics: OnMetrics | None,
    on_intervention: OnIntervention | None,
) -> Run:
    """Trains from where the trainer stands, and writes metrics, checkpoints, and at the end the model.

    Ctrl-C and SIGTERM let the iteration finish and write a checkpoint, so that nothing of the run is lost.
    """
    config = recipe.train
    with (path / "metrics.jsonl").open("ab") as file, held_back() as pending:

        def note(intervention: Intervention) -> None:
            _append(file, {"event": intervention.action, **intervention._asdict()})
            if on_intervention is not None:
                on_intervention(intervention)

        trainer.on_intervention = note
        try:
            for metrics in trainer.run():
                if metrics.iteration % config.log_every == 0 or metrics.iteration == config.num_iterations:
                    _append(file, metrics._asdict())
                due = config.checkpoint_every and metrics.iteration % config.checkpoint_every == 0
                if due and metrics.iteration < config.num_iterations:
                    _checkpoint(path, trainer, file)
                if on_metrics is not None:
                    on_metrics(metrics)
                pending.check()
        except KeyboardInterrupt:
            _checkpoint(path, trainer, file)
            raise
        except Diverged as error:
            _append(
                file, {"event": "stopped", "iteration": trainer.iteration, "kind": error.kind, "finding": str(error)}
            )
            raise
    assert trainer.metrics is not None
    facts = json.loads((path / "run.json").read_text())
    trained = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
    _write_json(path / "run.json", {**facts, "seconds": round(trainer.seconds, 1)})
    trained.save(path / "model", card=_card(recipe, facts, trainer.metrics, trainer.interventions))
    return Run(path, facts["seed"], trained, dataset, trainer.seconds, trainer.metrics)


def _append(file: BinaryIO, line: Mapping[str, Any]) -> None:
    file.write((json.dumps(line) + "\n").encode())
    file.flush()


def _checkpoint(path: Path, trainer: Trainer, metrics: BinaryIO) -> None:
    """Writes a checkpoint that also knows how far metrics.jsonl goes."""
    os.fsync(metrics.fileno())
    state = trainer.state()
    plain = {**state.plain, "metrics_bytes": metrics.tell()}
    write(path / "checkpoints", state._replace(plain=plain), keep=trainer.config.keep_checkpoints)


def _cut(path: Path, num_bytes: int) -> None:
    """Drops the lines of metrics that a checkpoint does not know of, whole ones and a torn last one."""
    found = path.stat().st_size if path.exists() else 0
    if found < num_bytes:
        warnings.warn(f"{path}: has lost lines: {found} bytes, the checkpoint knows of {num_bytes}", stacklevel=3)
    if found > num_bytes:
        os.truncate(path, num_bytes)


def environment() -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    return {
        "jointebm": version("jointebm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _card(recipe: Recipe, facts: dict[str, Any], metrics: Metrics, interventions: Sequence[Intervention]) -> str:
    command = f"jointebm train {recipe.name} --seed {facts['seed']}"
    original = RECIPES[recipe.name]() if recipe.name in RECIPES else None
    changed = (
        "" if recipe == original else "\n\nFields of the recipe were changed; `recipe.json` of the run holds them."
    )
    summary = recipe.summary[0].upper() + recipe.summary[1:]
    return f"""# {recipe.name}

{summary}. A joint energy-based model, log p(x, y) = f(x, y) - log Z, of the data `{recipe.data}`.

| | |
|---|---|
| command | `{command}` |
| iterations | {metrics.iteration} |
| training time | {metrics.seconds:.0f} s on {facts["threads"]} threads ({facts["machine"]}) |
| versions | jointebm {facts["jointebm"]}, torch {facts["torch"]}, Python {facts["python"]} |
| energy gap at the end | {metrics.energy_gap:.3f} nats |
| interventions against divergence | {"<br>".join(map(str, interventions)) or "none"} |{changed}

Load it with `jointebm.load(folder)`. f is known up to a constant; its samples are those of a finite Markov chain.
"""
