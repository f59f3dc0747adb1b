"""Training by persistent contrastive divergence (App. B): Adam, linear warm-up, exponential moving average.

Legend: N rows of a batch and as many chains.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jointebm.buffer import ReplayBuffer
from jointebm.checkpoint import Checkpoint
from jointebm.divergence import Diverged, Intervention, Moved, Watch
from jointebm.kernels import Chain, Kernel, evaluate
from jointebm.learner import Learner, prefixed, without_prefix
from jointebm.noise import Noise
from jointebm.objectives import Phases, conditional_likelihood, maximum_likelihood, summed_maximum_likelihood
from jointebm.recovery import Recovery
from jointebm.sampling import check_kernel, run_chain
from jointebm.spaces import Position, Space
from jointebm.train_config import TrainConfig

__all__ = ["Metrics", "TrainConfig", "Trainer"]


class Metrics(NamedTuple):
    """What one iteration did.

    Args:
        iteration: number of updates done.
        energy_gap: mean f of the data minus mean f of the chains, nats.
        f_positive: mean f of the data, nats.
        f_negative: mean f of the chains, nats.
        accept_rate: mean accept_prob of each kernel of the cycle, over steps and chains; chains that rest (see
            `kernels.Lazy`) count as 0.
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
        self.log_density, self.space, self.kernel, self.config = log_density, space, kernel, config
        self.generator = torch.Generator().manual_seed(seed)
        self._batch = batch
        self.noise = Noise.from_batch(space, self._draw_batch(), labels=config.noise_labels)
        self.buffer = ReplayBuffer(
            self.noise, size=config.buffer_size, replacement_rate=config.replacement_rate, generator=self.generator
        )
        self._watch = Watch(space, kernel)
        self._learner = Learner(log_density, self.buffer, self._watch, config)
        self._recovery = Recovery(self._learner)
        self.seconds = 0.0
        self.metrics: Metrics | None = None  # of the last iteration
        self._free = {
            name: torch.ones(config.batch_size, *block.variable_shape, dtype=torch.bool)
            for name, block in space.items()
        }

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters, which is what one uses (App. B)."""
        return self._learner.average

    @property
    def iteration(self) -> int:
        """Number of updates done."""
        return self._learner.iteration

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return self._learner.optimizer

    @property
    def interventions(self) -> list[Intervention]:
        """What was done about divergence so far."""
        return self._recovery.interventions

    @property
    def learning_rate_factor(self) -> float:
        """What the schedule's learning rate is multiplied by; halved by each rollback."""
        return self._recovery.learning_rate_factor

    @property
    def on_intervention(self) -> Callable[[Intervention], object] | None:
        """Is told of each intervention as it happens."""
        return self._recovery.on_intervention

    @on_intervention.setter
    def on_intervention(self, told: Callable[[Intervention], object] | None) -> None:
        self._recovery.on_intervention = told

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
            batch = self._draw_batch()
            drawn = self.buffer.draw(self.config.batch_size, generator=self.generator)
            usual = self._watch.state()
            try:
                attempt = self._attempt(batch, drawn.position)
                break
            except Diverged as trouble:
                self._watch.restore(usual)  # what is usual is that of healthy iterations
                self._recovery.intervene(
                    trouble, drawn, max_rollbacks=self.config.max_rollbacks, generator=self.generator
                )
        self.buffer.write(drawn.slots, attempt.chain.position)
        learning_rate = self._learner.update(self.learning_rate_factor)
        if self.iteration % self.config.snapshot_every == 0:
            self._recovery.keep()
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
        learned, kept = self._learner.state(), self._recovery.state()
        tensors = {
            **learned.tensors,
            **prefixed("noise", self.noise.parameters),
            "generator": self.generator.get_state(),
            **kept.tensors,
        }
        plain = {
            **learned.plain,
            "seconds": self.seconds,
            "metrics": None if self.metrics is None else self.metrics._asdict(),
            **kept.plain,
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
        noise = {name: tensor.clone() for name, tensor in without_prefix("noise", checkpoint.tensors).items()}
        self.noise = self.buffer.noise = Noise(self.space, noise)
        self.generator.set_state(checkpoint.tensors["generator"].clone())
        self._learner.restore(checkpoint)
        self._recovery.restore(checkpoint)
        self.seconds, metrics = checkpoint.plain["seconds"], checkpoint.plain["metrics"]
        self.metrics = metrics and Metrics(**{**metrics, "accept_rate": tuple(metrics["accept_rate"])})

    def _draw_batch(self) -> Position:
        batch = self._batch(self.config.batch_size, generator=self.generator)
        self.space.require(batch)
        for name in self.space:
            if name not in batch:
                raise ValueError(f"batch: lacks block {name!r}; it holds {', '.join(map(repr, batch)) or 'none'}")
        return batch

    def _attempt(self, batch: Position, start: Position) -> "_Attempt":
        """Runs both phases and computes the gradient; raises `Diverged` if anything is wrong with one of them."""
        where = f"iteration {self.iteration + 1}"
        self._learner.optimizer.zero_grad()
        with self._precision():
            positive = self._positive_phase(batch, where)
            moved = self._negative_phase(start, positive, where)
            chain = moved.chain
            phases = self._phases(positive, chain.position)
        f_positive, f_negative = float(phases.positive.detach().mean()), float(chain.f.mean())
        self._watch.check_phases(positive, phases, f_positive - f_negative, where)
        phases.loss.backward()
        gradients = {n: p.grad.norm() for n, p in self.log_density.named_parameters() if p.grad is not None}
        grad_norm = self._watch.check_gradient(gradients, where)
        return _Attempt(chain, tuple(moved.accept_probs.mean(dim=1).tolist()), f_positive, f_negative, grad_norm)

    def _positive_phase(self, batch: Position, where: str) -> Position:
        """Where f rises: rows of data without a gap."""
        self._watch.check_data(batch, where)
        return batch

    def _negative_phase(self, start: Position, positive: Position, where: str) -> Moved:
        """Where f falls: the buffer's chains, moved by the kernel with everything free."""
        chain = evaluate(self.log_density, start, with_score=self.kernel.uses_score)
        accept_probs, finite = [], [chain.f.isfinite()]
        steps = run_chain(self.log_density, self.kernel, chain, free=self._free, generator=self.generator)
        for chain, infos in itertools.islice(steps, self.config.num_steps):
            accept_probs.append(torch.stack([info.accept_prob for info in infos]))
            finite.append(chain.f.isfinite())
        if chain.score is not None:
            finite += [score.reshape(len(chain.f), -1).isfinite().all(dim=1) for score in chain.score.known().values()]
        moved = Moved(chain, torch.stack(accept_probs).mean(dim=0), torch.stack(finite).all(dim=0))
        self._watch.check_chains(moved, positive, where)
        return moved

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
