"""Training state: everything an iteration updates and a rollback restores."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Scales

__all__ = [
    "Descent",
    "Lasting",
    "TrainingState",
    "cosine_decay",
    "no_decay",
    "prefixed",
    "require_shapes",
    "without_prefix",
]


class Descent(NamedTuple):
    """Optimizer, schedule and averaging: how parameters follow their gradient.

    Args:
        optimizer: of torch, with the learning rate that the schedule multiplies.
        factor: of the learning rate, by the number of updates done.
        averaging: updates averaged parameters in place, as `AveragedModel` takes it: (averages, parameters, number of
            parameters averaged so far).
    """

    optimizer: torch.optim.Optimizer
    factor: Callable[[int], float]
    averaging: Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


class Lasting(Protocol):
    """What lasts from iteration to iteration beside parameters: chains, completions, running scales."""

    @property
    def module(self) -> nn.Module:
        """What is trained, in place."""
        ...

    @property
    def scales(self) -> Scales:
        """What was usual so far."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name; they change with the next update."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        ...


class TrainingState:
    """Parameters, their average, the optimizer and its schedule, and what else lasts.

    Args:
        lasting: the module, and chains, completions and scales.
        descent: optimizer, schedule and averaging.

    References:
        Kelly & Grathwohl 2021, App. B: Adam, linear warm-up, exponential moving average.
    """

    def __init__(self, lasting: Lasting, descent: Descent) -> None:
        self._lasting, self.optimizer = lasting, descent.optimizer
        self.schedule = LambdaLR(descent.optimizer, descent.factor)
        self._averaged = AveragedModel(lasting.module, multi_avg_fn=descent.averaging)
        self._averaged.update_parameters(lasting.module)  # theta_hat_0 = theta_0
        self.iteration = 0  # number of updates done

    @property
    def average(self) -> nn.Module:
        """The module with averaged parameters."""
        return self._averaged.module

    def update(self, factor: float) -> float:
        """Descends the gradient that the parameters hold, and averages them.

        Args:
            factor: of the schedule's learning rate.

        Returns:
            The learning rate that was used.
        """
        learning_rate = factor * float(self.schedule.get_last_lr()[0])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.schedule.step()
        self._averaged.update_parameters(self._lasting.module)
        self.iteration += 1
        return learning_rate

    def state(self) -> Checkpoint:
        """All of it; the tensors are the ones in use, and change with the next update."""
        adam = self.optimizer.state_dict()["state"]
        tensors = {
            **prefixed("parameters", self._lasting.module.state_dict()),
            **prefixed("average", self._averaged.state_dict()),
            **{f"adam.{index}.{name}": value for index, slots in adam.items() for name, value in slots.items()},
            **self._lasting.state(),
        }
        plain = {"schedule": self.schedule.state_dict(), "scales": self._lasting.scales.state()}
        return Checkpoint(self.iteration, tensors, plain)

    def snapshot(self) -> Checkpoint:
        """A copy of the state, which stays as it is."""
        now = self.state()
        return now._replace(tensors={name: tensor.detach().clone() for name, tensor in now.tensors.items()})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores what `state` returned; further tensors are ignored."""
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self._lasting.module.load_state_dict(without_prefix("parameters", tensors))
        self._averaged.load_state_dict(without_prefix("average", tensors))
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in without_prefix("adam", tensors).items():
            index, _, slot = name.partition(".")
            adam.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({"state": adam, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.schedule.load_state_dict(checkpoint.plain["schedule"])
        self._lasting.scales.restore(checkpoint.plain["scales"])
        place = next(self._lasting.module.parameters()).device
        self._lasting.restore({name: tensor.to(place) for name, tensor in tensors.items()})
        self.iteration = checkpoint.iteration


def no_decay(iteration: int, num_iterations: int) -> float:  # noqa: ARG001  # the form of a decay
    """A constant learning rate."""
    return 1.0


def cosine_decay(iteration: int, num_iterations: int) -> float:
    """Half a cosine, from 1 at the start to 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * iteration / num_iterations))


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under "prefix.name"."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under "prefix.name", by name."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def require_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises unless a checkpoint holds the tensors that a run has at any time.

    Adam has none before its first step, snapshots vary, completions come with the first visit of their row, and generators
    differ between devices.
    """
    varying = ("adam.", "snapshot-", "completions.", "generator", "data_generator", "looking")
    shapes, others = (
        {name: tensor.shape for name, tensor in tensors.items() if not name.startswith(varying)}
        for tensors in (expected, found)
    )
    if shapes != others:
        wrong = min(name for name, _ in set(shapes.items()) ^ set(others.items()))
        raise ValueError(f"checkpoint: tensor {wrong!r} does not fit this run; resume it with its own recipe")
