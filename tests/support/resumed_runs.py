"""A small run, and the comparison of a resumed run with an uninterrupted one."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space, TrainConfig, Trainer
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import MALA, Cycle, Gibbs, GibbsWithGradients, Kernel, Langevin
from jointebm.spaces.space import Position
from jointebm.storage import checkpoint
from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.trainer import Metrics

NUM = 100


SPACE = Space(x=Continuous(2), y=Categorical(3))


CONFIG = TrainConfig(
    num_iterations=NUM,
    batch_size=6,
    num_steps=1,
    learning_rate=1e-2,
    warmup=5,
    decay="cosine",
    buffer_size=20,
    replacement_rate=0.2,
    snapshot_every=10,
)


DIVERGES = 42  # the update that diverges


class Sound(nn.Module):
    """A network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = ConcatEnergy(SPACE, MLP(5, (8,)))

    def forward(self, position: Position) -> Tensor:
        return self.network(position)


class Diverging(Sound):
    """A network that overflows after `DIVERGES` updates at the full learning rate: chains restart, then a rollback follows.

    It reads the iteration from the trainer, so that a resumed run diverges at the same update.
    """

    trainer: Trainer | None = None

    def forward(self, position: Position) -> Tensor:
        f = self.network(position)
        trainer = self.trainer
        if trainer is None:
            return f
        first = trainer.iteration == DIVERGES - 1 and not trainer.interventions  # one restart that must be kept
        if first or (trainer.iteration == DIVERGES and trainer.learning_rate_factor == 1):
            f = f + torch.where(torch.arange(len(f)) == 3, torch.inf, 0.0)
        return f


KERNELS: dict[str, Kernel] = {
    "gibbs + mala": Cycle((Gibbs(SPACE), MALA(block="x", step_size=0.3))),
    "gradients + langevin": Cycle((GibbsWithGradients(SPACE), Langevin(block="x", step_size=0.1))),
}


def stops_after(num: int) -> Callable[[Metrics], None]:
    """Presses Ctrl-C when metrics are told for the num-th time."""
    left = iter(range(num - 1, -1, -1))

    def stop(_: Metrics) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt

    return stop


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Asserts equality of everything except the seconds."""
    assert one.iteration == other.iteration and one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype and torch.equal(tensor, other.tensors[name]), name
    plain, other_plain = (json.loads(json.dumps(each.plain)) | {"seconds": 0} for each in (one, other))
    for each in (plain, other_plain):
        if each["metrics"] is not None:
            each["metrics"]["seconds"] = 0
    assert plain == other_plain


def stepwise(trainer: Trainer) -> list[Checkpoint]:
    """Trains to the end; returns the state after every step, as read from disk."""
    return [trainer.state()._replace(tensors=copied(trainer)) for _ in trainer.run()]


def copied(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trainer.state().tensors.items()}


def through_disk(state: Checkpoint, folder: Path) -> Checkpoint:
    checkpoint.write(folder, state, keep=1)
    loaded = checkpoint.newest(folder)
    assert loaded.checkpoint is not None and loaded.damaged == ()
    return loaded.checkpoint
