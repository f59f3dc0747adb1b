"""What training learns: everything that an iteration changes, and that a rollback takes back."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.config import TrainConfig
from jointebm.training.divergence import Watch
from jointebm.training.replay_buffer import ReplayBuffer
from jointebm.training.row_completions import Completions

__all__ = ["Learner", "prefixed", "without_prefix"]


class Learner:
    """Parameters, their average, Adam and its learning rate, chains, completions of data, and the scales of a `Watch`.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        buffer: the chains.
        watch: looks for signs of divergence.
        config: how to train.

    References:
        Kelly & Grathwohl 2021, App. B: Adam, linear warm-up, exponential moving average.
    """

    def __init__(self, log_density: nn.Module, buffer: ReplayBuffer, watch: Watch, config: TrainConfig) -> None:
        self.log_density, self.buffer, self.watch = log_density, buffer, watch
        self.completions = Completions(buffer.noise.space)
        self._config = config
        self.optimizer = torch.optim.Adam(
            log_density.parameters(), lr=config.learning_rate, betas=(config.beta_1, 0.999)
        )
        self.schedule = LambdaLR(self.optimizer, self._learning_rate_factor)
        self._averaged = AveragedModel(log_density, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self._averaged.update_parameters(log_density)  # theta_hat_0 = theta_0
        self.iteration = 0  # number of updates done

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters."""
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
        self._averaged.update_parameters(self.log_density)
        self.iteration += 1
        return learning_rate

    def state(self) -> Checkpoint:
        """All of it; the tensors are the ones in use, and change with the next update."""
        adam = self.optimizer.state_dict()["state"]
        tensors = {
            **prefixed("parameters", self.log_density.state_dict()),
            **prefixed("average", self._averaged.state_dict()),
            **{f"adam.{index}.{name}": value for index, slots in adam.items() for name, value in slots.items()},
            **prefixed("buffer", self.buffer.position),
            **prefixed("completions", self.completions.state()),
        }
        return Checkpoint(
            self.iteration, tensors, {"schedule": self.schedule.state_dict(), "watch": self.watch.state()}
        )

    def snapshot(self) -> Checkpoint:
        """A copy of the state, which stays as it is."""
        now = self.state()
        return now._replace(tensors={name: tensor.detach().clone() for name, tensor in now.tensors.items()})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts back what `state` returned; of more than that, takes what it needs."""
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self.log_density.load_state_dict(without_prefix("parameters", tensors))
        self._averaged.load_state_dict(without_prefix("average", tensors))
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in without_prefix("adam", tensors).items():
            index, _, slot = name.partition(".")
            adam.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({"state": adam, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.schedule.load_state_dict(checkpoint.plain["schedule"])
        self.buffer.position = without_prefix("buffer", tensors)
        self.completions.restore(without_prefix("completions", tensors))
        self.watch.restore(checkpoint.plain["watch"])
        self.iteration = checkpoint.iteration

    def _learning_rate_factor(self, iteration: int) -> float:
        config = self._config
        warm = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
        if config.decay == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * iteration / config.num_iterations))


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under "prefix.name"."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under "prefix.name", by name."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
