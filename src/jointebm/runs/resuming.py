"""Checks before a run resumes: its newest intact checkpoint, and that the checkpoint belongs to this run."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from jointebm.randomness.device_names import DeviceName
from jointebm.recipes import Recipe
from jointebm.runs.folder import facts_of, recipe_of
from jointebm.runs.provenance import environment
from jointebm.storage.atomic import lock
from jointebm.storage.checkpoint import Checkpoint, newest
from jointebm.storage.untrusted import quoted
from jointebm.training.dealing import checkpoint_of, parcel_of
from jointebm.training.trainer import Trainer
from jointebm.training.world import Parcel

__all__ = ["Resumable", "check_same_run", "metrics_bytes", "newest_checkpoint", "restore", "resumable"]


class Resumable(NamedTuple):
    """What a run resumes from."""

    recipe: Recipe
    facts: dict[str, Any]
    checkpoint: Checkpoint | None

    def parcel(self) -> Parcel:
        """Everything, to be sent to other processes."""
        state = parcel_of(self.checkpoint)
        return Parcel([self.recipe.model_dump_json(), self.facts, state.plain], state.tensors)

    @classmethod
    def of_parcel(cls, parcel: Parcel) -> "Resumable":
        """What was sent."""
        recipe, facts, state = parcel.plain
        return cls(Recipe.model_validate_json(recipe), facts, checkpoint_of(Parcel(state, parcel.tensors)))


def resumable(
    path: Path, device: DeviceName | None, on_damage: Callable[[str], object], held: ExitStack, *, num_processes: int
) -> Resumable:
    """Reads and checks what a run resumes from, and holds its lock until `held` closes.

    Raises:
        FileExistsError: the run is finished.
        BlockingIOError: another process is training it.
        ValueError: recipe.json or run.json differs from that of the checkpoint, or no checkpoint is intact.
    """
    recipe, facts = recipe_of(path), facts_of(path)
    if device is not None:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"device": device})})
    if (path / "model").exists():
        raise FileExistsError(f"{path}: the run is finished; its model is in {path / 'model'}")
    held.enter_context(lock(path / "lock"))
    checkpoint = newest_checkpoint(path, on_damage)
    if checkpoint is not None:
        check_same_run(path, recipe, facts, checkpoint, on_damage, num_processes=num_processes)
    return Resumable(recipe, facts, checkpoint)


def newest_checkpoint(path: Path, on_damage: Callable[[str], object]) -> Checkpoint | None:
    """The newest intact checkpoint of a run, None if it wrote none.

    Raises:
        ValueError: all checkpoints are damaged; a run never restarts by itself.
    """
    loaded = newest(path / "checkpoints")
    if loaded.checkpoint is None and loaded.damaged:
        raise ValueError(
            f"{loaded.damaged[0]}; none of the {len(loaded.damaged)} checkpoints is intact. Restore an intact one, or "
            f"remove {path / 'checkpoints'} to train from the start"
        )
    for line in loaded.damaged:
        on_damage(f"{line}; resuming from the checkpoint before it")
    return loaded.checkpoint


def check_same_run(
    path: Path,
    recipe: Recipe,
    facts: Mapping[str, Any],
    checkpoint: Checkpoint,
    on_damage: Callable[[str], object],
    *,
    num_processes: int,
) -> None:
    """Raises if recipe or seed differ from those of the checkpoint; reports what else prevents equal bits."""
    _check_recipe(path, recipe, checkpoint)
    if checkpoint.plain.get("seed") != facts["seed"]:
        raise ValueError(
            f"{path / 'run.json'}: seed is {facts['seed']}, but the checkpoint of iteration {checkpoint.iteration} was "
            f"written with {quoted(repr(checkpoint.plain.get('seed')))}; restore that value, or train a new run"
        )
    for name, now in environment(recipe.train.device, num_processes).items():
        if facts.get(name, now) != now:
            on_damage(
                f"{path}: started with {name} {quoted(facts[name])}, now {now}: the bits will differ from those of an "
                "uninterrupted run"
            )


def restore(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Restores a trainer; refuses, in one line, an intact checkpoint of another run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `check_same_run` has told of another device
            trainer.restore(checkpoint)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} does not belong to this run: "
            f"{quoted(error)}"
        ) from None


def metrics_bytes(path: Path, checkpoint: Checkpoint) -> int:
    """Length of metrics.jsonl when the checkpoint was written."""
    found = checkpoint.plain.get("metrics_bytes")
    if type(found) is not int or found < 0:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} lacks the length of metrics.jsonl; "
            "it does not belong to a run"
        )
    return found


def _check_recipe(path: Path, recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Raises if recipe.json differs from the recipe of the checkpoint."""
    place = f"checkpoint of iteration {checkpoint.iteration}"
    try:
        written = Recipe.model_validate_json(json.dumps(checkpoint.plain.get("recipe")))
    except ValueError:
        raise ValueError(f"{path}: {place}: its recipe is not one of this version") from None
    anywhere = {"train": {"device"}}  # a run may move
    both = (_leaves(each.model_dump(mode="json", exclude=anywhere)) for each in (recipe, written))
    for (name, now), (name_then, then) in zip_longest(*both, fillvalue=("", None)):
        if name != name_then or now != then:
            raise ValueError(
                f"{path / 'recipe.json'}: field {quoted(repr(name or name_then))} is {quoted(repr(now))}, but the {place} "
                f"was written with {name_then} = {quoted(repr(then))}; restore that value, or train a new run"
            )


def _leaves(plain: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a recipe in JSON by its dotted path."""
    if not isinstance(plain, dict):
        yield path, plain
        return
    for name, value in plain.items():
        yield from _leaves(value, f"{path}.{name}" if path else name)
