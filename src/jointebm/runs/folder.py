"""The files of a run folder, how they are written, and how they are read again; `jointebm.runs.training_run` lists them."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from jointebm.storage.atomic import flush_folder, naming, write_flushed
from jointebm.recipes import Recipe
from jointebm.storage.untrusted import read_json

__all__ = ["append_metrics", "begin", "cut_metrics", "facts_of", "recipe_of", "write_facts"]

SEEDS = range(-(2**63), 2**64)  # what torch takes


def begin(out: Path, recipe: Recipe, facts: Mapping[str, Any]) -> None:
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


def recipe_of(path: Path) -> Recipe:
    """The recipe that a run folder was begun with."""
    parsed = _read(path / "recipe.json", "a recipe of this version")
    try:
        return Recipe.model_validate_json(json.dumps(parsed))
    except ValueError:
        raise ValueError(f"{path / 'recipe.json'}: not a recipe of this version") from None


def facts_of(path: Path) -> dict[str, Any]:
    """What run.json holds: the seed, and what may be missing in a run of another version."""
    facts = _read(path / "run.json", "the facts of a run with its seed")
    if type(facts.get("seed")) is not int or facts["seed"] not in SEEDS:
        raise ValueError(f"{path / 'run.json'}: does not hold the seed of the run, a whole number of at most 64 bits")
    return facts


def _read(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a run folder that can be resumed holds it")
    return read_json(path, what)


def append_metrics(folder: Path, file: FileIO, line: Mapping[str, Any]) -> None:
    """Adds a line to metrics.jsonl, which is open, and which an error names."""
    rest = (json.dumps(line) + "\n").encode()
    with naming(folder / "metrics.jsonl"):
        while rest:
            rest = rest[file.write(rest) :]


def cut_metrics(folder: Path, num_bytes: int, on_damage: Callable[[str], object]) -> None:
    """Drops the lines of metrics.jsonl that a checkpoint does not know of, whole ones and a torn last one."""
    path = folder / "metrics.jsonl"
    found = path.stat().st_size if path.exists() else 0
    if found < num_bytes:
        on_damage(f"{path}: has lost lines: {found} bytes, the checkpoint knows of {num_bytes}")
    if found > num_bytes:
        os.truncate(path, num_bytes)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes run.json anew; at every moment the old or the new one is there, whole."""
    path = folder / "run.json"
    scratch = path.with_name(f".{path.name}-new")
    scratch.unlink(missing_ok=True)
    try:
        write_flushed(scratch, _encoded(facts))
        scratch.rename(path)
        flush_folder(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _encoded(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2) + "\n").encode()
