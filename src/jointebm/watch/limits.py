"""Limits of the service and of the page: what one client may ask of this machine."""

from dataclasses import dataclass

__all__ = ["Limits", "OverLimitError"]


class OverLimitError(ValueError):
    """A request asks for more than the limits of the service."""


@dataclass(frozen=True)
class Limits:
    """Limits, each of which refuses with one line.

    Args:
        body: bytes of a request, and of a message over a WebSocket.
        rows: rows of an answer: those asked about, times the draws of each.
        steps: kernel steps of a question, and sweeps of one about a table.
        seconds: time for one question; it is then given up at the next evaluation of the network.
        sessions: open pages, each with its own chains.
        questions: answered at the same time.
        waiting: questions that may wait; one more is refused.
        body_seconds: time for a client to send its body.
        changes: changes of what is clamped that a page remembers since its chains started, for the lines that repeat it.
    """

    body: int = 8 << 20
    rows: int = 10_000
    steps: int = 10_000
    seconds: float = 30.0
    sessions: int = 8
    questions: int = 1
    waiting: int = 16
    body_seconds: float = 10.0
    changes: int = 500

    def require_rows(self, num: int) -> None:
        """Raises OverLimitError if an answer has too many rows."""
        if num > self.rows:
            raise OverLimitError(f"{num} rows: this service answers {self.rows} at once; ask in parts")

    def require_steps(self, num: int | None) -> None:
        """Raises OverLimitError if chains would take too many steps."""
        if num is not None and num > self.steps:
            raise OverLimitError(f"num_steps: got {num}, and this service takes {self.steps} at most")
