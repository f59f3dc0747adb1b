"""Runs a task in several processes that meet over gloo on this machine, as `torchrun` would start them.

Processes are forks of a warm server without threads, so that they start in milliseconds. A task is a function of a module of
`support`, since they import it by its name.
"""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

PATIENCE = 120.0  # seconds, on a busy machine
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["support.warm_rank_tasks"])

Plant = tuple[str, Callable[..., Any]]  # what is replaced, by its full name, and by what


def start_server() -> None:
    """Starts the server that processes are forks of, unless it runs."""
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # where it finds `support`
        forkserver.ensure_running()


class Outcome(NamedTuple):
    """The end of a process.

    Args:
        value: what the task returned; None if it raised.
        error: kind and message of what it raised, else "".
        exit_code: negative: the signal that ended it.
        seconds: from the start of all.
    """

    value: Any
    error: str
    exit_code: int
    seconds: float


class Ranks:
    """Running processes.

    Args:
        size: their number.
        task: what each does: `task(world, *arguments)`.
        arguments: of the task.
        folder: where they meet.
        plants: bugs that are planted in them.
        patience: seconds until a process that hangs is killed.
    """

    def __init__(
        self,
        size: int,
        task: Callable[..., Any],
        *arguments: Any,
        folder: Path,
        plants: Sequence[Plant] = (),
        patience: float = PATIENCE,
    ) -> None:
        start_server()
        self._patience = patience
        self._started, number = time.monotonic(), len(list(folder.glob("meeting-*")))
        meeting = folder / f"meeting-{number}"
        meeting.touch()
        self._pipes: list[Connection] = []
        self.children: list[Any] = []
        for rank in range(size):
            here, there = CONTEXT.Pipe(duplex=False)
            parameters = (rank, size, f"file://{meeting}-store", task, arguments, tuple(plants), there)
            child = CONTEXT.Process(target=_run, args=parameters, daemon=True)
            child.start()
            there.close()
            self._pipes.append(here)
            self.children.append(child)

    def outcomes(self) -> list[Outcome]:
        """Waits for all of them; those that hang are killed."""
        return [self._outcome(*each) for each in zip(self.children, self._pipes, strict=True)]

    def _outcome(self, child: Any, pipe: Connection) -> Outcome:
        value, error = None, ""
        try:
            if pipe.poll(max(0.0, self._started + self._patience - time.monotonic())):
                value, error = pipe.recv()
        except EOFError:
            pass  # it was killed
        child.join(max(1.0, self._started + self._patience - time.monotonic()))
        if child.exitcode is None:
            child.kill()
            child.join()
            error = f"hung: {error}"
        return Outcome(value, error, child.exitcode, time.monotonic() - self._started)


def on_ranks(
    size: int,
    task: Callable[..., Any],
    *arguments: Any,
    folder: Path,
    plants: Sequence[Plant] = (),
    patience: float = PATIENCE,
) -> list[Outcome]:
    """Runs a task in `size` processes to its end; see `Ranks`."""
    return Ranks(size, task, *arguments, folder=folder, plants=plants, patience=patience).outcomes()


def values(outcomes: Sequence[Outcome]) -> list[Any]:
    """What the tasks returned; fails if one of them raised."""
    assert all(outcome.exit_code == 0 for outcome in outcomes), [outcome.error for outcome in outcomes]
    return [outcome.value for outcome in outcomes]


def _run(
    rank: int,
    size: int,
    meeting: str,
    task: Callable[..., Any],
    arguments: tuple[Any, ...],
    plants: tuple[Plant, ...],
    answer: Connection,
) -> None:
    """The process."""
    import torch

    from jointebm.training import process_group
    from jointebm.training.process_group import processes

    process_group.MEETING_TIMEOUT = timedelta(seconds=30)

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), GLOO_SOCKET_IFNAME="lo")
    value, error = None, ""
    for name, replacement in plants:
        patch(name, replacement).start()
    try:
        with processes("cpu", meeting=meeting) as world:
            value = task(world, *arguments)
    except BaseException as raised:  # noqa: BLE001  # the test decides
        error = f"{type(raised).__name__}: {raised}"
        if not isinstance(raised, FloatingPointError | ConnectionError | KeyboardInterrupt):
            error += traceback.format_exc()
    answer.send((value, error))
    answer.close()
    os._exit(0 if not error else 1)
