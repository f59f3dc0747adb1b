"""Reads and writes the files of a run folder; `jointebm.runs.training_run` lists them."""

import json
import os
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from jointebm.recipes import Recipe
from jointebm.storage.atomic import append, new_folder, replace_file, write_file
from jointebm.storage.untrusted import read_config, read_json

__all__ = ["append_metrics", "begin", "cut_metrics", "facts_of", "recipe_of", "write_facts"]

SEEDS = range(-(2**63), 2**64)  # what torch takes


def begin(out: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    """Makes the folder of a run, complete or not at all."""
    with new_folder(out) as scratch:
        write_file(scratch / "recipe.json", (recipe.model_dump_json(indent=2) + "\n").encode())
        write_file(scratch / "run.json", _encoded(facts))


def recipe_of(path: Path) -> Recipe:
    """The recipe of a run folder."""
    return read_config(_found(path / "recipe.json"), "a recipe of this version", Recipe)


def facts_of(path: Path) -> dict[str, Any]:
    """Content of run.json: the seed, and facts that may be missing in a run of another version."""
    facts = read_json(_found(path / "run.json"), "the facts of a run with its seed")
    if type(facts.get("seed")) is not int or facts["seed"] not in SEEDS:
        raise ValueError(f"{path / 'run.json'}: lacks the seed of the run; expected a whole number of at most 64 bits")
    return facts


def _found(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a run folder that can be resumed")
    return path


def append_metrics(file: FileIO, line: Mapping[str, Any]) -> None:
    """Adds a line to the open metrics.jsonl; an error names the file."""
    append(file, (json.dumps(line) + "\n").encode())


def cut_metrics(folder: Path, num_bytes: int, on_damage: Callable[[str], object]) -> None:
    """Drops the lines of metrics.jsonl written after a checkpoint, also a torn last one."""
    path = folder / "metrics.jsonl"
    found = path.stat().st_size if path.exists() else 0
    if found < num_bytes:
        on_damage(f"{path}: lines are lost: got {found} bytes, expected the {num_bytes} of the checkpoint")
    if found > num_bytes:
        os.truncate(path, num_bytes)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Rewrites run.json; at every moment a complete old or new one exists."""
    replace_file(folder / "run.json", _encoded(facts))


def _encoded(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2) + "\n").encode()
