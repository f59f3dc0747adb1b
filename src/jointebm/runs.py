"""A run: a recipe trained into a folder that says all about it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/lock             held by the process that trains
RUN/metrics.jsonl    one line per `log_every` iterations, and one per intervention against divergence or stop ("event")
RUN/checkpoints/     the newest states of training (see `jointebm.checkpoint`)
RUN/model/           the trained model, with averaged parameters
RUN/evaluation.json  accuracy and calibration, if the command line trained it
"""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from io import FileIO
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from jointebm.checkpoint import Checkpoint, flush_folder, lock, naming, newest, write, write_flushed
from jointebm.data import Dataset, open_dataset
from jointebm.divergence import Diverged, Intervention
from jointebm.interrupts import held_back
from jointebm.models import Model, ModelConfig
from jointebm.recipes import RECIPES, Recipe
from jointebm.spaces import Space
from jointebm.training import Metrics, Trainer
from jointebm.untrusted import quoted, read_json

__all__ = ["Run", "initial_model", "recipe_of", "resume", "train"]

OnMetrics = Callable[[Metrics], object]
OnIntervention = Callable[[Intervention], object]

SEEDS = range(-(2**63), 2**64)  # what torch takes
MAX_LAYERS = 1000


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
    _begin(out, recipe, facts)
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
    recipe, facts = recipe_of(path), _facts_of(path)
    if (path / "model").exists():
        raise FileExistsError(f"{path}: is finished; its model is in {path / 'model'}")
    with lock(path / "lock"):
        checkpoint = _newest(path, on_damage)
        if checkpoint is not None:
            _check_recipe(path, recipe, checkpoint)
            _check_facts(path, facts, checkpoint, on_damage)
        dataset = open_dataset(recipe.data, data_dir)
        model, trainer = _prepare(recipe, dataset, seed=facts["seed"])
        num_bytes = 0
        if checkpoint is not None:
            _restore(trainer, checkpoint, path)
            num_bytes = _metrics_bytes(path, checkpoint)
        _cut(path / "metrics.jsonl", num_bytes, on_damage)
        return _run(path, recipe, facts, model, dataset, trainer, on_metrics, on_intervention)


def recipe_of(path: Path) -> Recipe:
    """The recipe that a run folder was begun with."""
    parsed = _read(path / "recipe.json", "a recipe of this version")
    try:
        return Recipe.model_validate_json(json.dumps(parsed))
    except ValueError:
        raise ValueError(f"{path / 'recipe.json'}: not a recipe of this version") from None


def _facts_of(path: Path) -> dict[str, Any]:
    """What run.json holds: the seed, and what may be missing in a run of another version."""
    facts = _read(path / "run.json", "the facts of a run with its seed")
    if type(facts.get("seed")) is not int or facts["seed"] not in SEEDS:
        raise ValueError(f"{path / 'run.json'}: does not hold the seed of the run, a whole number of at most 64 bits")
    return facts


def _read(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a run folder that can be resumed holds it")
    return read_json(path, what)


def _newest(path: Path, on_damage: Callable[[str], object]) -> Checkpoint | None:
    """The newest intact checkpoint of a run, None if it wrote none; never starts over because all are damaged."""
    loaded = newest(path / "checkpoints")
    if loaded.checkpoint is None and loaded.damaged:
        raise ValueError(
            f"{loaded.damaged[0]}; none of the {len(loaded.damaged)} checkpoints is intact. Put back an intact one, or "
            f"remove {path / 'checkpoints'} to train from the start"
        )
    for line in loaded.damaged:
        on_damage(f"{line}; going on from the checkpoint before it")
    return loaded.checkpoint


def _check_recipe(path: Path, recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Raises if recipe.json is no longer what the checkpoint was written with."""
    place = f"checkpoint of iteration {checkpoint.iteration}"
    try:
        written = Recipe.model_validate_json(json.dumps(checkpoint.plain.get("recipe")))
    except ValueError:
        raise ValueError(f"{path}: {place}: its recipe is not a recipe of this version") from None
    for (name, now), (name_then, then) in zip_longest(_leaves(recipe), _leaves(written), fillvalue=("", None)):
        if name != name_then or now != then:
            raise ValueError(
                f"{path / 'recipe.json'}: field {quoted(repr(name or name_then))} is {quoted(repr(now))}, but the {place} "
                f"was written with {name_then} = {quoted(repr(then))}; put that back, or train a new run"
            )


def _check_facts(
    path: Path, facts: Mapping[str, Any], checkpoint: Checkpoint, on_damage: Callable[[str], object]
) -> None:
    """Raises if the seed is another one; says what else differs and keeps the run from being bit for bit the same."""
    if checkpoint.plain.get("seed") != facts["seed"]:
        raise ValueError(
            f"{path / 'run.json'}: seed is {facts['seed']}, but the checkpoint of iteration {checkpoint.iteration} was "
            f"written with {quoted(repr(checkpoint.plain.get('seed')))}; put that back, or train a new run"
        )
    for name, now in environment().items():
        if facts.get(name, now) != now:
            on_damage(
                f"{path}: was begun with {name} {quoted(facts[name])}, now {now}: the result will not be bit for bit that "
                "of an uninterrupted run"
            )


def _leaves(recipe: Recipe) -> list[tuple[str, Any]]:
    """Every field of a recipe by its dotted path."""

    def walk(plain: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(plain, dict):
            yield prefix, plain
            return
        for name, value in plain.items():
            yield from walk(value, f"{prefix}.{name}" if prefix else name)

    return list(walk(json.loads(recipe.model_dump_json()), ""))


def _restore(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Restores a trainer; a checkpoint that is intact and yet not one of this run is refused in a line."""
    try:
        trainer.restore(checkpoint)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} is not one of this run: "
            f"{quoted(error)}"
        ) from None


