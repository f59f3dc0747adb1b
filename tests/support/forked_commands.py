"""Runs a command in several processes that believe that `torchrun` started them; they are forks of a warm server."""

import contextlib
import io
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

from torch.distributed import TCPStore

from support.ranks import CONTEXT, PATIENCE, start_server


class Ended(NamedTuple):
    """How a process ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def commands(*lines: Sequence[object], patience: float = 1.0) -> list[Ended]:
    """Runs a command in each process of a run.

    Args:
        lines: words after `jointebm`, for each process.
        patience: seconds that processes wait for the error of the first one.
    """
    start_server()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pipes, children = [], []
    for rank, words in enumerate(lines):
        here, there = CONTEXT.Pipe(duplex=False)
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(len(lines)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        child = CONTEXT.Process(target=_run, args=(environment, [str(each) for each in words], patience, there))
        child.start()
        there.close()
        pipes.append(here)
        children.append(child)
    ended = [Ended(*pipe.recv()) if pipe.poll(PATIENCE) else Ended(-1, "", "hung") for pipe in pipes]
    for child in children:
        child.kill()
        child.join()
    return ended


def _run(environment: dict[str, str], words: list[str], patience: float, answer: Any) -> None:
    """The process."""
    import torch

    from jointebm.cli import main, shared_errors

    torch.set_num_threads(1)
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment),
        patch.object(shared_errors, "LONGEST_WAIT", timedelta(seconds=patience)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(words)
    answer.send((code, out.getvalue(), err.getvalue()))
    answer.close()
    os._exit(0)
