"""Deadlines of questions: the networks of a model refuse to run for a question whose time is over.

A thread cannot be stopped from outside. Every part of a network therefore looks, before it runs, at the deadline of the
question that its thread answers.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["Deadline", "heed_deadlines", "within"]

_current = threading.local()


class Deadline:
    """The end of a question's time.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def cancel(self) -> None:
        """Ends the time now, from any thread."""
        self._end = 0.0

    def require_time(self) -> None:
        """Raises TimeoutError if the time is over."""
        if time.monotonic() > self._end:
            raise TimeoutError(
                f"stopped after {self.seconds:g} s, the limit of one question; ask for fewer rows or steps"
            )


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Networks that run in this thread heed the deadline.

    Example:
        >>> layer, deadline = heed_deadlines(nn.Linear(2, 1)), Deadline(60.0)
        >>> deadline.cancel()
        >>> with within(deadline):
        ...     layer(__import__("torch").zeros(3, 2))
        Traceback (most recent call last):
        TimeoutError: stopped after 60 s, the limit of one question; ask for fewer rows or steps
    """
    before = getattr(_current, "deadline", None)
    _current.deadline = deadline
    try:
        deadline.require_time()
        yield
    finally:
        _current.deadline = before


def heed_deadlines(model: nn.Module) -> nn.Module:
    """The model, each part of which now looks at the deadline of its thread before it runs."""
    for module in model.modules():
        module.register_forward_pre_hook(_look)
    return model


def _look(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001  # as torch calls it
    deadline = getattr(_current, "deadline", None)
    if deadline is not None:
        deadline.require_time()
