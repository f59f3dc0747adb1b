"""A run: a recipe trained into a folder that says all about it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/lock             held by the process that trains
RUN/metrics.jsonl    one line per `log_every` iterations, and one per intervention against divergence or stop ("event")
RUN/checkpoints/     the newest states of training (see `jointebm.storage.checkpoint`)
RUN/model/           the trained model, with averaged parameters
RUN/evaluation.json  accuracy and calibration, if the command line trained it
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from jointebm.storage.atomic import flush_folder, lock, naming
from jointebm.storage.checkpoint import write
from jointebm.data import ArrayDataset, Dataset
from jointebm.data.registry import open_dataset
from jointebm.training.hiding import hide
from jointebm.training.divergence import Diverged, Intervention
from jointebm.runs.interrupts import held_back
from jointebm.runs.temperature_scaling import label_scale, rescaled
from jointebm.inference.model import Model, ModelConfig
from jointebm.runs.provenance import card, environment
from jointebm.recipes import Recipe
from jointebm.runs.resuming import check_same_run, metrics_bytes, newest_checkpoint, restore
from jointebm.runs.folder import append_metrics, begin, cut_metrics, facts_of, recipe_of, write_facts
from jointebm.runs.size import check_size
from jointebm.training.trainer import Metrics, Trainer
from jointebm.storage.untrusted import quoted

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
        OSError: the disk is full, or the folder is gone; the folder keeps its checkpoints, and can be resumed.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another folder or remove it, or go on with train --resume")
    dataset = open_dataset(recipe.data, data_dir)
    model, trainer = _prepare(recipe, dataset, seed=seed)
    facts = {"recipe": recipe.name, "seed": seed, **environment()}
    begin(out, recipe, facts)
    with lock(out / "lock"):
        return _run(out, recipe, facts, model, dataset, trainer, on_metrics, on_intervention)


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def resume(
    path: str | os.PathLike[str],
    *,
    data_dir: Path | None = None,
    on_metrics: OnMetrics | None = None,
    on_intervention: OnIntervention | None = None,
    on_damage: Callable[[str], object] = _warn,
) -> Run:
    """Goes on with a run that was interrupted, from its newest intact checkpoint, or from the start if it wrote none.

    With the same versions, device type and number of threads, parameters, averages, optimizer, buffers, generators,
    snapshots, interventions and metrics, but for the seconds, come out bit for bit as those of an uninterrupted run.

    Args:
        path: the run's folder.
        data_dir: folder where data files lie; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or goes back.
        on_damage: is told, in a line, of each checkpoint that is passed over, and of lost metrics; a warning by default.

    Raises:
        FileNotFoundError: this is no run folder.
        FileExistsError: the run is finished.
        BlockingIOError: another process is training it.
        ValueError: recipe.json or run.json is damaged or not what the checkpoint was written with, or no checkpoint is
            intact.
    """
    path = Path(path)
    recipe, facts = recipe_of(path), facts_of(path)
    if (path / "model").exists():
        raise FileExistsError(f"{path}: is finished; its model is in {path / 'model'}")
    with lock(path / "lock"):
        checkpoint = newest_checkpoint(path, on_damage)
        if checkpoint is not None:
            check_same_run(path, recipe, facts, checkpoint, on_damage)
        dataset = open_dataset(recipe.data, data_dir)
        model, trainer = _prepare(recipe, dataset, seed=facts["seed"])
        num_bytes = 0
        if checkpoint is not None:
            restore(trainer, checkpoint, path)
            num_bytes = metrics_bytes(path, checkpoint)
        cut_metrics(path, num_bytes, on_damage)
        return _run(path, recipe, facts, model, dataset, trainer, on_metrics, on_intervention)


def _prepare(recipe: Recipe, dataset: Dataset, *, seed: int) -> tuple[Model, Trainer]:
    check_size(recipe, dataset.space)
    model = initial_model(recipe, dataset, seed=seed)
    seen = hide(dataset, recipe.train.hide)
    batch, labelled = (seen.rows, seen.labelled) if isinstance(seen, ArrayDataset) else (seen.batch, None)
    trainer = Trainer(
        model.energy, seen.space, batch, kernel=model.kernel, config=recipe.train, seed=seed, labelled=labelled
    )
    with torch.no_grad():  # a network that does not fit its data is found before anything is written
        model.energy(trainer.noise.draw(1, generator=torch.Generator()))
    return model, trainer


def _run(
    path: Path,
    recipe: Recipe,
    facts: Mapping[str, Any],
    model: Model,
    dataset: Dataset,
    trainer: Trainer,
    on_metrics: OnMetrics | None,
    on_intervention: OnIntervention | None,
) -> Run:
    """Trains from where the trainer stands, and writes metrics, checkpoints, and at the end the model.

    Ctrl-C and SIGTERM let the iteration finish and write a checkpoint, so that nothing of the run is lost; while the model
    is written, they wait until it is there.
    """
    config = recipe.train
    with held_back() as pending, (path / "metrics.jsonl").open("ab", buffering=0) as file:
        flush_folder(path)

        def note(intervention: Intervention) -> None:
            append_metrics(path, file, {"event": intervention.action, **intervention._asdict()})
            if on_intervention is not None:
                on_intervention(intervention)

        trainer.on_intervention = note
        try:
            for metrics in trainer.run():
                if metrics.iteration % config.log_every == 0 or metrics.iteration == config.num_iterations:
                    append_metrics(path, file, metrics._asdict())
                due = config.checkpoint_every and metrics.iteration % config.checkpoint_every == 0
                if due and metrics.iteration < config.num_iterations:
                    _checkpoint(path, recipe, facts["seed"], trainer, file)
                if on_metrics is not None:
                    on_metrics(metrics)
                pending.check()
        except KeyboardInterrupt:
            _checkpoint(path, recipe, facts["seed"], trainer, file)
            raise
        except Diverged as error:
            stopped = {"event": "stopped", "iteration": trainer.iteration, "kind": error.kind, "finding": str(error)}
            append_metrics(path, file, stopped)
            raise
        return _finish(path, recipe, facts, model, dataset, trainer)


def _finish(
    path: Path, recipe: Recipe, facts: Mapping[str, Any], model: Model, dataset: Dataset, trainer: Trainer
) -> Run:
    """Writes the trained model, whole or not at all."""
    assert trainer.metrics is not None
    write_facts(path, {**facts, "seconds": round(trainer.seconds, 1)})
    trained = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
    if recipe.calibration_rows:
        trained, factor = _calibrated(trained, hide(dataset, recipe.train.hide), recipe.calibration_rows)
        facts = {**facts, "label_scale": factor}
        write_facts(path, {**facts, "seconds": round(trainer.seconds, 1)})
    try:
        trained.save(path / "model", card=card(recipe, facts, trainer.metrics, trainer.interventions))
    except SafetensorError as error:  # how a full disk shows there
        raise OSError(f"{path / 'model'}: cannot be written: {quoted(error)}") from None
    return Run(path, facts["seed"], trained, dataset, trainer.seconds, trainer.metrics)


def _calibrated(model: Model, dataset: Dataset, num_rows: int) -> tuple[Model, float]:
    """The model with f scaled to the labels of training rows, and the factor; rows with a missing entry do not count."""
    position = dataset.batch(num_rows, generator=torch.Generator().manual_seed(0))
    whole = torch.stack([value.reshape(num_rows, -1).isfinite().all(dim=1) for value in position.values()]).all(dim=0)
    if not bool(whole.any()):
        raise ValueError(f"calibration_rows {num_rows}: none of these rows is without a gap; set it to 0")
    factor = label_scale(model.energy, model.space, {name: value[whole] for name, value in position.items()})
    config = rescaled(model.config, factor)
    energy = config.energy.build(model.space)
    energy.load_state_dict(model.energy.state_dict())
    return Model(config, energy=energy, noise=model.noise).eval(), factor


def _checkpoint(path: Path, recipe: Recipe, seed: int, trainer: Trainer, metrics: FileIO) -> None:
    """Writes a checkpoint that also knows the recipe and seed, and how far metrics.jsonl goes."""
    with naming(path / "metrics.jsonl"):
        os.fsync(metrics.fileno())
    state = trainer.state()
    plain = {
        **state.plain,
        "recipe": json.loads(recipe.model_dump_json()),
        "seed": seed,
        "metrics_bytes": metrics.tell(),
    }
    write(path / "checkpoints", state._replace(plain=plain), keep=trainer.config.keep_checkpoints)
