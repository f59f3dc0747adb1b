"""The trainer: one loop for blocks and tables.

`loop.Loop` knows nothing of what it trains: it attempts, checks, recovers, updates, averages and takes snapshots. A problem
(`block_problem.BlockProblem` here, `TableProblem` of a table) draws data and chains, moves them, and evaluates the loss of
an objective, which is an object (`objectives`) with flags that say what it needs. Optimizer, schedule and moving average are
torch's.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from jointebm.kernels import Kernel, parts_of
from jointebm.randomness.devices import Device, place_of, resume_generator, seed_of_rank
from jointebm.references.reference import Reference
from jointebm.sampling.checks import check_kernel, check_layers
from jointebm.sampling.diagnostics import warn_caller
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Space
from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.block_problem import BatchSource, BlockAttempt, BlockProblem, BlockRows
from jointebm.training.dealing import dealt
from jointebm.training.divergence import Intervention
from jointebm.training.loop import Loop, Update
from jointebm.training.metrics import Metrics
from jointebm.training.negative_phase import with_jumps
from jointebm.training.replay_buffer import ReplayBuffer
from jointebm.training.row_completions import Completions
from jointebm.training.train_config import TrainConfig
from jointebm.training.training_state import Descent, cosine_decay, no_decay, prefixed, require_shapes, without_prefix
from jointebm.training.world import ALONE, Parcel, World

__all__ = ["Metrics", "TrainConfig", "Trainer"]

DECAYS = {"constant": no_decay, "cosine": cosine_decay}


class Trainer:
    """Fits the parameters of a log-density to data by persistent chains (App. B).

    Each iteration draws a batch of data and as many chains of the replay buffer, moves the chains by the kernel, descends
    the gradient of the objective (Eq. 2), and averages the parameters. Nothing is clipped.

    Any entries of rows may be missing if the rows come with their numbers: a `Batch` with NaN in its position. The
    likelihood is then that of the observed entries (Eq. 8): the kernel completes each row with its observed entries clamped,
    and `completions` keeps each completion until the next visit of its row.

    All numbers are checked before the optimizer step (see `Watch`). Nothing is learned from numbers that show a sign of
    divergence. Single offending chains restart from noise, and the iteration is tried again; if that does not help, training
    rolls back to a state of `snapshot_every` iterations ago or more, and continues with half the learning rate. Each
    intervention is recorded in `interventions`.

    With `config.compile` the steps of the chains are compiled when they first move, which takes tens of seconds or more and
    needs a C++ compiler. They read the parameters of the moment and make the same draws; states agree up to rounding (see
    `sampling.fused.fuse_steps`). Completions of rows, whose number changes, and the loss are not compiled. Where steps
    cannot be compiled, one line is logged and training continues with eager steps.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        space: the blocks.
        batch: function (num, *, generator) that draws `num` rows, as a position or as a `Batch` with their numbers.
        kernel: what moves the chains.
        config: how to train.
        seed: of all draws of training: data, noise, chains.
        labelled: draws rows for terms with a `labelled_batch_size`, in the same form; any of their labels may be missing.
        reference: q; fresh chains are draws of it, every chain carries a weight, the kernel gets a `kernels.Jump` from it,
            and metrics report ess and log Z. The gradient is then right between modes too. None takes that of a
            `Referenced` energy, unless the objective is `Conditional`. With `config.weighted` False fresh chains are draws
            of it, but carry no weights, and the kernel stays as it is.
        device: where to train, as in `TrainConfig`; None is that of the configuration. The module and the reference move
            there; data are drawn on the CPU, and batches follow.
        world: the processes that train together (see `processes`), each with a `Trainer` of the same arguments. Parameters
            are those of the first; each has its share of the rows, chains and slots of the buffer, and its own draws. Rows
            with numbers are those of the process: it must own them (see `Dataset.part`).

    Raises:
        TypeError: `batch` is not a function, or `kernel` not a kernel.
        ValueError: the kernel or a batch does not fit the space, this machine has no such device, or a layer of the module
            normalises over the batch or drops units out (`sampling.checks.check_layers`); or with a reference, the kernel
            is not adjusted or the objective keeps a chain for each row.

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
        batch: BatchSource,
        *,
        kernel: Kernel,
        config: TrainConfig,
        seed: int,
        labelled: BatchSource | None = None,
        reference: Reference | None = None,
        device: Device | None = None,
        world: World = ALONE,
    ) -> None:
        check_kernel(kernel, space)
        check_layers(log_density)
        if reference is None and not config.objective.keeps_row_chains:
            reference = getattr(log_density, "reference", None)
        if reference is not None and config.weighted:
            kernel = _weighted_kernel(kernel, reference, config)
        if not callable(batch):
            raise TypeError(
                f"batch: got a {type(batch).__name__}, expected a function (num, *, generator) that draws rows"
            )
        num_labelled = max((term.labelled_batch_size for term in config.terms), default=0)
        if num_labelled and labelled is None:
            raise ValueError(
                f"Trainer: a term has labelled_batch_size {num_labelled}, but nothing draws such rows; pass labelled"
            )
        self.log_density, self.space, self.kernel, self.config = log_density, space, kernel, config
        self.reference = reference
        place = place_of(config.device if device is None else device, wide=reference is not None)
        for moved in (log_density, reference):
            if isinstance(moved, nn.Module):
                moved.to(place)
        _share_tensors(log_density, world)
        self._world, seed = world, seed_of_rank(seed, world.rank)
        self.generator = self.data_generator = torch.Generator(place).manual_seed(seed)
        if place.type != "cpu":  # where rows of data are drawn
            self.data_generator = torch.Generator().manual_seed(seed)
        self._problem = BlockProblem(
            log_density,
            space,
            kernel=kernel,
            config=config,
            generator=self.generator,
            data_generator=self.data_generator,
            batch=batch,
            labelled=labelled,
            reference=reference,
            world=world,
        )
        self._loop: Loop[BlockRows, BlockAttempt] = Loop(
            self._problem,
            _descent(log_density, config),
            snapshot_every=config.snapshot_every,
            max_rollbacks=config.max_rollbacks,
            world=world,
        )
        self.metrics: Metrics | None = None  # of the last iteration

    @property
    def average(self) -> nn.Module:
        """The log-density with averaged parameters: the trained model (App. B)."""
        return self._loop.average

    @property
    def buffer(self) -> ReplayBuffer:
        """The chains."""
        return self._problem.buffer

    @property
    def noise(self) -> Noise:
        """Start of fresh chains."""
        return self._problem.buffer.noise

    @property
    def completions(self) -> Completions:
        """Completions of rows with missing entries at their last visit."""
        return self._problem.completions

    @property
    def iteration(self) -> int:
        """Number of updates done."""
        return self._loop.iteration

    @property
    def seconds(self) -> float:
        """Time spent in iterations, over all sessions of the run."""
        return self._loop.seconds

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        return self._loop.optimizer

    @property
    def interventions(self) -> list[Intervention]:
        """Interventions against divergence so far."""
        return self._loop.interventions

    @property
    def learning_rate_factor(self) -> float:
        """Factor of the schedule's learning rate; halved by each rollback."""
        return self._loop.learning_rate_factor

    @property
    def on_intervention(self) -> Callable[[Intervention], object] | None:
        """Called with each intervention."""
        return self._loop.on_intervention

    @on_intervention.setter
    def on_intervention(self, told: Callable[[Intervention], object] | None) -> None:
        self._loop.on_intervention = told

    def run(self) -> Iterator[Metrics]:
        """Trains to `config.num_iterations`, yielding the metrics of every iteration."""
        while self.iteration < self.config.num_iterations:
            yield self.step()

    def step(self) -> Metrics:
        """Does one iteration, after as many interventions as it takes.

        Raises:
            Diverged: a row of data is not finite, or trouble came again after `max_rollbacks` rollbacks; names the step,
                phase, block and row, the likely cause and its fix. Nothing was learned from the numbers it names.
        """
        self.metrics = self._metrics(self._loop.step())
        return self.metrics

    def state(self) -> Checkpoint:
        """Everything that decides the next iterations: a trainer restored from it continues bit for bit.

        That holds with the same versions, device type, number of threads and `config.compile`. The data are not in it:
        `batch` must draw the same rows from the same generator. Of several processes it is the state of this one; see
        `dealing.gathered`.
        """
        state = self._loop.state()
        tensors = {
            **state.tensors,
            **prefixed("noise", self.noise.parameters),
            "generator": self.generator.get_state(),
        }
        if self.data_generator is not self.generator:
            tensors["data_generator"] = self.data_generator.get_state()
        metrics = None if self.metrics is None else self.metrics._asdict()
        return Checkpoint(self.iteration, tensors, {**state.plain, "metrics": metrics})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores everything that `state` or `gathered` returned, into a trainer made with the same arguments.

        With another number of processes, chains and completions are dealt again.

        Warns:
            UserWarning: the state is that of another kind of device, whose draws cannot be continued here.

        Raises:
            ValueError: the checkpoint is of another model, space, or buffer size.
        """
        now = self.state().tensors
        checkpoint = dealt(checkpoint, self._world, like=now)
        require_shapes(now, checkpoint.tensors)
        noise = without_prefix("noise", checkpoint.tensors).items()
        self.buffer.noise = Noise(self.space, {n: tensor.to(self.generator.device, copy=True) for n, tensor in noise})
        self._restore_generators(checkpoint)
        self._loop.restore(checkpoint)
        metrics = checkpoint.plain["metrics"]
        self.metrics = metrics and Metrics(**{**metrics, "accept_rate": tuple(metrics["accept_rate"])})

    def _restore_generators(self, checkpoint: Checkpoint) -> None:
        """Sets both generators; where the state is of another device, the data continue and other draws start afresh."""
        state = checkpoint.tensors["generator"]
        of_data = checkpoint.tensors.get("data_generator", state)
        continues = resume_generator(self.data_generator, of_data)
        if self.data_generator is not self.generator:
            continues = resume_generator(self.generator, state)
        if not continues or ("data_generator" in checkpoint.tensors) != (self.data_generator is not self.generator):
            line = f"checkpoint of iteration {checkpoint.iteration}: written on another kind of device than "
            line += f"{self.generator.device.type}; the bits will differ from those of an uninterrupted run"
            warn_caller(UserWarning(line))

    def _metrics(self, update: Update[BlockAttempt]) -> Metrics:
        found = update.attempt.numbers
        return Metrics(
            iteration=update.iteration,
            energy_gap=None if found.f_negative is None else found.f_positive - found.f_negative,
            f_positive=found.f_positive,
            f_negative=found.f_negative,
            accept_rate=found.accept_rate,
            grad_norm=update.grad_norm,
            chain_low=found.low,
            chain_high=found.high,
            learning_rate=update.learning_rate,
            seconds=update.seconds,
            negatives=None if found.ess is None else "draws" if found.drawn_afresh else "chains",
            ess=found.ess,
            log_normalizer=found.log_normalizer,
            log_likelihood=None if found.log_normalizer is None else found.f_positive - found.log_normalizer,
            terms=found.terms,
        )


def _weighted_kernel(kernel: Kernel, reference: Reference, config: TrainConfig) -> Kernel:
    """The kernel with jumps; raises ValueError unless it leaves F invariant, on which the weights rely."""
    if config.objective.keeps_row_chains:
        raise ValueError(
            f"Trainer: objective {config.objective.name!r} keeps a chain of y for each row, which a reference does not "
            "weight; leave the reference out, or set another objective"
        )
    if not kernel.adjusted:
        names = ", ".join(sorted({type(part).__name__ for part in parts_of(kernel) if not part.adjusted}))
        raise ValueError(
            f"Trainer: {names} is not adjusted, but chains with weights need kernels that leave F invariant; use MALA "
            "for Langevin"
        )
    return with_jumps(kernel, reference)


def _share_tensors(module: nn.Module, world: World) -> None:
    """Gives a module the numbers that it has in the first process."""
    own = module.state_dict()
    tensors = world.from_first(
        lambda: own, pack=lambda each: Parcel(None, each), unpack=lambda each: dict(each.tensors)
    )
    if tensors is not own:
        module.load_state_dict(tensors)


def _descent(log_density: nn.Module, config: TrainConfig) -> Descent:
    """Adam, linear warm-up, exponential moving average (App. B)."""
    decay = DECAYS[config.decay]

    def factor(iteration: int) -> float:
        warm = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
        return warm * decay(iteration, config.num_iterations)

    adam = torch.optim.Adam(log_density.parameters(), lr=config.learning_rate, betas=(config.beta_1, 0.999))
    return Descent(adam, factor, get_ema_multi_avg_fn(config.ema_decay))
