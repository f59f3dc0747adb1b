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

from jointebm.buffer import Drawn, ReplayBuffer
from jointebm.checkpoint import Checkpoint
from jointebm.config import Config
from jointebm.divergence import Diverged, Intervention, Moved, Watch
from jointebm.kernels import Chain, Cycle, Gibbs, GibbsWithGradients, Kernel, Lazy, evaluate
from jointebm.noise import Noise
from jointebm.objectives import Phases, conditional_likelihood, maximum_likelihood, summed_maximum_likelihood
from jointebm.sampling import check_kernel, run_chain
from jointebm.spaces import Position, Space

__all__ = ["Metrics", "TrainConfig", "Trainer"]

MAX_RESTARTS = 3  # of chains between two snapshots; more is a case for a rollback


class TrainConfig(Config):
    """How to train: the numbers of Tables 1-3, and what we add to them.

    Example:
        >>> TrainConfig(num_iterations=5500, batch_size=1000, num_steps=20, learning_rate=1e-4, warmup=1000).buffer_size
        10000
    """

    num_iterations: int = Field(ge=1, description="parameter updates")
    batch_size: int = Field(ge=1, description="data rows per iteration, and as many chains")
    num_steps: int = Field(ge=1, description="kernel steps per iteration")
    discrete_rate: float = Field(
        1.0, gt=0, le=1, description="probability that a chain's y moves in a kernel step, in training only"
    )
    learning_rate: float = Field(gt=0, description="of Adam, after the warm-up")
    warmup: int = Field(0, ge=0, description="iterations over which the learning rate rises linearly from 0")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate after the warm-up: constant or cosine to 0"
    )
    beta_1: float = Field(0.9, ge=0, lt=1, description="of Adam: how much of the last gradients it keeps")
    buffer_size: int = Field(10_000, ge=1, description="slots of the replay buffer")
    replacement_rate: float = Field(0.05, ge=0, le=1, description="probability that a drawn chain starts from noise")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="mu of the moving average of the parameters")
    noise_labels: Literal["frequency", "uniform"] = Field(
        "frequency", description="labels of the noise: frequency or uniform"
    )
    objective: Literal["maximum-likelihood", "summed"] = Field(
        "maximum-likelihood", description="Eq. 2 with sampled y (maximum-likelihood), or with y summed out (summed)"
    )
    conditional_weight: float = Field(
        0.0, ge=0, description="weight of an added mean -log p(y | x), by enumeration of y; 0 leaves it out"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of network evaluations; the state is float32"
    )
    checkpoint_every: int = Field(1000, ge=0, description="iterations between checkpoints; 0 writes none")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    max_rollbacks: int = Field(
        5, ge=0, description="returns to an earlier state at half the learning rate; 0 stops at the first trouble"
    )
    snapshot_every: int = Field(100, ge=1, description="iterations between the states that a rollback returns to")
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
        accept_rate: mean accept_prob of each kernel of the cycle, over steps and chains; chains that rest (see
            `discrete_rate`) count as 0.
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
    both halves of each chain back; descend the gradient of Eq. 2; average the parameters. Nothing is clipped.

    Before the optimizer step all numbers are looked at (see `Watch`). If they show a sign of divergence, nothing is
    learned from them: single offending chains start afresh from noise, and the iteration is done again; if that is of no
    use, training goes back to a good state, `snapshot_every` iterations ago or more (or to the start, or to where it last
    went back to), and on with half the learning rate.
    Each intervention is recorded in `interventions`.

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
        kernel = _with_rate(kernel, config.discrete_rate)
        self.log_density, self.space, self.kernel, self.config = log_density, space, kernel, config
        self.generator = torch.Generator().manual_seed(seed)
        self._batch = batch
        self.noise = Noise.from_batch(space, self._draw_batch(), labels=config.noise_labels)
        self.buffer = ReplayBuffer(
            self.noise, size=config.buffer_size, replacement_rate=config.replacement_rate, generator=self.generator
        )
        self.optimizer = torch.optim.Adam(
            log_density.parameters(), lr=config.learning_rate, betas=(config.beta_1, 0.999)
        )
        self.schedule = LambdaLR(self.optimizer, self._learning_rate_factor)
        self._averaged = AveragedModel(log_density, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self._averaged.update_parameters(log_density)  # theta_hat_0 = theta_0
        self.iteration, self.seconds = 0, 0.0
        self.metrics: Metrics | None = None  # of the last iteration
        self.interventions: list[Intervention] = []
        self.on_intervention: Callable[[Intervention], object] | None = None  # is told of each as it happens
        self.learning_rate_factor = 1.0  # halved by each rollback
        self._num_restarts = 0  # of chains, since the newest snapshot
        self._watch = Watch(space, kernel)
        self._free = {
            name: torch.ones(config.batch_size, *block.variable_shape, dtype=torch.bool)
            for name, block in space.items()
        }
        self._snapshots = [self._snapshot()]  # the newest two, the older one first

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters, which is what one uses (App. B)."""
        return self._averaged.module

    def run(self) -> Iterator[Metrics]:
        """Trains to `config.num_iterations`, yielding the metrics of every iteration."""
        while self.iteration < self.config.num_iterations:
            yield self.step()

    def step(self) -> Metrics:
        """Does one iteration, after as many interventions as it takes.

        Raises:
            Diverged: a row of data is not finite, or trouble came again after `max_rollbacks` rollbacks; names the step,
                phase, block and row, the likely cause, and what to change. Nothing was learned from the numbers it names.
        """
        started = time.perf_counter()
        while True:
            positive = self._draw_batch()
            drawn = self.buffer.draw(self.config.batch_size, generator=self.generator)
            usual = self._watch.state()
            try:
                attempt = self._attempt(positive, drawn.position)
                break
            except Diverged as trouble:
                self._watch.restore(usual)  # what is usual is that of healthy iterations
                self._intervene(trouble, drawn)
        self.buffer.write(drawn.slots, attempt.chain.position)
        learning_rate = self.learning_rate_factor * float(self.schedule.get_last_lr()[0])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.schedule.step()
        self._averaged.update_parameters(self.log_density)
        self.iteration += 1
        if self.iteration % self.config.snapshot_every == 0:
            self._snapshots, self._num_restarts = [self._snapshots[-1], self._snapshot()], 0
        self.seconds += time.perf_counter() - started

        low, high = self._range(attempt.chain.position)
        self.metrics = Metrics(
            iteration=self.iteration,
            energy_gap=attempt.f_positive - attempt.f_negative,
            f_positive=attempt.f_positive,
            f_negative=attempt.f_negative,
            accept_rate=attempt.accept_rate,
            grad_norm=attempt.grad_norm,
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
        now = self._learned()
        tensors = {
            **now.tensors,
            **_prefixed("noise", self.noise.parameters),
            "generator": self.generator.get_state(),
        }
        for index, snapshot in enumerate(self._snapshots):
            tensors |= _prefixed(f"snapshot-{index}", snapshot.tensors)
        plain = {
            **now.plain,
            "seconds": self.seconds,
            "metrics": None if self.metrics is None else self.metrics._asdict(),
            "interventions": [intervention._asdict() for intervention in self.interventions],
            "learning_rate_factor": self.learning_rate_factor,
            "num_restarts": self._num_restarts,
            "snapshots": [{"iteration": snapshot.iteration, **snapshot.plain} for snapshot in self._snapshots],
        }
        return Checkpoint(self.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts back everything that `state` returned, into a trainer made with the same arguments.

        Raises:
            ValueError: the checkpoint is of another model, space, or buffer size.
        """
        expected, found = _shapes(self.state().tensors), _shapes(checkpoint.tensors)
        if expected != found:
            wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise ValueError(f"checkpoint: tensor {wrong!r} does not fit this run; resume it with its own recipe")
        tensors, plain = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}, checkpoint.plain
        self.noise = Noise(self.space, _without_prefix("noise", tensors))
        self.buffer.noise = self.noise
        self.generator.set_state(tensors["generator"])
        self._learn(checkpoint)
        self._snapshots = [
            Checkpoint(snapshot["iteration"], _without_prefix(f"snapshot-{index}", tensors), snapshot)
            for index, snapshot in enumerate(plain["snapshots"])
        ]
        self.seconds, metrics = plain["seconds"], plain["metrics"]
        self.metrics = metrics and Metrics(**{**metrics, "accept_rate": tuple(metrics["accept_rate"])})
        self.interventions = [Intervention(**intervention) for intervention in plain["interventions"]]
        self.learning_rate_factor, self._num_restarts = plain["learning_rate_factor"], plain["num_restarts"]

    def _learned(self) -> Checkpoint:
        """What a rollback takes back: parameters, averages, optimizer, chains and running scales; not the generator."""
        adam = self.optimizer.state_dict()["state"]
        tensors = {
            **_prefixed("parameters", self.log_density.state_dict()),
            **_prefixed("average", self._averaged.state_dict()),
            **{f"adam.{index}.{name}": value for index, slots in adam.items() for name, value in slots.items()},
            **_prefixed("buffer", self.buffer.position),
        }
        return Checkpoint(
            self.iteration, tensors, {"schedule": self.schedule.state_dict(), "watch": self._watch.state()}
        )

    def _learn(self, checkpoint: Checkpoint) -> None:
        """Puts back what `_learned` returned."""
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self.log_density.load_state_dict(_without_prefix("parameters", tensors))
        self._averaged.load_state_dict(_without_prefix("average", tensors))
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _without_prefix("adam", tensors).items():
            index, _, slot = name.partition(".")
            adam.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict({"state": adam, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.schedule.load_state_dict(checkpoint.plain["schedule"])
        self.buffer.position = _without_prefix("buffer", tensors)
        self._watch.restore(checkpoint.plain["watch"])
        self.iteration = checkpoint.iteration

    def _snapshot(self) -> Checkpoint:
        """A copy of what is learned so far."""
        now = self._learned()
        return now._replace(tensors={name: tensor.detach().clone() for name, tensor in now.tensors.items()})

    def _draw_batch(self) -> Position:
        batch = self._batch(self.config.batch_size, generator=self.generator)
        self.space.require(batch)
        for name in self.space:
            if name not in batch:
                raise ValueError(f"batch: lacks block {name!r}; it holds {', '.join(map(repr, batch)) or 'none'}")
        return batch

    def _attempt(self, positive: Position, negative: Position) -> "_Attempt":
        """Moves the chains and computes the gradient; raises `Diverged` if anything is wrong with either."""
        where = f"iteration {self.iteration + 1}"
        self._watch.check_data(positive, where)
        self.optimizer.zero_grad()
        with self._precision():
            moved = self._move(negative)
            self._watch.check_chains(moved, positive, where)
            chain = moved.chain
            phases = self._phases(positive, chain.position)
        f_positive, f_negative = float(phases.positive.detach().mean()), float(chain.f.mean())
        self._watch.check_phases(positive, phases, f_positive - f_negative, where)
        phases.loss.backward()
        gradients = {n: p.grad.norm() for n, p in self.log_density.named_parameters() if p.grad is not None}
        grad_norm = self._watch.check_gradient(gradients, where)
        return _Attempt(chain, tuple(moved.accept_probs.mean(dim=1).tolist()), f_positive, f_negative, grad_norm)

    def _intervene(self, trouble: Diverged, drawn: Drawn) -> None:
        """Restarts the offending chains, or rolls back, or gives up by raising."""
        if self.config.max_rollbacks == 0 or trouble.kind == "data":
            raise trouble
        if trouble.kind in ("chain", "proposal") and self._num_restarts < MAX_RESTARTS:
            assert trouble.chains is not None
            self._num_restarts += 1
            num_chains = int(trouble.chains.sum())
            self.buffer.write(drawn.slots[trouble.chains], self.noise.draw(num_chains, generator=self.generator))
            self._record(trouble, "restarted chains", num_chains, self.iteration)
            return
        num_rollbacks = sum(intervention.action == "rolled back" for intervention in self.interventions)
        if num_rollbacks == self.config.max_rollbacks:
            raise Diverged(
                trouble.kind,
                f"{trouble.finding}; {num_rollbacks} rollbacks, down to {self.learning_rate_factor:g} of the learning rate, "
                "did not help",
                trouble.chains,
            ) from trouble
        seen_at = self.iteration
        self._snapshots = self._snapshots[:1]
        self._learn(self._snapshots[0])
        self._num_restarts = 0
        self.learning_rate_factor /= 2
        self._record(trouble, "rolled back", 0, seen_at)

    def _record(
        self, trouble: Diverged, action: Literal["restarted chains", "rolled back"], num_chains: int, seen_at: int
    ) -> None:
        intervention = Intervention(
            seen_at, trouble.kind, action, num_chains, self.iteration, self.learning_rate_factor, trouble.finding
        )
        self.interventions.append(intervention)
        if self.on_intervention is not None:
            self.on_intervention(intervention)

    def _move(self, position: Position) -> Moved:
        """Runs the kernel from the buffer's chains."""
        chain = evaluate(self.log_density, position, with_score=self.kernel.uses_score)
        accept_probs, finite = [], [chain.f.isfinite()]
        steps = run_chain(self.log_density, self.kernel, chain, free=self._free, generator=self.generator)
        for chain, infos in itertools.islice(steps, self.config.num_steps):
            accept_probs.append(torch.stack([info.accept_prob for info in infos]))
            finite.append(chain.f.isfinite())
        if chain.score is not None:
            finite += [score.reshape(len(chain.f), -1).isfinite().all(dim=1) for score in chain.score.known().values()]
        return Moved(chain, torch.stack(accept_probs).mean(dim=0), torch.stack(finite).all(dim=0))

    def _phases(self, positive: Position, negative: Position) -> Phases:
        if self.config.objective == "summed":
            phases = summed_maximum_likelihood(self.log_density, self.space, positive, negative)
        else:
            phases = maximum_likelihood(self.log_density, positive, negative)
        if not self.config.conditional_weight:
            return phases
        conditional = conditional_likelihood(self.log_density, self.space, positive)
        return phases._replace(loss=phases.loss + self.config.conditional_weight * conditional)

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self.config.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(next(self.log_density.parameters()).device.type, torch.bfloat16)

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


def _with_rate(kernel: Kernel, rate: float) -> Kernel:
    """The kernel with its moves of y made lazy."""
    if rate == 1:
        return kernel
    if isinstance(kernel, Cycle):
        return Cycle(tuple(_with_rate(part, rate) for part in kernel.kernels))
    return Lazy(kernel, rate) if isinstance(kernel, Gibbs | GibbsWithGradients) else kernel


class _Attempt(NamedTuple):
    """An iteration up to the gradient: where the chains went, and what is told of it in `Metrics`."""

    chain: Chain
    accept_rate: tuple[float, ...]
    f_positive: float
    f_negative: float
    grad_norm: float


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes of all tensors that a run has at any time; Adam has none before its first step, and snapshots vary."""
    return {name: tensor.shape for name, tensor in tensors.items() if not name.startswith(("adam.", "snapshot-"))}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
