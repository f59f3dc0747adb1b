"""The thread of one open page: it steps the chains, obeys the page, and sends no more frames than the page can show."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from jointebm.watch.answering_thread import Answerer, PageQuestion
from jointebm.watch.commands_of_page import Ack, Clamp, Command, Copy, Pause, Play, Restart, Row, Step

__all__ = ["Stepper", "Watched"]

FRAMES_AHEAD = 2  # sent and not yet shown
FRAME_RATE = 30.0  # frames per second, at most
FRAME_SECONDS = 0.04  # of steps for one frame; it then is sent
PROBS_COST = 4.0  # live probabilities are renewed after so many times what they cost
USER_ERRORS = (ValueError, TypeError, FloatingPointError)


class Watched(Protocol):
    """What a page watches: `BlockChains` or `TableChains`."""

    seed: int

    def view(self) -> dict[str, Any]:
        """The model as plain data."""

    def clamp(self, given: Mapping[str, Any]) -> None:
        """Clamps what is given, and frees all else."""

    def restart(self, *, start: str, seed: int, row: int) -> None:
        """Starts again."""

    def step(self) -> None:
        """One step."""

    def frame(self, *, with_probs: bool) -> bytes:
        """The present states, packed."""

    @property
    def has_probs(self) -> bool:
        """Whether a frame can hold live probabilities."""

    def question(self) -> PageQuestion | None:
        """What `predict` is asked about what is clamped."""

    def row_values(self, number: int) -> dict[str, Any]:
        """Values of a row of the data."""

    def copied(self) -> dict[str, str]:
        """The view as Python and as a shell command."""


class Stepper(threading.Thread):
    """Steps what a page watches until it is closed.

    At most two frames are under way to the page. So what it clamps shows in the second frame after it at the latest, and a
    page that reads slowly makes the chains wait, not the memory grow.

    Args:
        watched: the chains; only this thread uses them.
        send: takes a frame (bytes), or a message as plain data; called from this thread and that of the answers.
        seconds: time for one answer of `predict`.
    """

    def __init__(self, watched: Watched, send: Callable[[bytes | dict[str, Any]], object], *, seconds: float) -> None:
        super().__init__(name="jointebm-watch", daemon=True)
        self._watched, self._send = watched, send
        self._changed = threading.Condition()
        self._commands: deque[Command] = deque()
        self._credits, self._closed = FRAMES_AHEAD, False
        self._rate: float | None = None  # steps per second; None: paused
        self._dirty, self._next = True, 0.0
        self._probs_at, self._probs_cost = 0.0, 0.0
        self._answers = Answerer(lambda found: send({"kind": "answer", **found}), seconds=seconds)

    def tell(self, command: Command) -> None:
        """Passes on a message of the page."""
        with self._changed:
            if isinstance(command, Ack):
                self._credits = min(FRAMES_AHEAD, self._credits + 1)
            else:
                self._commands.append(command)
            self._changed.notify()

    @property
    def num_waiting(self) -> int:
        """Messages that have not been obeyed yet."""
        return len(self._commands)

    def close(self) -> None:
        """Ends the thread, and its answers, at the next step."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._answers.close()

    def finish(self) -> None:
        """Waits for the end of the thread and its answers, after `close`."""
        for thread in (self, self._answers):
            if thread.ident is not None:  # it was started
                thread.join()

    def run(self) -> None:
        """Steps and sends, until closed."""
        self._answers.start()
        self._ask()
        with ExitStack() as at_the_end:
            at_the_end.push(self._say_failure)
            while (command := self._next_command()) is not None:
                self._follow(command)
                self._show()

    def _say_failure(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Tells the page that an error of ours has ended the chains; the server's log shows it whole."""
        if kind is not None:
            self._send({"kind": "error", "error": f"the chains have ended: {kind.__name__}: {error}"})

    def _follow(self, command: Command) -> None:
        """Does what a message says, or what is due; an error of the user pauses."""
        try:
            if isinstance(command, Step):
                self._advance()
            else:
                self._obey(command)
        except USER_ERRORS as error:
            self._rate = None
            self._send({"kind": "error", "error": str(error)})
            self._send({"kind": "state", "playing": False})

    def _next_command(self) -> Command | None:
        """The next message, or a step that is due; None when closed."""
        with self._changed:
            while not self._closed:
                if self._commands:
                    command = self._commands.popleft()
                    if isinstance(command, Clamp) and self._commands and isinstance(self._commands[0], Clamp):
                        continue  # the next one says all of it
                    return command
                if self._credits and self._dirty:
                    return Ack(do="ack")  # nothing to obey, but a frame to show
                wait = None
                if self._credits and self._rate is not None:
                    wait = self._next - time.monotonic()
                    if wait <= 0:
                        return Step(do="step")
                self._changed.wait(wait)
            return None

    def _obey(self, command: Command) -> None:
        match command:
            case Clamp(given=given):
                self._watched.clamp(given)
                self._dirty, self._probs_at = True, 0.0
                self._ask()
            case Restart(start=start, seed=seed, row=row):
                self._watched.restart(start=start, seed=seed, row=row)
                self._dirty, self._probs_at = True, 0.0
                self._send({"kind": "state", "restarted": True})
            case Play(rate=rate):
                self._rate, self._next = rate, time.monotonic()
                self._send({"kind": "state", "playing": True})
            case Pause():
                self._rate = None
                self._send({"kind": "state", "playing": False})
            case Copy():
                self._send({"kind": "copied", **self._watched.copied()})
            case Row(number=number):
                self._send({"kind": "row", "number": number, "values": self._watched.row_values(number)})
            case _:
                pass

    def _advance(self) -> None:
        """One step, or those of one frame while playing."""
        self._dirty = True
        if self._rate is None:
            self._watched.step()
            return
        interval = max(1 / FRAME_RATE, 1 / self._rate)
        begin = time.monotonic()
        for _ in range(max(1, round(self._rate * interval))):
            self._watched.step()
            if self._commands or self._closed or time.monotonic() - begin > FRAME_SECONDS:
                break
        self._next = max(self._next + interval, begin)

    def _show(self) -> None:
        """Sends a frame, if something has changed and the page can take it."""
        with self._changed:
            if not (self._dirty and self._credits) or self._closed:
                return
            self._credits -= 1
        self._dirty = False
        begin = time.monotonic()
        with_probs = self._watched.has_probs and begin - self._probs_at >= PROBS_COST * self._probs_cost
        try:
            self._send(self._watched.frame(with_probs=with_probs))
        except USER_ERRORS as error:
            self._send({"kind": "error", "error": str(error)})
        if with_probs:
            self._probs_at = time.monotonic()
            self._probs_cost = self._probs_at - begin

    def _ask(self) -> None:
        question = self._watched.question()
        if question is not None:
            self._answers.ask(question)
