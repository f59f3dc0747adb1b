"""A second device on a machine that has none: tensors that say they are elsewhere, and hold their numbers on the CPU.

`pretended()` runs a block in which tensors can be made on, or moved to, `PLACE`. As on an accelerator, an operation on
tensors of both devices is refused, reading a number from the device is counted, and a generator serves its own device
alone. Numbers come from the CPU, so results have the bits of a run on the CPU.

Stricter than an accelerator: indices must be on the device of what they index. Optional: no float64, as on Apple GPUs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["PLACE", "Pretending", "away", "pretended"]

PLACE = torch.device("lazy")  # a type that torch knows and no machine has
MOVES = ("_to_copy", "copy_")  # between devices
READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "unique_dim", "masked_select", "equal")


class Away(Tensor):
    """A tensor that says it is at `PLACE`."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Away":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=PLACE,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: on a tensor of {PLACE}, outside of `pretended()`")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {PLACE} device type tensor to numpy; use Tensor.cpu()")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.inner!r})"


class PlacedGenerator(torch.Generator):
    """A generator at `PLACE` or on the CPU, with the same draws."""

    places: ClassVar[dict[int, torch.device]] = {}  # by address: torch hands a plain generator to a dispatch mode

    def __new__(cls, device: Any = "cpu") -> "PlacedGenerator":
        made = super().__new__(cls)
        cls.places[made._cdata] = torch.device(device)  # type: ignore[attr-defined]
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.places[self._cdata]  # type: ignore[attr-defined]

    def get_state(self) -> Tensor:
        """As that of an accelerator, it does not have the shape of a state of the CPU."""
        state = super().get_state()
        return state if self.device.type == "cpu" else torch.cat([state, state.new_zeros(1)])

    def set_state(self, state: Tensor) -> "PlacedGenerator":
        super().set_state(state if self.device.type == "cpu" else state[:-1].clone())
        return self


class Pretending(TorchDispatchMode):
    """See `pretended`; counts what is read from the device."""

    def __init__(self, *, has_float64: bool) -> None:
        super().__init__()
        self.num_reads, self._has_float64 = 0, has_float64

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given, name = dict(kwargs or {}), func.overloadpacket.__name__
        leaves = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        is_away = any(isinstance(leaf, Away) for leaf in leaves)
        if is_away and name not in MOVES:
            self._refuse_mixed(func, args, given)
            self.num_reads += name in READS or _by_mask(name, args)
        generator, device = given.get("generator"), given.get("device")
        if device is not None:
            is_away, given["device"] = torch.device(device).type == PLACE.type, torch.device("cpu")
        if generator is not None:
            of_generator = PlacedGenerator.places.get(generator._cdata, torch.device("cpu"))
            if (of_generator.type == PLACE.type) != is_away:
                raise RuntimeError(f"{func}: a generator on {of_generator} draws for the other device")
        result = func(*tree_map(_inner, args), **tree_map(_inner, given))
        written = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if written and len(func._schema.returns) <= 1:
            target = given[written[0]] if written[0] in given else args[0]
            return None if not func._schema.returns else target
        self._refuse_wide(func, result if is_away else None)
        return tree_map(_outer, result) if is_away else result

    def _refuse_mixed(self, func: Any, args: Sequence[Any], given: Mapping[str, Any]) -> None:
        for leaf in tree_leaves((list(args), given)):
            if isinstance(leaf, Tensor) and not isinstance(leaf, Away) and (leaf.ndim or _in_list(leaf, args)):
                raise RuntimeError(f"{func}: expected all tensors on one device, got {PLACE} and cpu")

    def _refuse_wide(self, func: Any, result: Any) -> None:
        if not self._has_float64:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
                    raise TypeError(f"{func}: {PLACE} has no float64")


def _in_list(leaf: Tensor, args: Sequence[Any]) -> bool:
    return any(leaf is each for arg in args if isinstance(arg, list) for each in arg)


def _by_mask(name: str, args: Sequence[Any]) -> bool:
    if not name.startswith("index"):
        return False
    indices = [each for arg in args if isinstance(arg, list | tuple) for each in arg]
    return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in indices)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Away) else value


def _outer(value: Any) -> Any:
    return Away(value) if isinstance(value, Tensor) else value


def _autocast(device_type: str, *args: Any, autocast: type = torch.autocast, **kwargs: Any) -> Any:
    """That of the CPU, since torch has none for `PLACE`."""
    return autocast("cpu" if device_type == PLACE.type else device_type, *args, **kwargs)


def away(tensor: Tensor) -> bool:
    """Whether a tensor is at `PLACE`."""
    return tensor.device.type == PLACE.type


@contextmanager
def pretended(*, has_float64: bool = True) -> Iterator[Pretending]:
    """A block in which `PLACE` is a device."""
    before = torch._C._only_lift_cpu_tensors()  # `torch.tensor(numbers, device=PLACE)`: made on the CPU, then moved
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            mock.patch.object(torch, "Generator", PlacedGenerator),
            mock.patch.object(torch, "autocast", _autocast),
            Pretending(has_float64=has_float64) as mode,
        ):
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
