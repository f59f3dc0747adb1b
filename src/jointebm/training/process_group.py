"""The world of `torchrun`: processes that meet through `torch.distributed`.

Messages and parcels go through gloo and the memory of the CPU; gradients through gloo, or NCCL between GPUs.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from jointebm.randomness.devices import Device, place_of
from jointebm.storage.weights import packed
from jointebm.training.world import ALONE, FailedElsewhere, LostProcess, Parcel, World, plain_of, share_of

__all__ = ["Processes", "processes"]

_T = TypeVar("_T")

REFUSED, FAILED = 2, 1  # exit codes of a command whose first process refuses its input, or fails otherwise
REFUSALS = (ValueError, TypeError, OSError, ImportError)
SHORT = 4096  # bytes of a message that needs one exchange
LENGTH = 8  # bytes of its length, in front
BEAT = 5.0  # seconds between signs of life of a process at long work
# For a process that does not come. That one died is noticed at once, but for rare races in gloo.
MEETING_TIMEOUT = timedelta(minutes=5)


class Processes:
    """The default group of `torch.distributed`, as a `World`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def share(self, total: int, name: str) -> int:
        """See `share_of`."""
        return share_of(total, self.rank, self.size, name=name)

    def tell(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One exchange of a fixed length; a second one if a message is longer."""
        return [json.loads(content) for content in self._contents(json.dumps(message).encode())]

    def largest(self, number: int) -> int:
        """One reduction of a number."""
        found = torch.tensor(number)
        with self._connected():
            dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """One reduction of all gradients, and of how many processes have each."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        own = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
        counts = own[0].new_tensor([each.grad is not None for each in trained])
        flat = torch.cat([*(gradient.flatten() for gradient in own), counts])
        with self._connected():
            dist.all_reduce(flat)
        parts = flat.split([*(each.numel() for each in trained), len(trained)])
        for each, total, count in zip(trained, parts, parts[-1].tolist(), strict=False):
            each.grad = total.view_as(each).to(each.dtype) if count else None

    def from_first(
        self,
        make: Callable[[], _T],
        *,
        pack: Callable[[_T], Parcel] = Parcel,
        unpack: Callable[[Parcel], _T] = plain_of,
    ) -> _T:
        """Sends the packed thing, or nothing, from the first process to the others."""
        if self.rank == 0:
            try:
                made = self.patiently(make)
                content = _written(pack(made))
            except BaseException as error:
                self._sent(b"", failed_with=REFUSED if isinstance(error, REFUSALS) else FAILED)
                raise
            self._sent(content)
            return made
        self.patiently(lambda: None)
        return unpack(_read(self._sent(b"")))

    def patiently(self, work: Callable[[], _T]) -> _T:
        """Signs of life are reductions in a second thread, in which every process that has done its work waits."""
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), daemon=True)
        beating.start()
        try:
            return work()
        finally:
            done.set()
            beating.join()

    def _beat(self, done: threading.Event) -> None:
        with contextlib.suppress(LostProcess):  # the next meeting raises it
            while self.largest(int(not done.wait(BEAT))):
                pass

    def gathered(self, parcel: Parcel) -> list[Parcel]:
        """Every process sends its parcel to all."""
        return [_read(content) for content in self._contents(_written(parcel))]

    def _sent(self, content: bytes, *, failed_with: int = 0) -> bytes:
        """The content of the first process; raises FailedElsewhere in the others if it failed to make it."""
        length = torch.tensor(-failed_with or len(content))
        with self._connected():
            dist.broadcast(length, src=0)
            if int(length) < 0:
                if self.rank:
                    raise FailedElsewhere(-int(length))
                return b""
            whole = _bytes(content, int(length))
            if len(whole):
                dist.broadcast(whole, src=0)
        return whole.numpy().tobytes()

    def _contents(self, content: bytes) -> list[bytes]:
        """The contents of all processes."""
        parts = self._exchanged(content[: SHORT - LENGTH], len(content), SHORT)
        longest = max(length for length, _ in parts)
        if longest > SHORT - LENGTH:
            parts = self._exchanged(content, len(content), LENGTH + longest)
        return [part[:length] for length, part in parts]

    def _exchanged(self, content: bytes, length: int, room: int) -> list[tuple[int, bytes]]:
        own = _bytes(length.to_bytes(LENGTH, "big") + content, room)
        every = [torch.empty_like(own) for _ in range(self.size)]
        with self._connected():
            dist.all_gather(every, own)
        found = [each.numpy().tobytes() for each in every]
        return [(int.from_bytes(each[:LENGTH], "big"), each[LENGTH:]) for each in found]

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Says in one line that another process is gone."""
        try:
            yield
        except RuntimeError as error:
            raise LostProcess(
                f"process {self.rank} of {self.size}: lost the connection to another process, which ended or was killed "
                f"({str(error).splitlines()[0][:200]}). Resume from the newest checkpoint, with as many processes or others"
            ) from None


@contextmanager
def processes(device: Device = "auto", *, meeting: str = "env://") -> Iterator[World]:
    """The processes that `torchrun` started, of which this is one; `ALONE` in any other process.

    RANK and WORLD_SIZE of the environment say so. A process on CUDA takes the GPU of its LOCAL_RANK.

    Args:
        device: where they train, as for a fit.
        meeting: where they meet, as `torch.distributed` takes its `init_method`; "env://" is where `torchrun` says.

    Raises:
        ValueError: more processes than GPUs on this machine, or a device that processes cannot share work on.
        LostProcess: the others are not there.

    Example:
        >>> with processes("cpu") as world:
        ...     world.rank, world.size
        (0, 1)
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = _backend(place_of(device, wide=False), int(os.environ.get("LOCAL_RANK", rank)))
    try:
        store = _store(meeting, rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=MEETING_TIMEOUT)
    except RuntimeError as error:
        raise LostProcess(f"process {rank} of {size}: cannot meet the others: {str(error).splitlines()[0]}") from None
    try:
        yield Processes()
    finally:
        dist.destroy_process_group()


