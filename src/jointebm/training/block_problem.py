"""Training on blocks: what the loop draws, moves and minimises.

Legend: N rows of a batch and as many chains.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jointebm.data.datasets import Batch
from jointebm.kernels import Chain, Kernel
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.training.divergence import Scales
from jointebm.training.objectives import LossInputs, Phases
from jointebm.training.phases import Completer, Positive, move, without_nan
from jointebm.training.replay_buffer import Drawn, ReplayBuffer
from jointebm.training.row_completions import Completions, missing_entries, noise_of
from jointebm.training.train_config import TrainConfig
from jointebm.training.training_state import prefixed, without_prefix
from jointebm.training.watch import Moved, Watch

__all__ = ["BatchSource", "BlockAttempt", "BlockProblem", "BlockRows"]

BatchSource = Callable[..., Position | Batch]  # (num, *, generator)

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16}  # dtype of network evaluations; None leaves that of parameters


class BlockRows(NamedTuple):
    """Rows of data, and the chains that move beside them."""

    batch: Batch
    chains: Drawn


class BlockAttempt(NamedTuple):
    """An iteration up to its loss.

    Args:
        loss: scalar, nats.
        positive: the rows, completed.
        chain: the chains after their moves.
        accept_rate: mean acceptance probability of each kernel of the cycle.
        f_positive: mean f of the data, nats.
        f_negative: mean f of the chains, nats.
    """

    loss: Tensor
    positive: Positive
    chain: Chain
    accept_rate: tuple[float, ...]
    f_positive: float
    f_negative: float


class BlockProblem:
    """Rows of data, the replay buffer, completions, and the loss of an objective over blocks.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        space: the blocks.
        kernel: what moves the chains.
        config: how to train.
        generator: source of all draws.
        batch: draws rows of data.
        labelled: draws rows for terms that ask for rows with labels; None if none does.
    """

    def __init__(
        self,
        log_density: nn.Module,
        space: Space,
        *,
        kernel: Kernel,
        config: TrainConfig,
        generator: torch.Generator,
        batch: BatchSource,
        labelled: BatchSource | None,
    ) -> None:
        self.module, self._space, self._kernel, self._config = log_density, space, kernel, config
        self._objective, self._generator, self._batch, self._labelled = config.objective, generator, batch, labelled
        first = self._rows(batch, config.batch_size)
        if first.numbers is None:
            _require_whole(first.position)
        if self._objective.keeps_row_chains:
            self._require_row_chains(first)
        fit_noise = Noise.from_batch if first.numbers is None else noise_of
        noise = fit_noise(space, first.position, labels=config.noise_labels, reals=config.noise_reals)
        self.buffer = ReplayBuffer(
            noise, size=config.buffer_size, replacement_rate=config.replacement_rate, generator=generator
        )
        self.completions = Completions(space)
        self.scales = Scales()
        self._watch = Watch(space, kernel, self.scales)
        self._free = {
            name: torch.ones(config.batch_size, *space[name].variable_shape, dtype=torch.bool)
            for name in (space.discrete if self._objective.keeps_row_chains else space)
        }

    def draw(self) -> BlockRows:
        """Draws rows, and chains of the buffer: any, or those of the rows with the reals of the rows."""
        batch = self._rows(self._batch, self._config.batch_size)
        if not self._objective.keeps_row_chains:
            return BlockRows(batch, self.buffer.draw(self._config.batch_size, generator=self._generator))
        self._require_row_chains(batch)
        assert batch.numbers is not None
        drawn = self.buffer.at(batch.numbers, generator=self._generator)
        reals = {name: batch.position[name] for name in self._space.continuous}
        return BlockRows(batch, drawn._replace(position=drawn.position | reals))

    def attempt(self, drawn: BlockRows, where: str) -> BlockAttempt:
        """Completes the rows, moves the chains, and evaluates the loss with its terms."""
        with self._precision():
            positive = self._completer().complete(
                drawn.batch, self.completions, log_density=self.module, generator=self._generator, where=where
            )
            moved = self._moved(drawn.chains.position, positive.position, where)
            samples = LossInputs(
                positive.position, moved.chain.position, self._space, positive.missing, self._generator
            )
            phases = self._phases(samples, where)
        f_positive, f_negative = float(phases.positive.detach().mean()), float(moved.chain.f.mean())
        self._watch.check_phases(positive.position, phases, f_positive - f_negative, where)
        accept_rate = tuple(moved.accept_probs.mean(dim=1).tolist())
        return BlockAttempt(phases.loss, positive, moved.chain, accept_rate, f_positive, f_negative)

    def commit(self, drawn: BlockRows, attempt: BlockAttempt) -> None:
        """Writes both halves of each chain back to its slot, and keeps the completions."""
        self.buffer.write(drawn.chains.slots, attempt.chain.position)
        attempt.positive.keep(self.completions)

    def restart(self, drawn: BlockRows, chains: Tensor) -> int:
        """Writes noise to the slots of offending chains."""
        slots = drawn.chains.slots[chains]
        self.buffer.write(slots, self.buffer.noise.draw(len(slots), generator=self._generator))
        return len(slots)

    def state(self) -> dict[str, Tensor]:
        """The buffer and the completions."""
        return {**prefixed("buffer", self.buffer.position), **prefixed("completions", self.completions.state())}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        self.buffer.position = without_prefix("buffer", tensors)
        self.completions.restore(without_prefix("completions", tensors))

    def _completer(self) -> Completer:
        return Completer(
            self._space,
            self._kernel,
            num_steps=self._config.num_completion_steps,
            noise=self.buffer.noise,
            watch=self._watch,
            sums_labels_out=self._objective.sums_labels_out,
        )

    def _moved(self, start: Position, positive: Position, where: str) -> Moved:
        """Chains after their moves with everything free, or with y alone if x is clamped to the rows."""
        moved = move(
            self.module,
            self._kernel,
            start,
            free=self._free,
            num_steps=self._config.num_steps,
            generator=self._generator,
        )
        self._watch.check_chains(moved, positive, where)
        return moved

    def _phases(self, samples: LossInputs, where: str) -> Phases:
        """The objective with its terms; rows with labels are drawn first."""
        of_terms = [self._samples_of(term.labelled_batch_size, samples, where) for term in self._config.terms]
        phases = self._objective.loss(self.module, samples)
        loss = phases.loss
        for term, of_term in zip(self._config.terms, of_terms, strict=True):
            loss = loss + term.weight * term.loss(self.module, of_term)
        return phases._replace(loss=loss)

    def _samples_of(self, labelled_batch_size: int, samples: LossInputs, where: str) -> LossInputs:
        """The batch, or rows with labels if a term asks for them."""
        if not labelled_batch_size:
            return samples
        assert self._labelled is not None
        rows = self._rows(self._labelled, labelled_batch_size).position
        self._watch.check_data({name: without_nan(value) for name, value in rows.items()}, where)
        return samples._replace(positive=rows, missing=missing_entries(self._space, rows))

    def _rows(self, source: BatchSource, num: int) -> Batch:
        drawn = source(num, generator=self._generator)
        batch = drawn if isinstance(drawn, Batch) else Batch(drawn)
        _require_positions(self._space, batch.position)
        return batch

    def _require_row_chains(self, batch: Batch) -> None:
        """Raises unless each row has a slot of its own, and all of its reals."""
        name, size = self._objective.name, self._config.buffer_size
        if any(bool(batch.position[block].isnan().any()) for block in self._space.continuous):
            raise ValueError(f"batch: objective {name!r} needs every real, but some are missing; set another objective")
        if batch.numbers is None or int(batch.numbers.max()) >= size:
            found = "rows have no numbers" if batch.numbers is None else f"there is a row {int(batch.numbers.max())}"
            raise ValueError(
                f"batch: objective {name!r} keeps a chain for each row in the {size} slots of the buffer, but {found}; "
                "draw a Batch with the numbers of its rows, and set buffer_size to the number of rows"
            )

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        dtype = AUTOCAST[self._config.precision]
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(next(self.module.parameters()).device.type, dtype)


def _require_positions(space: Space, position: Position) -> None:
    """Raises unless a batch holds every block as positions."""
    if not isinstance(position, Mapping):
        raise TypeError(
            f"batch: drew a {type(position).__name__}, expected a position (a mapping from block to tensor) or a Batch"
        )
    space.require(position)
    for name, block in space.items():
        if name not in position:
            held = ", ".join(map(repr, position)) or "none"
            raise ValueError(f"batch: lacks block {name!r}; it holds {held}")
        found = position[name]
        if not found.is_floating_point() or found.shape[1:] != block.position_shape:
            raise ValueError(
                f"batch: block {name!r}: got {found.dtype} of shape {tuple(found.shape)}, expected floats of shape "
                f"{('N', *block.position_shape)}; space.encode(values)[0] makes positions of values".replace("'N'", "N")
            )


def _require_whole(position: Position) -> None:
    """Raises if an entry is missing."""
    for name, value in position.items():
        if bool(value.isnan().any()):
            raise ValueError(
                f"batch: block {name!r} has missing entries, but its rows have no numbers, by which completions are kept; "
                "draw a Batch(position, numbers)"
            )