def _prepare(recipe: Recipe, dataset: Dataset, *, seed: int) -> tuple[Model, Trainer]:
    _check_size(recipe, dataset.space)
    model = initial_model(recipe, dataset, seed=seed)
    trainer = Trainer(model.energy, dataset.space, dataset.batch, kernel=model.kernel, config=recipe.train, seed=seed)
    with torch.no_grad():  # a network that does not fit its data is found before anything is written
        model.energy(trainer.noise.draw(1, generator=torch.Generator()))
    return model, trainer


def _check_size(recipe: Recipe, space: Space) -> None:
    """Raises if parameters and chains alone would not fit into this machine, before anything of their size is made."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    layers = max((len(value) for _, value in _leaves(recipe) if isinstance(value, list)), default=0)
    num_bytes = memory + 1
    if layers <= MAX_LAYERS:
        with contextlib.suppress(RuntimeError, OverflowError, TypeError), torch.device("meta"):  # sizes beyond 64 bits
            parameters = sum(parameter.numel() for parameter in recipe.energy.build(space).parameters())
            chains = recipe.train.buffer_size * sum(prod(block.position_shape) for block in space.values())
            # Of the parameters: themselves, gradient, average, two moments of Adam, and of each snapshot all but the
            # gradient; of the chains: the buffer, and that of each snapshot.
            num_bytes = 4 * (13 * parameters + 3 * chains)
    if num_bytes > memory:
        raise ValueError(
            f"recipe {quoted(repr(recipe.name))}: its network and replay buffer need more than the {memory >> 30} GB of "
            f"this machine, or more than {MAX_LAYERS} layers; choose smaller widths or a smaller buffer_size"
        )


def _begin(out: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Makes the folder of a run, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write_flushed(scratch / "recipe.json", (recipe.model_dump_json(indent=2) + "\n").encode())
        write_flushed(scratch / "run.json", _encoded(facts))
        flush_folder(scratch)
        scratch.chmod(0o755)
        scratch.rename(out)
        flush_folder(out.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


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
            _append(path, file, {"event": intervention.action, **intervention._asdict()})
            if on_intervention is not None:
                on_intervention(intervention)

        trainer.on_intervention = note
        try:
            for metrics in trainer.run():
                if metrics.iteration % config.log_every == 0 or metrics.iteration == config.num_iterations:
                    _append(path, file, metrics._asdict())
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
            _append(path, file, stopped)
            raise
        return _finish(path, recipe, facts, model, dataset, trainer)


def _finish(
    path: Path, recipe: Recipe, facts: Mapping[str, Any], model: Model, dataset: Dataset, trainer: Trainer
) -> Run:
    """Writes the trained model, whole or not at all."""
    assert trainer.metrics is not None
    _replace_json(path / "run.json", {**facts, "seconds": round(trainer.seconds, 1)})
    trained = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
    try:
        trained.save(path / "model", card=_card(recipe, facts, trainer.metrics, trainer.interventions))
    except SafetensorError as error:  # how a full disk shows there
        raise OSError(f"{path / 'model'}: cannot be written: {quoted(error)}") from None
    return Run(path, facts["seed"], trained, dataset, trainer.seconds, trainer.metrics)


def _append(path: Path, file: FileIO, line: Mapping[str, Any]) -> None:
    rest = (json.dumps(line) + "\n").encode()
    with naming(path / "metrics.jsonl"):
        while rest:
            rest = rest[file.write(rest) :]


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


def _cut(path: Path, num_bytes: int, on_damage: Callable[[str], object]) -> None:
    """Drops the lines of metrics that a checkpoint does not know of, whole ones and a torn last one."""
    found = path.stat().st_size if path.exists() else 0
    if found < num_bytes:
        on_damage(f"{path}: has lost lines: {found} bytes, the checkpoint knows of {num_bytes}")
    if found > num_bytes:
        os.truncate(path, num_bytes)


def _metrics_bytes(path: Path, checkpoint: Checkpoint) -> int:
    """How far metrics.jsonl went when the checkpoint was written."""
    found = checkpoint.plain.get("metrics_bytes")
    if type(found) is not int or found < 0:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} does not say how far metrics.jsonl "
            "went; it is not one of a run"
        )
    return found


def environment() -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    return {
        "jointebm": version("jointebm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _encoded(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file anew; at every moment the old or the new one is there, whole."""
    scratch = path.with_name(f".{path.name}-new")
    scratch.unlink(missing_ok=True)
    try:
        write_flushed(scratch, _encoded(content))
        scratch.rename(path)
        flush_folder(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _card(recipe: Recipe, facts: Mapping[str, Any], metrics: Metrics, interventions: Sequence[Intervention]) -> str:
    known = {name: quoted(facts.get(name, "unknown")) for name in ("threads", "machine", "jointebm", "torch", "python")}
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
| training time | {metrics.seconds:.0f} s on {known["threads"]} threads ({known["machine"]}) |
| versions | jointebm {known["jointebm"]}, torch {known["torch"]}, Python {known["python"]} |
| energy gap at the end | {metrics.energy_gap:.3f} nats |
| interventions against divergence | {"<br>".join(map(str, interventions)) or "none"} |{changed}

Load it with `jointebm.load(folder)`. f is known up to a constant; its samples are those of a finite Markov chain.
"""
