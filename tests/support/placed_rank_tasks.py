"""Training in several processes on a pretended device, and where the tensors are that processes send."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from jointebm import Trainer
from jointebm.randomness.devices import Device
from jointebm.training.dealing import gathered
from jointebm.training.world import World
from support.pretend_device import PLACE, pretended
from support.rank_tasks import CONFIG, KERNEL, Incomplete, batch, weighted_network
from support.resumed_runs import SPACE
from support.slowed_saves import digest

CASES: dict[str, Any] = {"plain": lambda _: batch, "incomplete": Incomplete}


@contextmanager
def noted_meetings() -> Iterator[set[tuple[str, str]]]:
    """Collective operations, and the type of device of each of their tensors."""
    found: set[tuple[str, str]] = set()

    def noting(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def noted(first: Any, *more: Any, **options: Any) -> Any:
            for each in (first, *more):
                tensors = each if isinstance(each, list) else [each]
                found.update((name, tensor.device.type) for tensor in tensors if isinstance(tensor, Tensor))
            return operation(first, *more, **options)

        return noted

    names = ("all_reduce", "broadcast", "all_gather", "barrier")
    planted = {name: noting(name, getattr(dist, name)) for name in names}
    with mock.patch.multiple(dist, **planted):
        yield found


def trained(world: World, place: Device, case: str) -> dict[str, Any]:
    """Some steps of weighted training, and the state of all processes."""
    generator = torch.Generator().manual_seed(world.rank)  # on an accelerator data have a generator of their own
    rows = CASES[case](world)

    def drawn(num: int, **_: Any) -> Any:
        return rows(num, generator=generator)

    trainer = Trainer(
        weighted_network(),
        SPACE,
        drawn,
        kernel=KERNEL,
        config=CONFIG.model_copy(update={"num_iterations": 12}),
        seed=3,
        device=place,
        world=world,
    )
    metrics = [each._replace(seconds=0.0) for each in trainer.run()]
    whole = gathered(trainer.state(), world)
    shared = {name: tensor.cpu() for name, tensor in whole.tensors.items()}
    parts = [{name: tensor for name, tensor in part.items() if "generator" not in name} for part in whole.parts]
    return {"shared": digest(shared), "parts": [digest(part) for part in parts], "metrics": metrics}


def trained_on_both(world: World, case: str) -> dict[str, Any]:
    """Training on the CPU, and on a pretended device."""
    on_cpu = trained(world, "cpu", case)
    with pretended(), noted_meetings() as meetings:
        elsewhere = trained(world, PLACE, case)
    return {"on_cpu": on_cpu, "elsewhere": elsewhere, "meetings": sorted(meetings)}
