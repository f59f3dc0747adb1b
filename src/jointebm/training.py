"""Training by persistent contrastive divergence (App. B): Adam, linear warm-up, exponential moving average.

Legend: N rows of a batch and as many chains.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from jointebm.buffer import ReplayBuffer
from jointebm.checkpoint import Checkpoint
from jointebm.config import Config
from jointebm.kernels import Chain, Kernel, evaluate
from jointebm.noise import Noise
from jointebm.objectives import Phases, maximum_likelihood, summed_maximum_likelihood
from jointebm.sampling import check_finite, check_kernel, run_chain
from jointebm.spaces import Position, Space

__all__ = ["Metrics", "TrainConfig", "Trainer"]


class TrainConfig(Config):
    """How to train: the numbers of Tables 1-3, and what we add to them.

    Example:
        >>> TrainConfig(num_iterations=5500, batch_size=1000, num_steps=20, learning_rate=1e-4, warmup=1000).buffer_size
        10000
    """

    num_iterations: int = Field(ge=1, description="parameter updates")
    batch_size: int = Field(ge=1, description="data rows per iteration, and as many chains")
    num_steps: int = Field(ge=1, description="kernel steps per iteration")
    learning_rate: float = Field(gt=0, description="of Adam, after the warm-up")
    warmup: int = Field(0, ge=0, description="iterations over which the learning rate rises linearly from 0")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate after the warm-up: constant or cosine to 0"
    )
    buffer_size: int = Field(10_000, ge=1, description="slots of the replay buffer")
    replacement_rate: float = Field(0.05, ge=0, le=1, description="probability that a drawn chain starts from noise")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="mu of the moving average of the parameters")
    noise_labels: Literal["frequency", "uniform"] = Field(
        "frequency", description="labels of the noise: frequency or uniform"
    )
    objective: Literal["maximum-likelihood", "summed"] = Field(
        "maximum-likelihood", description="Eq. 2 with sampled y (maximum-likelihood), or with y summed out (summed)"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of network evaluations; the state is float32"
    )
    checkpoint_every: int = Field(1000, ge=0, description="iterations between checkpoints; 0 writes none")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    log_every: int = Field(10, ge=1, description="iterations between lines of metrics.jsonl")

    @model_validator(mode="after")
    def _batch_fits_buffer(self) -> Self:
        if self.batch_size > self.buffer_size:
            raise ValueError(
                f"batch_size {self.batch_size} is more than buffer_size {self.buffer_size}, and every chain of a batch "
                "needs a slot of its own; set a larger buffer_size first, or a smaller batch_size"
            )
        return self


class Metrics(NamedTuple):
    """What one iteration did.

    Args:
        iteration: number of updates done.
        energy_gap: mean f of the data minus mean f of the chains, nats.
        f_positive: mean f of the data, nats.
        f_negative: mean f of the chains, nats.
        accept_rate: mean accept_prob of each kernel of the cycle, over steps and chains.
        grad_norm: Euclidean norm of the gradient of the parameters.
        chain_low: smallest continuous entry of the chains, position units.
        chain_high: largest continuous entry of the chains.
        learning_rate: used for this update.
        seconds: spent in iterations so far, over all sessions of the run.
    """

    iteration: int
    energy_gap: float
    f_positive: float
    f_negative: float
    accept_rate: tuple[float, ...]
    grad_norm: float
    chain_low: float
    chain_high: float
    learning_rate: float
    seconds: float


class Trainer:
    """Fits the parameters of a log-density to data by maximum likelihood with persistent chains.

    Each iteration: draw a batch of data and as many chains from the replay buffer; move the chains by the kernel; write
    both halves of each chain back; descend the gradient of Eq. 2; average the parameters. Nothing is clipped and nothing
    is skipped: a value that is not finite stops the run before the optimizer step.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        space: the blocks.
        batch: draws a training batch of so many rows, as a position.
        kernel: what moves the chains.
        config: how to train.
        seed: of all draws of training: data, noise, chains.

    References:
        Kelly & Grathwohl 2021, Sec. 4, App. B.

    Example:
        >>> from jointebm import Continuous, kernels
        >>> space = Space(x=Continuous())
        >>> class Gaussian(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mean = nn.Parameter(torch.tensor(0.0))
        ...     def forward(self, position):
        ...         return -0.5 * (position["x"] - self.mean).square()
        >>> config = TrainConfig(num_iterations=100, batch_size=200, num_steps=5, learning_rate=0.05, buffer_size=200,
        ...                      ema_decay=0.9)
        >>> trainer = Trainer(Gaussian(), space, lambda num, generator: {"x": 1 + torch.randn(num, generator=generator)},
        ...                   kernel=kernels.MALA(block="x", step_size=1.0), config=config, seed=0)
        >>> for metrics in trainer.run():
        ...     pass
        >>> bool(abs(trainer.average.mean - 1) < 0.2)
        True
    """

    def __init__(
        self,
        log_density: nn.Module,
        space: Space,
        batch: Callable[..., Position],
        *,
        kernel: Kernel,
        config: TrainConfig,
        seed: int,
    ) -> None:
        check_kernel(kernel, space)
        self.log_density, self.space, self.kernel, self.config = log_density, space, kernel, config
        self.generator = torch.Generator().manual_seed(seed)
        self._batch = batch
        self.noise = Noise.from_batch(space, self._draw_batch(), labels=config.noise_labels)
        self.buffer = ReplayBuffer(
            self.noise, size=config.buffer_size, replacement_rate=config.replacement_rate, generator=self.generator
        )
        self.optimizer = torch.optim.Adam(log_density.parameters(), lr=config.learning_rate)
        self.schedule = LambdaLR(self.optimizer, self._learning_rate_factor)
        self._averaged = AveragedModel(log_density, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self._averaged.update_parameters(log_density)  # theta_hat_0 = theta_0
        self.iteration, self.seconds = 0, 0.0
        self.metrics: Metrics | None = None  # of the last iteration
        self._free = {
            name: torch.ones(config.batch_size, *block.variable_shape, dtype=torch.bool)
            for name, block in space.items()
        }

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters, which is what one uses (App. B)."""
        return self._averaged.module

    def run(self) -> Iterator[Metrics]:
        """Trains to `config.num_iterations`, yielding the metrics of every iteration."""
        while self.iteration < self.config.num_iterations:
            yield self.step()

    def step(self) -> Metrics:
        """Does one iteration.

        Raises:
            FloatingPointError: a chain, f, the loss or a gradient is not finite; names the step, phase, block and row.
                The parameters are as they were before the step.
        """
        started = time.perf_counter()
        positive = self._draw_batch()
        drawn = self.buffer.draw(self.config.batch_size, generator=self.generator)
        self.optimizer.zero_grad()
        with self._precision():
            chain, accept_rate = self._move(drawn.position)
            phases = self._phases(positive, chain.position)
        self._check(positive, chain, phases, accept_rate)
        phases.loss.backward()
        grad_norm = self._grad_norm()

        self.buffer.write(drawn.slots, chain.position)
        learning_rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        self._averaged.update_parameters(self.log_density)
        self.iteration += 1
        self.seconds += time.perf_counter() - started

        low, high = self._range(chain.position)
        f_positive, f_negative = float(phases.positive.detach().mean()), float(chain.f.mean())
        self.metrics = Metrics(
            iteration=self.iteration,
            energy_gap=f_positive - f_negative,
            f_positive=f_positive,
            f_negative=f_negative,
            accept_rate=tuple(accept_rate.tolist()),
            grad_norm=grad_norm,
            chain_low=low,
            chain_high=high,
            learning_rate=learning_rate,
            seconds=self.seconds,
        )
        return self.metrics

    def state(self) -> Checkpoint:
        """Everything that decides what happens next: a trainer restored from it goes on bit for bit as this one would.

        That holds with the same versions, device type and number of threads. The data are not in it: `batch` must draw
        the same rows from the same generator.
        """
        adam = self.optimizer.state_dict()["state"]
        tensors = {
            **_prefixed("parameters", self.log_density.state_dict()),
            **_prefixed("average", self._averaged.state_dict()),
            **{f"adam.{index}.{name}": value for index, slots in adam.items() for name, value in slots.items()},
            **_prefixed("buffer", self.buffer.position),
            **_prefixed("noise", self.noise.parameters),
            "generator": self.generator.get_state(),
        }
        metrics = None if self.metrics is None else self.metrics._asdict()
        plain = {"schedule": self.schedule.state_dict(), "seconds": self.seconds, "metrics": metrics}
        return Checkpoint(self.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts back everything that `state` returned, into a trainer made with the same arguments.

        Raises:
            ValueError: the checkpoint is of another model, space, or buffer size.
        """
        expected = {name: tensor.shape for name, tensor in self.state().tensors.items() if not name.startswith("adam.")}
        found = {name: tensor.shape for name, tensor in checkpoint.tensors.items() if not name.startswith("adam.")}
        if expected != found:
            wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise ValueError(f"checkpoint: tensor {wrong!r} does not fit this run; resume it with its own recipe")
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self.log_density.load_state_dict(_without_prefix("parameters", tensors))
        self._averaged.load_state_dict(_without_prefix("average", tensors))
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _without_prefix("adam", tensors).items():
            index, _, slot = name.partition(".")
            adam.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({"state": adam, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.schedule.load_state_dict(checkpoint.plain["schedule"])
        for group, learning_rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = learning_rate
        self.noise = Noise(self.space, _without_prefix("noise", tensors))
        self.buffer.noise, self.buffer.position = self.noise, _without_prefix("buffer", tensors)
        self.generator.set_state(tensors["generator"])
        self.iteration, self.seconds = checkpoint.iteration, checkpoint.plain["seconds"]
        metrics = checkpoint.plain["metrics"]
        self.metrics = metrics and Metrics(**{**metrics, "accept_rate": tuple(metrics["accept_rate"])})

    def _draw_batch(self) -> Position:
        batch = self._batch(self.config.batch_size, generator=self.generator)
        self.space.require(batch)
        for name in self.space:
            if name not in batch:
                raise ValueError(f"batch: lacks block {name!r}; it holds {', '.join(map(repr, batch)) or 'none'}")
        return batch

    def _move(self, position: Position) -> tuple[Chain, Tensor]:
        """Runs the kernel from the buffer's chains; returns where they went and the acceptance rate of each kernel."""
        chain = evaluate(self.log_density, position, with_score=self.kernel.uses_score)
        accept_probs = []
        steps = run_chain(self.log_density, self.kernel, chain, free=self._free, generator=self.generator)
        for chain, infos in itertools.islice(steps, self.config.num_steps):
            accept_probs.append(torch.stack([info.accept_prob.mean() for info in infos]))
        return chain, torch.stack(accept_probs).mean(dim=0)

    def _phases(self, positive: Position, negative: Position) -> Phases:
        if self.config.objective == "summed":
            return summed_maximum_likelihood(self.log_density, self.space, positive, negative)
        return maximum_likelihood(self.log_density, positive, negative)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.config.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(next(self.log_density.parameters()).device.type, torch.bfloat16)

    def _check(self, positive: Position, chain: Chain, phases: Phases, accept_rate: Tensor) -> None:
        """Raises before anything is learned from numbers that are not finite."""
        where = f"iteration {self.iteration + 1}"
        check_finite(Chain(positive, phases.positive.detach(), None), self.space, f"in the positive phase of {where}")
        check_finite(chain, self.space, f"in the negative phase of {where}")
        if not bool(accept_rate.isfinite().all()):
            raise FloatingPointError(
                f"log-density: not a number at a proposal in the negative phase of {where}. Try a smaller step size or "
                "learning rate"
            )
        check_finite(chain._replace(f=phases.negative.detach()), self.space, f"in the negative phase of {where}")
        if not bool(phases.loss.isfinite()):
            raise FloatingPointError(f"loss: {float(phases.loss.detach())} in {where}. Try a smaller learning rate")

    def _grad_norm(self) -> float:
        gradients = {n: p.grad for n, p in self.log_density.named_parameters() if p.grad is not None}
        norms = torch.stack([gradient.norm() for gradient in gradients.values()])
        if not bool(norms.isfinite().all()):
            name = list(gradients)[int((~norms.isfinite()).nonzero()[0])]
            raise FloatingPointError(
                f"gradient: not finite in parameter {name!r} in iteration {self.iteration + 1}. Try a smaller learning rate"
            )
        return float(norms.norm())

    def _range(self, position: Position) -> tuple[float, float]:
        if not self.space.continuous:
            return 0.0, 0.0
        entries = [position[name] for name in self.space.continuous]
        return min(float(entry.min()) for entry in entries), max(float(entry.max()) for entry in entries)

    def _learning_rate_factor(self, iteration: int) -> float:
        warm = min(1.0, (iteration + 1) / self.config.warmup) if self.config.warmup else 1.0
        if self.config.decay == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * iteration / self.config.num_iterations))


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
