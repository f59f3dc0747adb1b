"""Saves of checkpoints that are slow at random places and reported, so that most kills hit one and its bits are known."""

import hashlib
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jointebm.runs import run_record
from jointebm.storage import checkpoint
from jointebm.storage.checkpoint import Checkpoint

SLOWED = ("fsync", "rename", "mkdir", "rmdir", "unlink")
PAUSES = (0, 0, 0, 0, 0, 0.001, 0.004)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of all names and bits."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode())
        whole.update(tensors[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def digest_of(state: Checkpoint) -> str:
    """Of the tensors of all processes."""
    own = {f"{rank}/{name}": tensor for rank, part in enumerate(state.parts) for name, tensor in part.items()}
    return digest({**state.tensors, **own})


def slow_down_saves(tell: Callable[[str], object], seed: int) -> None:
    """Slows down the saves of the runs of this process, and tells a line at the start and at the end of each.

    Lines are "begun ITERATION DIGEST" and "done ITERATION -"; `reported` reads them.
    """
    pause = random.Random(seed)

    def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(pause.choice(PAUSES))
            result = function(*arguments, **options)
            time.sleep(pause.choice(PAUSES))
            return result

        return slow

    def told(folder: Path, state: Checkpoint, *, keep: int) -> Path:
        tell(f"begun {state.iteration} {digest_of(state)}\n")
        fast = {name: getattr(os, name) for name in SLOWED}
        for name, function in fast.items():
            setattr(os, name, slowed(function))
        written = checkpoint.write(folder, state, keep=keep)
        for name, function in fast.items():
            setattr(os, name, function)
        assert all(name.isdigit() for name in os.listdir(folder)), "leftovers of an earlier kill were not removed"
        tell(f"done {state.iteration} -\n")
        return written

    vars(run_record)["write"] = told


def reported(lines: str) -> tuple[dict[int, str], list[int]]:
    """Digests by iteration of the saves that began, and the iterations of those that ended."""
    words = [line.split() for line in lines.splitlines()]
    begun = {int(iteration): text for kind, iteration, text in words if kind == "begun"}
    return begun, [int(iteration) for kind, iteration, _ in words if kind == "done"]
