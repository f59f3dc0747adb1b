"""What a run is held against before it goes on: its newest checkpoint, and whether that is one of this very run."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jointebm.storage.checkpoint import Checkpoint, newest
from jointebm.runs.provenance import environment
from jointebm.recipes import Recipe
from jointebm.training.trainer import Trainer
from jointebm.storage.untrusted import quoted

__all__ = ["check_same_run", "metrics_bytes", "newest_checkpoint", "restore"]


def newest_checkpoint(path: Path, on_damage: Callable[[str], object]) -> Checkpoint | None:
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


def check_same_run(
    path: Path, recipe: Recipe, facts: Mapping[str, Any], checkpoint: Checkpoint, on_damage: Callable[[str], object]
) -> None:
    """Raises if recipe or seed are not the checkpoint's; says what else keeps the run from being bit for bit the same.

    Args:
        path: the run's folder.
        recipe: what recipe.json holds.
        facts: what run.json holds.
        checkpoint: where it is to go on.
        on_damage: is told, in a line, of each version or number of threads that is another one.
    """
    _check_recipe(path, recipe, checkpoint)
    _check_seed(path, facts, checkpoint)
    for name, now in environment().items():
        if facts.get(name, now) != now:
            on_damage(
                f"{path}: was begun with {name} {quoted(facts[name])}, now {now}: the result will not be bit for bit that "
                "of an uninterrupted run"
            )


def restore(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Restores a trainer; a checkpoint that is intact and yet not one of this run is refused in a line."""
    try:
        trainer.restore(checkpoint)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} is not one of this run: "
            f"{quoted(error)}"
        ) from None


def metrics_bytes(path: Path, checkpoint: Checkpoint) -> int:
    """How far metrics.jsonl went when the checkpoint was written."""
    found = checkpoint.plain.get("metrics_bytes")
    if type(found) is not int or found < 0:
        raise ValueError(
            f"{path / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration} does not say how far metrics.jsonl "
            "went; it is not one of a run"
        )
    return found


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


def _check_seed(path: Path, facts: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Raises if run.json no longer has the seed that the checkpoint was written with."""
    if checkpoint.plain.get("seed") != facts["seed"]:
        raise ValueError(
            f"{path / 'run.json'}: seed is {facts['seed']}, but the checkpoint of iteration {checkpoint.iteration} was "
            f"written with {quoted(repr(checkpoint.plain.get('seed')))}; put that back, or train a new run"
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
