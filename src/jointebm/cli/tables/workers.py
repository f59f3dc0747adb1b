"""Answers the parts of a table in order, with one process or several; memory holds a few parts at a time."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from jointebm.cli.tables.opened import with_answers
from jointebm.cli.tables.said_warnings import say_warnings
from jointebm.estimators import JointEBM
from jointebm.estimators.row_jobs import Job
from jointebm.randomness.devices import Device
from jointebm.tables.files.sources import Part

__all__ = ["answered"]

WAITING = 2  # parts per process: the one at work, and the next

_MODEL: list[JointEBM] = []  # the model of a worker process


def answered(
    job: Job,
    model: JointEBM,
    folder: Path,
    parts: Iterable[Part],
    *,
    workers: int,
    changes: Mapping[str, Any],
) -> Generator[tuple[Part, list[pa.Table]], None, None]:
    """Yields each part with its answer, in order."""
    if workers == 1:
        for part in parts:
            yield part, job(model, part.table, part.first)
        return
    threads = max(1, torch.get_num_threads() // workers)
    with _pool(workers, (folder, model.device, dict(changes), threads)) as pool:
        waiting: deque[tuple[Part, Future[list[pa.Table]]]] = deque()
        for part in parts:
            waiting.append((part, pool.submit(_answer, job, part.table, part.first)))
            if len(waiting) == WAITING * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for part, future in waiting:
            yield part, future.result()


@contextmanager
def _pool(workers: int, arguments: tuple[Any, ...]) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, and at once after a signal or an error."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=arguments)
    try:
        yield pool
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise MemoryError("a worker process died") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(folder: Path, device: Device, changes: Mapping[str, Any], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    torch.set_num_threads(threads)
    say_warnings()
    _MODEL[:] = [with_answers(JointEBM.load(folder, device=device), changes)]


def _answer(job: Job, part: pa.Table, first: int) -> list[pa.Table]:
    return job(_MODEL[0], part, first)
