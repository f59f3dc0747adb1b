"""Trains a recipe into a run folder, and resumes it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/lock             held by the process that trains
RUN/metrics.jsonl    one line per `log_every` iterations, and one per intervention against divergence or stop ("event")
RUN/checkpoints/     the newest states of training (see `jointebm.storage.checkpoint`)
RUN/model/           the trained model, with averaged parameters; with a reference, normalised and with a report
RUN/evaluation.json  accuracy and calibration, if the command line trained it
"""

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jointebm.data import Dataset
from jointebm.data.registry import open_dataset
from jointebm.data.validation_split import TrainingSplit, split_rows
from jointebm.energies.caption_specs import LEVEL_KINDS
from jointebm.energies.level_energy import LevelEnergy
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.randomness.device_names import DeviceName
from jointebm.randomness.devices import place_of
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.recipes import Recipe
from jointebm.runs.folder import begin, cut_metrics, recipe_of, write_facts
from jointebm.runs.interrupts import held_back
from jointebm.runs.normalised_model import normalised, with_reference
from jointebm.runs.provenance import card, environment
from jointebm.runs.resuming import Resumable, metrics_bytes, restore, resumable
from jointebm.runs.run_record import RunRecord
from jointebm.runs.size import check_size
from jointebm.runs.subset_model import fit_base_of, noise_free, path_normalised
from jointebm.runs.temperature_scaling import calibrated
from jointebm.storage.atomic import lock
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.hiding import hide
from jointebm.training.trainer import Metrics, Trainer
from jointebm.training.world import ALONE, Parcel, World

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
    return _initial_model(recipe, _training_rows(recipe, dataset), torch.device("cpu"), seed=seed)


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


def _initial_model(recipe: Recipe, rows: _TrainingRows, place: torch.device, *, seed: int) -> Model:
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
    if isinstance(model.energy, LevelEnergy):
        fit_base_of(model.energy, rows.dataset)
    model.to(place)
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
    world: World = ALONE,
) -> Run:
    """Trains a recipe into a new folder.

    Args:
        recipe: what to train.
        out: the folder of the run, which must not exist.
        seed: of the weights and of all draws; the same seed, versions and threads give the same model.
        data_dir: folder of data files; None is enough for embedded data.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or rolls back.
        world: the processes that train together, which call this with the same arguments (see `processes`); the first one
            writes the folder.

    Raises:
        FileExistsError: the folder exists.
        KeyboardInterrupt: after Ctrl-C, and `Terminated` after SIGTERM; the iteration is finished and a checkpoint written,
            so that `resume` continues bit for bit.
        Diverged: training diverged despite all rollbacks; the folder keeps its metrics and checkpoints, and has no model.
        OSError: the disk is full, or the folder was removed; what is left of it can be resumed.
    """
    out = Path(out)
    world.from_first(lambda: _check_absent(out))
    dataset = world.patiently(lambda: open_dataset(recipe.data, data_dir))
    training = _prepare(recipe, dataset, seed=seed, world=world)
    facts = {"recipe": recipe.name, "seed": seed, **environment(recipe.train.device, world.size)}
    with ExitStack() as held:
        world.from_first(lambda: _begin_alone(out, recipe, facts, held))
        return _run(out, recipe, facts, training, on_metrics, on_intervention)