def _store(meeting: str, rank: int, size: int) -> Store:
    """Where processes leave their addresses, apart from those of processes that ended before `torchrun` started these.

    `torchrun` keeps one store for all attempts. A process that reads the address of an ended one waits until the timeout.
    """
    store, _, _ = next(iter(rendezvous(meeting, rank, size, timeout=MEETING_TIMEOUT)))
    store.set_timeout(MEETING_TIMEOUT)
    return PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _backend(place: torch.device, local_rank: int) -> str:
    if place.type == "cpu":
        return "gloo"
    if place.type != "cuda":
        raise ValueError(f"device {place.type!r}: several processes train on cpu or cuda; pass device='cpu'")
    num_devices = torch.cuda.device_count()
    if local_rank >= num_devices:
        raise ValueError(
            f"device 'cuda': process {local_rank} of this machine has no GPU of its own: it has {num_devices}; start "
            f"torchrun with --nproc-per-node {num_devices}, or pass device='cpu'"
        )
    torch.cuda.set_device(local_rank)
    return "cpu:gloo,cuda:nccl"


def _bytes(content: bytes, room: int) -> Tensor:
    """Bytes as a tensor of this length, zeros behind them."""
    return torch.frombuffer(bytearray(content.ljust(room, b"\0")), dtype=torch.uint8) if room else torch.empty(0)


def _written(parcel: Parcel) -> bytes:
    plain = json.dumps(parcel.plain).encode()
    return len(plain).to_bytes(LENGTH, "big") + plain + packed(parcel.tensors)


def _read(content: bytes) -> Parcel:
    start = LENGTH + int.from_bytes(content[:LENGTH], "big")
    return Parcel(json.loads(content[LENGTH:start]), load_tensors(content[start:]))
