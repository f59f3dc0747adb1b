"""Trains a recipe into a run folder, and resumes it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/lock             held by the process that trains
RUN/metrics.jsonl    one line per `log_every` iterations, and one per intervention against divergence or stop ("event")
RUN/checkpoints/     the newest states of training (see `jointebm.storage.checkpoint`)
RUN/model/           the trained model, with averaged parameters; with a reference, normalised and with a report
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

from jointebm.data import Dataset
from jointebm.data.registry import open_dataset
from jointebm.data.validation_split import TrainingSplit, split_rows
from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.recipes import Recipe
from jointebm.runs.folder import append_metrics, begin, cut_metrics, facts_of, recipe_of, write_facts
from jointebm.runs.interrupts import held_back
from jointebm.runs.normalised_model import normalised, with_reference
from jointebm.runs.provenance import card, environment
from jointebm.runs.resuming import check_same_run, metrics_bytes, newest_checkpoint, restore
from jointebm.runs.size import check_size
from jointebm.runs.subset_model import fit_base_of, noise_free, path_normalised
from jointebm.runs.temperature_scaling import calibrated
from jointebm.storage.atomic import flush, flush_folder, lock
from jointebm.storage.checkpoint import write
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.hiding import hide
from jointebm.training.trainer import Metrics, Trainer

__all__ = ["Run", "initial_model", "recipe_of", "resume", "train"]

OnMetrics = Callable[[Metrics], object]
OnIntervention = Callable[[Intervention], object]


class Run(NamedTuple):
    """A finished run."""

    path: Path  # its folder
    seed: int  # of the weights and of all draws
    model: Model  # as saved
    dataset: Dataset  # the data it was trained on
    seconds: float  # training time
    metrics: Metrics  # of the last iteration


def initial_model(recipe: Recipe, dataset: Dataset, *, seed: int) -> Model:
    """The model of a recipe before training, with weights drawn from the seed, and its reference fitted if it has one.

    The reference is fitted to all training rows but the held-out ones, on which its size is chosen (see `split_rows`), with
    draws from the seed. A resumed run fits it again, and then takes its numbers from the checkpoint.

    Example:
        >>> from jointebm import recipes
        >>> from jointebm.data import Toy
        >>> sum(p.numel() for p in initial_model(recipes.toy_paper(), Toy(), seed=0).parameters())
        134145
    """
    return _initial_model(recipe, _training_rows(recipe, dataset), seed=seed)


class _TrainingRows(NamedTuple):
    """What training sees, and its split if a reference is fitted."""

    dataset: Dataset
    split: TrainingSplit | None


def _training_rows(recipe: Recipe, dataset: Dataset) -> _TrainingRows:
    seen = noise_free(hide(dataset, recipe.train.hide), recipe)
    if recipe.reference is None:
        return _TrainingRows(seen, None)
    split = split_rows(seen)
    return _TrainingRows(split.dataset, split)


def _initial_model(recipe: Recipe, rows: _TrainingRows, *, seed: int) -> Model:
    config = ModelConfig(
        name=recipe.name,
        data=recipe.data,
        space=rows.dataset.space.config,
        energy=recipe.energy,
        kernel=recipe.kernel,
        num_chains=recipe.num_test_chains,
        num_steps=recipe.num_test_steps,
        weighted=recipe.train.weighted,
    )
    with DrawsFrom(torch.Generator().manual_seed(seed)):
        model = Model(config)
    if isinstance(model.energy, AnySubsetEnergy):
        fit_base_of(model.energy, rows.dataset)
    if recipe.reference is None or rows.split is None:
        return model
    return with_reference(model, recipe.reference, rows.split, seed=seed, with_labels=recipe.reference_labels)


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
        out: the folder of the run, which must not exist.
        seed: of the weights and of all draws; the same seed, versions and threads give the same model.
        data_dir: folder of data files; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or rolls back.

    Raises:
        FileExistsError: the folder exists.
        KeyboardInterrupt: after Ctrl-C, and `Terminated` after SIGTERM; the iteration is finished and a checkpoint written,
            so that `resume` continues bit for bit.
        Diverged: training diverged despite all rollbacks; the folder keeps its metrics and checkpoints, and has no model.
        OSError: the disk is full, or the folder was removed; what is left of it can be resumed.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another folder, remove it, or resume it with train --resume")
    dataset = open_dataset(recipe.data, data_dir)
    training = _prepare(recipe, dataset, seed=seed)
    facts = {"recipe": recipe.name, "seed": seed, **environment()}
    begin(out, recipe, facts)
    with lock(out / "lock"):
        return _run(out, recipe, facts, training, on_metrics, on_intervention)


def resume(
    path: str | os.PathLike[str],
    *,
    data_dir: Path | None = None,
    on_metrics: OnMetrics | None = None,
    on_intervention: OnIntervention | None = None,
    on_damage: Callable[[str], object] = warnings.warn,
) -> Run:
    """Resumes an interrupted run from its newest intact checkpoint, or from the start if it wrote none.

    With the same versions, device type and number of threads, the resumed run equals the uninterrupted one bit for bit:
    parameters, averages, optimizer, buffers, generators, snapshots, interventions and metrics, except for the seconds.

    Args:
        path: the folder of the run.
        data_dir: folder of data files; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or rolls back.
        on_damage: called with one line per skipped checkpoint and for lost metrics; warns by default.

    Raises:
        KeyboardInterrupt: as for `train`.
        FileNotFoundError: this is not a run folder.
        FileExistsError: the run is finished.
        BlockingIOError: another process is training it.
        ValueError: recipe.json or run.json is damaged or differs from that of the checkpoint, or no checkpoint is intact.
    """
    path = Path(path)
    recipe, facts = recipe_of(path), facts_of(path)
    if (path / "model").exists():
        raise FileExistsError(f"{path}: the run is finished; its model is in {path / 'model'}")
    with lock(path / "lock"):
        checkpoint = newest_checkpoint(path, on_damage)
        if checkpoint is not None:
            check_same_run(path, recipe, facts, checkpoint, on_damage)
        dataset = open_dataset(recipe.data, data_dir)
        training = _prepare(recipe, dataset, seed=facts["seed"])
        num_bytes = 0
        if checkpoint is not None:
            restore(training.trainer, checkpoint, path)
            num_bytes = metrics_bytes(path, checkpoint)
        cut_metrics(path, num_bytes, on_damage)
        return _run(path, recipe, facts, training, on_metrics, on_intervention)


class _Training(NamedTuple):
    """A trainer, and what it is made of."""

    model: Model  # the untrained one; its energy is trained in place
    dataset: Dataset  # the whole data
    rows: Dataset  # what training sees
    split: TrainingSplit | None  # of its training rows, if there is a reference
    trainer: Trainer


def _prepare(recipe: Recipe, dataset: Dataset, *, seed: int) -> _Training:
    check_size(recipe, dataset.space)
    rows = _training_rows(recipe, dataset)
    model = _initial_model(recipe, rows, seed=seed)
    trainer = Trainer(
        model.energy,
        rows.dataset.space,
        rows.dataset.rows,
        kernel=model.kernel,
        config=recipe.train,
        seed=seed,
        labelled=rows.dataset.labelled,
    )
    with torch.no_grad():  # finds a network that does not fit its data before anything is written
        model.energy(trainer.noise.draw(1, generator=torch.Generator()))
    return _Training(model, dataset, rows.dataset, rows.split, trainer)


def _run(
    path: Path,
    recipe: Recipe,
    facts: Mapping[str, Any],
    training: _Training,
    on_metrics: OnMetrics | None,
    on_intervention: OnIntervention | None,
) -> Run:
    """Trains from the state of the trainer on; writes metrics, checkpoints, and finally the model.

    Ctrl-C and SIGTERM wait for the iteration and a checkpoint; while the model is written, they wait for it.
    """
    config, trainer = recipe.train, training.trainer
    with held_back() as pending, (path / "metrics.jsonl").open("ab", buffering=0) as file:
        flush_folder(path)

        def note(intervention: Intervention) -> None:
            append_metrics(file, {"event": intervention.action, **intervention._asdict()})
            if on_intervention is not None:
                on_intervention(intervention)

        trainer.on_intervention = note
        try:
            for metrics in trainer.run():
                if metrics.iteration % config.log_every == 0 or metrics.iteration == config.num_iterations:
                    append_metrics(file, metrics._asdict())
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
            append_metrics(file, stopped)
            raise
        return _finish(path, recipe, facts, training)


def _finish(path: Path, recipe: Recipe, facts: Mapping[str, Any], training: _Training) -> Run:
    """Writes the trained model, complete or not at all."""
    trainer, dataset = training.trainer, training.dataset
    assert trainer.metrics is not None
    trained = Model(training.model.config, energy=trainer.average, noise=trainer.noise).eval()
    if isinstance(trained.energy, AnySubsetEnergy):
        trained = path_normalised(trained, training.rows, seed=facts["seed"])
    if training.split is not None:
        trained = normalised(trained, trainer, training.split, seed=facts["seed"])
    if recipe.calibration_rows:
        trained, factor = calibrated(trained, hide(dataset, recipe.train.hide), recipe.calibration_rows)
        facts = {**facts, "inverse_temperature": factor}
    write_facts(path, {**facts, "seconds": round(trainer.seconds, 1)})
    trained.save(path / "model", card=card(recipe, facts, trained.config, trainer.metrics, trainer.interventions))
    return Run(path, facts["seed"], trained, dataset, trainer.seconds, trainer.metrics)


def _checkpoint(path: Path, recipe: Recipe, seed: int, trainer: Trainer, metrics: FileIO) -> None:
    """Writes a checkpoint that also holds the recipe, the seed, and the length of metrics.jsonl."""
    flush(metrics)
    state = trainer.state()
    plain = {
        **state.plain,
        "recipe": json.loads(recipe.model_dump_json()),
        "seed": seed,
        "metrics_bytes": metrics.tell(),
    }
    write(path / "checkpoints", state._replace(plain=plain), keep=trainer.config.keep_checkpoints)
