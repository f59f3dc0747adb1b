"""Progress of questions that take long: to the logger `jointebm`, to standard error, and to the caller.

Legend: N rows.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["LOGGER", "AnswerProgress", "AnswerWatch"]

ROWS_OF_PART = 256  # memory does not grow with the table beyond its own size
SECONDS = 2.0  # before the first word, and between any two
LOGGER = logging.getLogger("jointebm")


class AnswerProgress(NamedTuple):
    """Progress of a question.

    Args:
        question: such as "predict".
        num_done: rows that are answered.
        num_rows: N.
        seconds: since the question was asked.
    """

    question: str
    num_done: int
    num_rows: int
    seconds: float


class AnswerWatch:
    """Tells of questions that take over two seconds.

    Args:
        on_progress: called with each progress; None calls nothing.
        verbose: whether to print a line to standard error as well as to the logger, whose level is INFO.

    Example:
        >>> [(part.start, part.stop) for part in AnswerWatch(print).parts("predict", 300)]  # quick: nothing is told
        [(0, 256), (256, 300)]
    """

    def __init__(self, on_progress: Callable[[AnswerProgress], object] | None = None, *, verbose: bool = False) -> None:
        self._on_progress, self._verbose = on_progress, verbose

    def parts(self, question: str, num_rows: int) -> Iterator[slice]:
        """The rows of a question part by part; no rows are one empty part.

        After each part that ends two seconds or more after the last word, and after the last part of a question about which
        something was said, there is a word.
        """
        started = said = time.monotonic()
        for first in range(0, max(1, num_rows), ROWS_OF_PART):
            last = min(num_rows, first + ROWS_OF_PART)
            yield slice(first, last)
            now = time.monotonic()
            if now - said >= SECONDS or (last == num_rows and said > started):
                said = now
                self._tell(AnswerProgress(question, last, num_rows, now - started))

    def _tell(self, progress: AnswerProgress) -> None:
        left = progress.seconds / max(1, progress.num_done) * (progress.num_rows - progress.num_done)
        line = f"{progress.question}: {progress.num_done} of {progress.num_rows} rows, {left:.0f} s left"
        LOGGER.info(line)
        if self._verbose:
            sys.stderr.write(f"jointebm: {line}\n")
        if self._on_progress is not None:
            self._on_progress(progress)
