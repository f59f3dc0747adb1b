"""Shows the progress of a long command on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jointebm.cli.console import Interrupted, say

__all__ = ["StepProgress", "watched"]

SECONDS_BETWEEN_LINES = 10.0


class StepProgress:
    """Shows how many steps are done."""

    def __init__(self, name: str, num_steps: int) -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self.num_done = 0
        self._name, self._num_steps = name, num_steps
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            refresh_per_second=4,
            disable=not self._is_terminal,
        )
        self._task = self._bar.add_task(name, total=num_steps, figures="")
        self._started = self._shown = time.monotonic()
        self._num_before: int | None = None  # steps done before this session

    def __enter__(self) -> "StepProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, num_done: int, figures: str = "") -> None:
        """Shows that `num_done` steps are done, and figures next to them."""
        self.num_done = num_done
        if self._num_before is None:
            self._num_before = num_done - 1
        if self._is_terminal:
            self._bar.update(self._task, completed=num_done, figures=figures)
        elif time.monotonic() - self._shown > SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            left = (self._shown - self._started) / (num_done - self._num_before) * (self._num_steps - num_done)
            say(f"{self._name}: {num_done} of {self._num_steps}, {left:.0f} s left {figures}")


@contextmanager
def watched(name: str, num_rows: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of rows; yields a function that adds rows. Ctrl-C reports how many are done."""
    num_done = 0
    with StepProgress(name, num_rows) as progress:

        def add(num: int) -> None:
            nonlocal num_done
            num_done += num
            progress.show(num_done)

        try:
            yield add
        except KeyboardInterrupt as reason:
            raise Interrupted(reason, f"interrupted after {num_done} of {num_rows} rows; no file was written") from None
