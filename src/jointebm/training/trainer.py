"""Training by persistent contrastive divergence (App. B): Adam, linear warm-up, exponential moving average.

Legend: N rows of a batch and as many chains.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jointebm.data.datasets import Batch
from jointebm.kernels import Chain, Kernel
from jointebm.sampling.checks import check_kernel
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.config import TrainConfig
from jointebm.training.divergence import Diverged, Intervention, Moved, Watch
from jointebm.training.learner import Learner, prefixed, without_prefix
from jointebm.training.metrics import Metrics
from jointebm.training.phases import Positive, both_phases, complete, move, without_nan
from jointebm.training.recovery import Recovery
from jointebm.training.replay_buffer import Drawn, ReplayBuffer
from jointebm.training.row_completions import Completions, noise_of

__all__ = ["Metrics", "TrainConfig", "Trainer"]


class Trainer:
    """Fits the parameters of a log-density to data by maximum likelihood with persistent chains.

    Each iteration: draw a batch of data and as many chains from the replay buffer; move the chains by the kernel; write
    both halves of each chain back; descend the gradient of Eq. 2; average the parameters. Nothing is clipped.

    Rows may have missing entries, any of them, if they come with their numbers: a `Batch` with NaN in its position. The
    likelihood is then that of what is observed (Eq. 8): the kernel completes each row with what is observed clamped, and
    `completions` keeps each row's completion until its next visit.

    With the objective "conditional" it is log p(y | x) that is maximised: the buffer has a slot per row, whose chain of y is
    moved with the x of the row clamped whenever the row is visited. Then p(x) is not learned. It is for y with too many
    configurations to enumerate, where x is large and always given.

    Before the optimizer step all numbers are looked at (see `Watch`). If they show a sign of divergence, nothing is
    learned from them: single offending chains start afresh from noise, and the iteration is done again; if that is of no
    use, training goes back to a good state, `snapshot_every` iterations ago or more (or to the start, or to where it last
    went back to), and on with half the learning rate.
    Each intervention is recorded in `interventions`.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        space: the blocks.
        batch: draws a training batch of so many rows, as a position, or as a `Batch` with the numbers of the rows.
        kernel: what moves the chains.
        config: how to train.
        seed: of all draws of training: data, noise, chains.
        labelled: draws rows for the conditional likelihood in the same form, if `config.labelled_batch_size` asks for them;
            any of their labels may be missing.

    References:
        Kelly & Grathwohl 2021, Eq. 8, Sec. 4, App. B.

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
        batch: Callable[..., Position | Batch],
        *,
        kernel: Kernel,
        config: TrainConfig,
        seed: int,
        labelled: Callable[..., Position | Batch] | None = None,
    ) -> None:
        check_kernel(kernel, space)
        if config.labelled_batch_size and labelled is None:
            raise ValueError(
                f"Trainer: labelled_batch_size is {config.labelled_batch_size}, but nothing draws such rows; pass labelled"
            )
        self.log_density, self.space, self.kernel, self.config = log_density, space, kernel, config
        self.generator = torch.Generator().manual_seed(seed)
        self._batch, self._labelled = batch, labelled
        first = self._draw(batch, config.batch_size)
        if config.objective == "conditional":
            self._require_rows(first)
        fit_noise = Noise.from_batch if first.numbers is None else noise_of
        self.noise = fit_noise(space, first.position, labels=config.noise_labels, reals=config.noise_reals)
        self.buffer = ReplayBuffer(
            self.noise, size=config.buffer_size, replacement_rate=config.replacement_rate, generator=self.generator
        )
        self._watch = Watch(space, kernel)
        self._learner = Learner(log_density, self.buffer, self._watch, config)
        self._recovery = Recovery(self._learner)
        self.seconds = 0.0
        self.metrics: Metrics | None = None  # of the last iteration
        self._free = {
            name: torch.ones(config.batch_size, *space[name].variable_shape, dtype=torch.bool)
            for name in (space.discrete if config.objective == "conditional" else space)
        }

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters, which is what one uses (App. B)."""
        return self._learner.average

    @property
    def completions(self) -> Completions:
        """What rows with missing entries were completed with at their last visit."""
        return self._learner.completions

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
            batch = self._draw(self._batch, self.config.batch_size)
            drawn = self._chains(batch)
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
        attempt.positive.keep(self.completions)
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

    def _draw(self, source: Callable[..., Position | Batch], num: int) -> Batch:
        drawn = source(num, generator=self.generator)
        batch = drawn if isinstance(drawn, Batch) else Batch(drawn)
        self.space.require(batch.position)
        for name in self.space:
            if name not in batch.position:
                held = ", ".join(map(repr, batch.position)) or "none"
                raise ValueError(f"batch: lacks block {name!r}; it holds {held}")
        return batch

    def _chains(self, batch: Batch) -> Drawn:
        """What the negative phase goes on from: any chains of the buffer, or those of the rows, with the x of the rows."""
        if self.config.objective != "conditional":
            return self.buffer.draw(self.config.batch_size, generator=self.generator)
        self._require_rows(batch)
        assert batch.numbers is not None
        drawn = self.buffer.at(batch.numbers, generator=self.generator)
        return drawn._replace(position=drawn.position | {name: batch.position[name] for name in self.space.continuous})

    def _require_rows(self, batch: Batch) -> None:
        """Raises unless each row has a slot of its own and its x, as the objective "conditional" needs it."""
        if any(bool(batch.position[name].isnan().any()) for name in self.space.continuous):
            raise ValueError(
                'batch: objective "conditional" needs every real, but some are missing; set another objective'
            )
        if batch.numbers is None or int(batch.numbers.max()) >= self.config.buffer_size:
            found = "rows have no numbers" if batch.numbers is None else f"there is a row {int(batch.numbers.max())}"
            raise ValueError(
                f'batch: objective "conditional" keeps a chain for each row in the {self.config.buffer_size} slots of the '
                f"buffer, but {found}; draw a Batch with the numbers of its rows, and set buffer_size to how many there are"
            )

    def _attempt(self, batch: Batch, start: Position) -> "_Attempt":
        """Runs both phases and computes the gradient; raises `Diverged` if anything is wrong with one of them."""
        where = f"iteration {self.iteration + 1}"
        self._learner.optimizer.zero_grad()
        with self._precision():
            positive = self._positive_phase(batch, where)
            moved = self._negative_phase(start, positive.position, where)
            labelled = self._labelled_rows(where)
            phases = both_phases(
                self.log_density,
                self.space,
                self.config,
                positive,
                moved.chain.position,
                labelled,
                generator=self.generator,
            )
        f_positive, f_negative = float(phases.positive.detach().mean()), float(moved.chain.f.mean())
        self._watch.check_phases(positive.position, phases, f_positive - f_negative, where)
        phases.loss.backward()
        gradients = {n: p.grad.norm() for n, p in self.log_density.named_parameters() if p.grad is not None}
        grad_norm = self._watch.check_gradient(gradients, where)
        accept_rate = tuple(moved.accept_probs.mean(dim=1).tolist())
        return _Attempt(positive, moved.chain, accept_rate, f_positive, f_negative, grad_norm)

    def _positive_phase(self, batch: Batch, where: str) -> Positive:
        """Where f rises: rows of data, completed."""
        return complete(
            batch,
            self.completions,
            log_density=self.log_density,
            space=self.space,
            kernel=self.kernel,
            config=self.config,
            noise=self.noise,
            watch=self._watch,
            generator=self.generator,
            where=where,
        )

    def _negative_phase(self, start: Position, positive: Position, where: str) -> Moved:
        """Where f falls: chains, moved by the kernel with everything free, or with y alone (objective "conditional")."""
        moved = move(
            self.log_density,
            self.kernel,
            start,
            free=self._free,
            num_steps=self.config.num_steps,
            generator=self.generator,
        )
        self._watch.check_chains(moved, positive, where)
        return moved

    def _labelled_rows(self, where: str) -> Position | None:
        """The rows of the conditional likelihood; None if they are those of the batch."""
        if not self.config.labelled_batch_size:
            return None
        assert self._labelled is not None
        rows = self._draw(self._labelled, self.config.labelled_batch_size).position
        self._watch.check_data({name: without_nan(value) for name, value in rows.items()}, where)
        return rows

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
    """An iteration up to the gradient: where data and chains went, and what is told of it in `Metrics`."""

    positive: Positive
    chain: Chain
    accept_rate: tuple[float, ...]
    f_positive: float
    f_negative: float
    grad_norm: float


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes of all tensors that a run has at any time.

    Adam has none before its first step, snapshots vary, and completions come with the first visit of their row.
    """
    varying = ("adam.", "snapshot-", "completions.")
    return {name: tensor.shape for name, tensor in tensors.items() if not name.startswith(varying)}
