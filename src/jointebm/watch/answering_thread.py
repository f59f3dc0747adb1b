"""The thread that answers `predict` beside the chains: only the last question counts."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from jointebm.watch.deadlines import Deadline, within

__all__ = ["Answerer", "PageQuestion"]

PAUSE = 0.1  # seconds that a question waits for a newer one, as while a picture is painted


class PageQuestion(Protocol):
    """A question that holds all it needs."""

    def answer(self) -> dict[str, Any]:
        """The answer as plain data."""


class Answerer(threading.Thread):
    """Answers the last question it was asked; a newer one stops the answer to the one before.

    Args:
        send: takes an answer, or {"error": ...}; called from this thread.
        seconds: time for one answer.
    """

    def __init__(self, send: Callable[[dict[str, Any]], object], *, seconds: float) -> None:
        super().__init__(name="jointebm-answers", daemon=True)
        self._send, self._seconds = send, seconds
        self._changed = threading.Condition()
        self._question: PageQuestion | None = None
        self._deadline: Deadline | None = None
        self._closed = False

    def ask(self, question: PageQuestion) -> None:
        """Asks, in place of any question before."""
        with self._changed:
            self._question = question
            if self._deadline is not None:
                self._deadline.cancel()
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread, at the next evaluation of a network."""
        with self._changed:
            self._closed = True
            if self._deadline is not None:
                self._deadline.cancel()
            self._changed.notify()

    def run(self) -> None:
        """Answers until closed."""
        with ExitStack() as at_the_end:
            at_the_end.push(self._say_failure)
            while (question := self._next()) is not None:
                self._answer(question)

    def _answer(self, question: PageQuestion) -> None:
        """Answers one question, unless a newer one has come."""
        deadline = Deadline(self._seconds)
        with self._changed:
            if self._question is not None or self._closed:
                return
            self._deadline = deadline
        try:
            with within(deadline):
                found = question.answer()
        except (ValueError, TypeError, FloatingPointError, TimeoutError) as error:
            found = {"error": str(error)}
        with self._changed:
            self._deadline = None
            is_last = self._question is None and not self._closed
        if is_last:
            self._send(found)

    def _say_failure(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Tells the page that an error of ours has ended the answers; the server's log shows it whole."""
        if kind is not None:
            self._send({"error": f"no more answers: {kind.__name__}: {error}"})

    def _next(self) -> PageQuestion | None:
        """The next question, when no newer one has come for a moment; None when closed."""
        with self._changed:
            while not self._closed:
                question = self._question
                if question is None:
                    self._changed.wait()
                    continue
                self._changed.wait(PAUSE)
                if self._question is question:
                    self._question = None
                    return question
            return None
