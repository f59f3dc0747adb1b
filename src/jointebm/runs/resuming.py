"""Checks before a run resumes: its newest intact checkpoint, and that the checkpoint belongs to this run."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jointebm.recipes import Recipe
from jointebm.runs.provenance import environment
from jointebm.storage.checkpoint import Checkpoint, newest
from jointebm.storage.untrusted import quoted
from jointebm.training.trainer import Trainer

__all__ = ["check_same_run", "metrics_bytes", "newest_checkpoint", "restore"]


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
    path: Path, recipe: Recipe, facts: Mapping[str, Any], checkpoint: Checkpoint, on_damage: Callable[[str], object]
) -> None:
    """Raises if recipe or seed differ from those of the checkpoint; reports what else prevents equal bits."""
    _check_recipe(path, recipe, checkpoint)
    if checkpoint.plain.get("seed") != facts["seed"]:
        raise ValueError(
            f"{path / 'run.json'}: seed is {facts['seed']}, but the checkpoint of iteration {checkpoint.iteration} was "
            f"written with {quoted(repr(checkpoint.plain.get('seed')))}; restore that value, or train a new run"
        )
    for name, now in environment().items():
        if facts.get(name, now) != now:
            on_damage(
                f"{path}: started with {name} {quoted(facts[name])}, now {now}: the bits will differ from those of an "
                "uninterrupted run"
            )


def restore(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Restores a trainer; refuses, in one line, an intact checkpoint of another run."""
    try:
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
    both = (_leaves(each.model_dump(mode="json")) for each in (recipe, written))
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
