"""The record of a run while it trains: metrics.jsonl and checkpoints, which the first of several processes writes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from jointebm.recipes import Recipe
from jointebm.runs.folder import append_metrics
from jointebm.storage.atomic import flush, flush_folder
from jointebm.storage.checkpoint import Checkpoint, write
from jointebm.training.dealing import gathered
from jointebm.training.trainer import Trainer
from jointebm.training.world import World

__all__ = ["RunRecord"]


class RunRecord:
    """Writes metrics and checkpoints.

    Args:
        path: the folder of the run.
        recipe: what is trained.
        seed: of the run.
        world: the processes that train it.
    """

    def __init__(self, path: Path, recipe: Recipe, seed: int, world: World) -> None:
        self._path, self._recipe, self._seed, self._world = path, recipe, seed, world
        self._file: FileIO | None = None  # of the first process

    @contextmanager
    def open(self) -> Iterator[None]:
        """Takes notes while the block runs."""
        if self._world.rank:
            yield
            return
        with (self._path / "metrics.jsonl").open("ab", buffering=0) as self._file:
            flush_folder(self._path)
            yield

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        if self._file is not None:
            append_metrics(self._file, line)

    def checkpoint(self, trainer: Trainer) -> None:
        """Writes a checkpoint of all processes that also holds the recipe, the seed, and the length of metrics.jsonl."""
        state = gathered(trainer.state(), self._world)
        self._world.from_first(lambda: self._write(state, trainer.config.keep_checkpoints))

    def _write(self, state: Checkpoint, keep: int) -> None:
        assert self._file is not None
        flush(self._file)
        plain = {
            **state.plain,
            "recipe": json.loads(self._recipe.model_dump_json()),
            "seed": self._seed,
            "metrics_bytes": self._file.tell(),
        }
        write(self._path / "checkpoints", state._replace(plain=plain), keep=keep)
