"""Ctrl-C and SIGTERM: held back until it is safe to stop, then raised."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Pending", "Terminated", "held_back", "raise_on_terminate"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end; a handler of KeyboardInterrupt handles this too."""


class Pending:
    """A signal that was noted and may still have to be raised."""

    def __init__(self) -> None:
        self.reason: KeyboardInterrupt | None = None  # what `check` raises
        self.raised = False
        self._number = 0  # of the signal; 0: none

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the form of a signal handler
        """Notes a signal."""
        self.reason, self.raised = KeyboardInterrupt() if number == signal.SIGINT else Terminated(), False
        self._number = number

    def check(self, largest: Callable[[int], int] = int) -> None:
        """Raises KeyboardInterrupt after Ctrl-C and `Terminated` after SIGTERM.

        Args:
            largest: of several processes, the largest of their numbers, so that all stop if one is to; see `World`.
        """
        number = largest(self._number)
        if number and self.reason is None:
            self.note(number, None)
        if self.reason is not None:
            self.raised = True
            raise self.reason


@contextmanager
def held_back() -> Iterator[Pending]:
    """Notes Ctrl-C and SIGTERM instead of raising them within a statement; the block calls `check` where it may stop.

    A signal after the last `check` is raised when the block ends, so none is lost. A block within another shares its
    `Pending`. Outside the main thread no signals arrive, and nothing is held back.

    Example:
        >>> with held_back() as pending:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     try:
        ...         pending.check()
        ...     except Terminated:
        ...         print("stopped between two statements")
        stopped between two statements
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(outer, Pending):
        yield outer
        return
    previous: dict[signal.Signals, Any] = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, pending.note)
        yield pending
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if not pending.raised:
        pending.check()


@contextmanager
def raise_on_terminate() -> Iterator[Pending]:
    """Makes SIGTERM raise `Terminated` while the block runs, as Ctrl-C raises KeyboardInterrupt; notes it as well."""
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        pending.note(number, frame)
        pending.check()

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield pending
    finally:
        signal.signal(signal.SIGTERM, previous)
