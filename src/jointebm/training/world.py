"""The world of processes that train one model together; a single process is a world of one, with the same code.

Everything that processes tell one another goes through a `World`. `ALONE` tells itself; `process_group.processes` makes the
world of `torchrun`.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ALONE", "Alone", "FailedElsewhere", "LostProcess", "Parcel", "World", "plain_of", "share_of"]

_T = TypeVar("_T")


class Parcel(NamedTuple):
    """What is sent from process to process: JSON data, and tensors, which arrive on the CPU. Nothing in it is executed."""

    plain: Any = None
    tensors: "Mapping[str, Tensor]" = MappingProxyType({})


def plain_of(parcel: Parcel) -> Any:
    """The JSON data of a parcel."""
    return parcel.plain


class FailedElsewhere(Exception):  # noqa: N818  # what happened, not an error of this process
    """Another process failed, and says why; this one ends in silence.

    Args:
        exit_code: of a command that ends so.
    """

    def __init__(self, exit_code: int = 1) -> None:
        super().__init__("another process of this run failed; its own message says why")
        self.exit_code = exit_code


class LostProcess(ConnectionError):  # noqa: N818
    """The connection to another process broke: it ended, or was killed."""


class World(Protocol):
    """Processes that train one model together, seen from one of them.

    Every method but `share` is a meeting: all processes call the same methods in the same order, and wait for one another.
    A process that ends in between makes the others raise `LostProcess`.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0; that of the first writes files and prints."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def share(self, total: int, name: str) -> int:
        """This process's share of `total` rows, chains or slots; see `share_of`."""
        ...

    def tell(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The messages of all processes, JSON data, in the order of their ranks."""
        ...

    def largest(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        ...

    def sum_gradients(self, parameters: "Iterable[nn.Parameter]") -> None:
        """Replaces the gradients of parameters by their sum over all processes; None where no process has one."""
        ...

    def from_first(
        self,
        make: Callable[[], _T],
        *,
        pack: Callable[[_T], Parcel] = Parcel,
        unpack: Callable[[Parcel], _T] = plain_of,
    ) -> _T:
        """What `make` returns in the first process, which alone calls it; the others unpack what it has packed.

        Raises:
            FailedElsewhere: it raised in the first process, where its error is raised.
        """
        ...

    def patiently(self, work: Callable[[], _T]) -> _T:
        """What `work` returns, when all have done theirs; for work that takes one process minutes longer than another."""
        ...

    def gathered(self, parcel: Parcel) -> list[Parcel]:
        """The parcels of all processes in the order of their ranks."""
        ...


class Alone:
    """The world of a single process."""

    rank, size = 0, 1

    def share(self, total: int, name: str) -> int:  # noqa: ARG002  # the form of a world
        """All of it."""
        return total

    def tell(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Its own message."""
        return [dict(message)]

    def largest(self, number: int) -> int:
        """Its own number."""
        return number

    def sum_gradients(self, parameters: "Iterable[nn.Parameter]") -> None:
        """Leaves them as they are."""

    def from_first(
        self,
        make: Callable[[], _T],
        *,
        pack: Callable[[_T], Parcel] = Parcel,  # noqa: ARG002
        unpack: Callable[[Parcel], _T] = plain_of,  # noqa: ARG002
    ) -> _T:
        """What `make` returns."""
        return make()

    def patiently(self, work: Callable[[], _T]) -> _T:
        """What `work` returns."""
        return work()

    def gathered(self, parcel: Parcel) -> list[Parcel]:
        """Its own parcel."""
        return [parcel]


ALONE = Alone()


def share_of(total: int, rank: int, size: int, *, name: str) -> int:
    """The share of one of `size` processes of `total` rows, chains or slots; shares differ by one at most.

    The first processes have the larger ones, so that item i of all belongs to process i modulo `size`.

    Args:
        total: number of items.
        rank: of the process.
        size: number of processes.
        name: of the items, for the message.

    Raises:
        ValueError: there are fewer items than processes.

    Example:
        >>> [share_of(10, rank, 3, name="batch_size") for rank in range(3)]
        [4, 3, 3]
    """
    if 0 < total < size:
        raise ValueError(f"{name}: got {total} for {size} processes, each of which needs one; set it to {size} or more")
    return (total + size - 1 - rank) // size
