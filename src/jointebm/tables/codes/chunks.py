"""Tables that are read in chunks, and folded into one value by several threads.

Legend: N rows of a chunk.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple, Protocol, Self, TypeVar

from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column

__all__ = ["ROWS_PER_CHUNK", "Chunk", "Chunks", "Fold", "folded"]

ROWS_PER_CHUNK = 1 << 16


class Chunk(NamedTuple):
    """Some consecutive rows of a table."""

    table: Mapping[Name, Column]
    first: int  # number of the first row, from 0


Chunks = Iterator[Callable[[], Chunk]]  # each is read when it is called, by whichever thread


class Fold(Protocol):
    """What is collected from chunks: the order of chunks does not matter."""

    def add(self, chunk: Chunk) -> None:
        """Takes in a chunk."""

    def merge(self, other: Self) -> None:
        """Takes in what another one has collected."""


F = TypeVar("F", bound="Fold")


def folded(chunks: Chunks, new: Callable[[], F], *, num_threads: int) -> F:
    """Folds all chunks; the result is the same for every number of threads.

    Args:
        chunks: of a table.
        new: makes an empty fold.
        num_threads: each holds one chunk and one fold.
    """
    lock, is_over = Lock(), False

    def next_chunk() -> Callable[[], Chunk] | None:
        nonlocal is_over
        with lock:
            found = None if is_over else next(chunks, None)
            is_over = found is None
            return found

    def work() -> F:
        nonlocal is_over
        fold = new()
        try:
            while (read := next_chunk()) is not None:
                fold.add(read())
        finally:
            is_over = True  # after an error the other threads end too
        return fold

    if num_threads == 1:
        return work()
    with ThreadPoolExecutor(num_threads) as pool:
        futures = [pool.submit(work) for _ in range(num_threads)]
        try:
            first, *others = [future.result() for future in futures]
        finally:
            is_over = True  # after an interrupt as well
    for each in others:
        first.merge(each)
    return first
