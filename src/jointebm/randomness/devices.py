"""Devices: what "auto", "cuda" and "mps" mean on this machine, and generators that live there.

A device is named once, where a fit, a run or a model begins. From there on tensors are made where those are that they are
made from: parameters, positions, codes. Draws are made where their generator lives and handed over where they are needed,
so a generator of the CPU works with any device, and one on the device is faster.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast, get_args

import torch
from torch import Tensor

from jointebm.randomness.device_names import DeviceName

__all__ = ["Device", "on_cpu", "place_of", "resume_generator", "seed_of_rank"]

_A = TypeVar("_A")

Device = DeviceName | torch.device


def place_of(device: Device, *, wide: bool = True) -> torch.device:
    """The device that a name means on this machine.

    Args:
        device: "cpu", "cuda" or "mps"; "auto" is "cuda" where a CUDA device is found, else "cpu". "mps" is taken only when
            asked for. A `torch.device` stands for itself.
        wide: whether float64 is needed, which the devices of "mps" do not have.

    Raises:
        ValueError: an unknown name, or a device that this machine does not have; says what was found and the fix.

    Example:
        >>> place_of("cpu")
        device(type='cpu')
    """
    if isinstance(device, str) and device not in get_args(DeviceName):
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(map(repr, get_args(DeviceName)))}")
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if place.type == "cuda" and not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ValueError(
            f"device 'cuda': torch {torch.__version__} ({built}) finds no CUDA device; pass device='cpu' or 'auto', or "
            "install a build of torch and a driver that fit the GPU (nvidia-smi lists it)"
        )
    if place.type == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError(f"device 'mps': torch {torch.__version__} finds no Apple GPU; pass device='cpu' or 'auto'")
        if wide:
            raise ValueError(
                "device 'mps': has no float64, in which log-weights, log Z and draws of tables are computed; pass "
                "device='cpu'. Block models without a reference or noise levels train and sample there"
            )
    return place


def on_cpu(answer: _A) -> _A:
    """An answer with every tensor in it on the CPU: in mappings, lists, named tuples and dataclasses.

    Example:
        >>> on_cpu({"y": torch.zeros(2)})
        {'y': tensor([0., 0.])}
    """
    moved: Any = answer
    if isinstance(answer, Tensor):
        moved = answer.cpu()
    elif isinstance(answer, Mapping):
        moved = {name: on_cpu(value) for name, value in answer.items()}
    elif isinstance(answer, list):
        moved = [on_cpu(value) for value in answer]
    elif isinstance(answer, tuple):
        parts = [on_cpu(value) for value in answer]
        moved = type(answer)(*parts) if hasattr(answer, "_fields") else tuple(parts)
    elif is_dataclass(answer) and not isinstance(answer, type):
        moved = replace(answer, **{each.name: on_cpu(getattr(answer, each.name)) for each in fields(answer)})
    return cast(_A, moved)


def resume_generator(generator: torch.Generator, state: Tensor) -> bool:
    """Sets a stored state, and returns True; that of another kind of device does not fit, and its hash becomes the seed.

    Args:
        generator: to be set.
        state: what `get_state` of a generator returned.
    """
    if state.shape == generator.get_state().shape:
        generator.set_state(state.clone())
        return True
    digest = hashlib.sha256(state.cpu().numpy().tobytes()).digest()
    generator.manual_seed(int.from_bytes(digest[:7], "big"))
    return False


def seed_of_rank(seed: int, rank: int) -> int:
    """The seed of a process among several: that of the first is `seed`, those of others a hash.

    Example:
        >>> seed_of_rank(7, 0), seed_of_rank(7, 1) == seed_of_rank(7, 2)
        (7, False)
    """
    if rank == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{rank}".encode()).digest()[:7], "big")