def _check_absent(out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another folder, remove it, or resume it with train --resume")


def _begin_alone(out: Path, recipe: Recipe, facts: Mapping[str, Any], held: ExitStack) -> None:
    """Makes the folder, and holds its lock until `held` closes."""
    begin(out, recipe, facts)
    held.enter_context(lock(out / "lock"))


def resume(
    path: str | os.PathLike[str],
    *,
    data_dir: Path | None = None,
    device: DeviceName | None = None,
    on_metrics: OnMetrics | None = None,
    on_intervention: OnIntervention | None = None,
    on_damage: Callable[[str], object] = warnings.warn,
    world: World = ALONE,
) -> Run:
    """Resumes an interrupted run from its newest intact checkpoint, or from the start if it wrote none.

    With the same versions, device type and number of threads, the resumed run equals the uninterrupted one bit for bit:
    parameters, averages, optimizer, buffers, generators, snapshots, interventions and metrics, except for the seconds. With
    another number of processes, chains and completions are dealt again, and the bits differ.

    Args:
        path: the folder of the run.
        data_dir: folder of data files; None is enough for embedded data.
        device: where to continue, as in `TrainConfig`; None is that of the recipe.
        on_metrics: called after each iteration.
        on_intervention: called when training restarts chains or rolls back.
        on_damage: called with one line per skipped checkpoint, for lost metrics, and where the device or a version differs
            from that of the start; warns by default.
        world: the processes that train together, as for `train`.

    Raises:
        KeyboardInterrupt: as for `train`.
        FileNotFoundError: this is not a run folder.
        FileExistsError: the run is finished.
        BlockingIOError: another process is training it.
        ValueError: recipe.json or run.json is damaged or differs from that of the checkpoint, or no checkpoint is intact.
    """
    path = Path(path)
    with ExitStack() as held:
        recipe, facts, checkpoint = world.from_first(
            lambda: resumable(path, device, on_damage, held, num_processes=world.size),
            pack=Resumable.parcel,
            unpack=Resumable.of_parcel,
        )
        dataset = world.patiently(lambda: open_dataset(recipe.data, data_dir))
        training = _prepare(recipe, dataset, seed=facts["seed"], world=world)
        num_bytes = 0
        if checkpoint is not None:
            restore(training.trainer, checkpoint, path)
            num_bytes = metrics_bytes(path, checkpoint)
        world.from_first(lambda: cut_metrics(path, num_bytes, on_damage))
        return _run(path, recipe, facts, training, on_metrics, on_intervention)


class _Training(NamedTuple):
    """A trainer, and what it is made of."""

    model: Model  # the untrained one; its energy is trained in place
    dataset: Dataset  # the whole data
    rows: Dataset  # what training sees
    split: TrainingSplit | None  # of its training rows, if there is a reference
    trainer: Trainer
    world: World


def _prepare(recipe: Recipe, dataset: Dataset, *, seed: int, world: World) -> _Training:
    is_wide = recipe.reference is not None or recipe.energy.kind in LEVEL_KINDS
    place = place_of(recipe.train.device, wide=is_wide)
    check_size(recipe, dataset.space)
    rows = _training_rows(recipe, dataset)
    model = world.from_first(
        lambda: _initial_model(recipe, rows, place, seed=seed),
        pack=_model_parcel,
        unpack=lambda parcel: _model_of(parcel).to(place),
    )
    trainer = Trainer(
        model.energy,
        rows.dataset.space,
        rows.dataset.part(world.rank, world.size).rows,
        kernel=model.kernel,
        config=recipe.train,
        seed=seed,
        labelled=rows.dataset.labelled,
        device=place,
        world=world,
    )
    with torch.no_grad():  # finds a network that does not fit its data before anything is written
        model.energy(trainer.noise.draw(1, generator=torch.Generator()))
    return _Training(model, dataset, rows.dataset, rows.split, trainer, world)


def _model_parcel(model: Model) -> Parcel:
    return Parcel(model.config.model_dump_json(), model.state_dict())


def _model_of(parcel: Parcel) -> Model:
    model = Model(ModelConfig.model_validate_json(parcel.plain))
    model.load_state_dict(dict(parcel.tensors))
    return model


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
    config, trainer, world = recipe.train, training.trainer, training.world
    record = RunRecord(path, recipe, facts["seed"], world)
    with held_back() as pending, record.open():

        def note(intervention: Intervention) -> None:
            record.add({"event": intervention.action, **intervention._asdict()})
            if on_intervention is not None:
                on_intervention(intervention)

        trainer.on_intervention = note
        try:
            for metrics in trainer.run():
                if metrics.iteration % config.log_every == 0 or metrics.iteration == config.num_iterations:
                    record.add(metrics._asdict())
                due = config.checkpoint_every and metrics.iteration % config.checkpoint_every == 0
                if due and metrics.iteration < config.num_iterations:
                    record.checkpoint(trainer)
                if on_metrics is not None:
                    on_metrics(metrics)
                pending.check(world.largest)
        except KeyboardInterrupt:
            record.checkpoint(trainer)
            raise
        except Diverged as error:
            stopped = {"event": "stopped", "iteration": trainer.iteration, "kind": error.kind, "finding": str(error)}
            record.add(stopped)
            raise
        model = world.from_first(lambda: _finish(path, recipe, facts, training), pack=_model_parcel, unpack=_model_of)
        assert trainer.metrics is not None
        return Run(path, facts["seed"], model.eval(), training.dataset, trainer.seconds, trainer.metrics)


def _finish(path: Path, recipe: Recipe, facts: Mapping[str, Any], training: _Training) -> Model:
    """Writes the trained model, complete or not at all."""
    trainer, dataset = training.trainer, training.dataset
    assert trainer.metrics is not None
    trained = Model(training.model.config, energy=trainer.average, noise=trainer.noise).eval()
    if isinstance(trained.energy, LevelEnergy):
        trained = path_normalised(trained, training.rows, seed=facts["seed"])
    if training.split is not None:
        trained = normalised(trained, trainer, training.split, seed=facts["seed"])
    if recipe.calibration_rows:
        trained, factor = calibrated(trained, hide(dataset, recipe.train.hide), recipe.calibration_rows)
        facts = {**facts, "inverse_temperature": factor}
    write_facts(path, {**facts, "seconds": round(trainer.seconds, 1)})
    trained.save(path / "model", card=card(recipe, facts, trained.config, trainer.metrics, trainer.interventions))
    return trained
