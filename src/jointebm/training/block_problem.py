"""Training on blocks: what the loop draws, moves and minimises.

Legend: N rows of a batch and as many chains.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jointebm.data.datasets import Batch
from jointebm.kernels import Chain, Kernel
from jointebm.references.reference import Reference
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.training.batch_checks import require_positions, require_whole
from jointebm.training.block_numbers import BlockNumbers
from jointebm.training.chain_weights import MIN_SHARE, ChainWeights
from jointebm.training.compiled_moves import CompiledMoves
from jointebm.training.divergence import Scales
from jointebm.training.likelihoods import weighted_mean
from jointebm.training.negative_phase import Negative, reweight
from jointebm.training.objectives import LossInputs, Phases
from jointebm.training.phases import Completer, Positive, move, without_nan
from jointebm.training.replay_buffer import Drawn, ReplayBuffer
from jointebm.training.row_completions import Completions, missing_entries, noise_of
from jointebm.training.train_config import TrainConfig
from jointebm.training.training_state import prefixed, without_prefix
from jointebm.training.watch import Moved, Watch
from jointebm.training.world import ALONE, Parcel, World

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
        negative: the chains after their moves, with their weights.
        numbers: what it found.
        of_chains: the part of the loss that is a mean by the weights of the chains; None if they carry none.
    """

    loss: Tensor
    positive: Positive
    negative: Negative
    numbers: BlockNumbers
    of_chains: Tensor | None = None


class BlockProblem:
    """Rows of data, the replay buffer, completions, and the loss of an objective over blocks.

    Args:
        log_density: module from a position to f, shape (N,); trained in place.
        space: the blocks.
        kernel: what moves the chains.
        config: how to train.
        generator: source of all draws but those of data, on the device of the module, where chains and rows are.
        data_generator: source of the rows of data, on the CPU.
        batch: draws rows of data.
        labelled: draws rows for terms that ask for rows with labels; None if none does.
        reference: q, from which fresh chains are drawn, with weights if `config.weighted`; None is noise.
        world: the processes that train together. Each has its share of the rows and chains of an iteration and of the slots
            of the buffer; the noise is fitted to a batch of the first.
    """

    def __init__(
        self,
        log_density: nn.Module,
        space: Space,
        *,
        kernel: Kernel,
        config: TrainConfig,
        generator: torch.Generator,
        data_generator: torch.Generator,
        batch: BatchSource,
        labelled: BatchSource | None,
        reference: Reference | None = None,
        world: World = ALONE,
    ) -> None:
        self.module, self._space, self._kernel, self._config = log_density, space, kernel, config
        self._objective, self._batch, self._labelled = config.objective, batch, labelled
        self._generator, self._data_generator = generator, data_generator
        self._num = world.share(config.batch_size, "batch_size")
        self._num_slots = world.share(config.buffer_size, "buffer_size") if self._objective.needs_chains else 1
        self._nums_labelled = [world.share(each.labelled_batch_size, "labelled_batch_size") for each in config.terms]
        first = self._rows(batch, config.batch_size)
        if first.numbers is None:
            require_whole(first.position)
        if self._objective.keeps_row_chains:
            self._require_row_chains(first)
        fit_noise = Noise.from_batch if first.numbers is None else noise_of
        noise = world.from_first(
            lambda: fit_noise(space, first.position, labels=config.noise_labels, reals=config.noise_reals),
            pack=lambda fitted: Parcel(None, fitted.parameters),
            unpack=lambda parcel: Noise(space, {n: t.to(generator.device) for n, t in parcel.tensors.items()}),
        )
        self.buffer = ReplayBuffer(
            noise,
            size=self._num_slots,
            replacement_rate=config.replacement_rate,
            generator=generator,
            reference=reference,
            weighted=config.weighted,
        )
        self.draws_afresh = self.buffer.weights is not None  # until fresh draws of the reference are too uneven
        self.completions = Completions(space, generator.device)
        self.scales = Scales()
        self._watch = Watch(space, kernel, self.scales)
        self._compiled = CompiledMoves(log_density, kernel, config.num_steps) if config.compiles else None
        self._free = {
            name: torch.ones(self._num, *space[name].variable_shape, dtype=torch.bool, device=generator.device)
            for name in (space.discrete if self._objective.keeps_row_chains else space)
        }

    def draw(self) -> BlockRows:
        """Draws rows, and chains of the buffer: any, or those of the rows with the reals of the rows."""
        batch = self._rows(self._batch, self._num)
        if not self._objective.needs_chains:
            nothing = _no_rows(self.buffer.position)
            slots = next(iter(nothing.values())).new_empty(0, dtype=torch.int64)
            return BlockRows(batch, Drawn(slots, nothing))
        if not self._objective.keeps_row_chains:
            drawn = self.buffer.draw(self._num, generator=self._generator)
            if self.draws_afresh:
                position, weights = self.buffer.fresh(self._num, self._generator)
                drawn = Drawn(drawn.slots, position, weights)
            return BlockRows(batch, drawn)
        self._require_row_chains(batch)
        assert batch.numbers is not None
        drawn = self.buffer.at(batch.numbers, generator=self._generator)
        reals = {name: batch.position[name] for name in self._space.continuous}
        return BlockRows(batch, drawn._replace(position=drawn.position | reals))

    def attempt(self, drawn: BlockRows, where: str) -> BlockAttempt:
        """Completes the rows, moves the chains, and evaluates the loss with its terms."""
        with self._precision():
            positive = self._positive(drawn.batch, where)
            negative = self._negative(drawn.chains, positive.position, where)
            moved, weights = negative.moved, negative.reweighted
            log_weights = None if weights is None else weights.log_weights
            samples = LossInputs(
                positive.position,
                moved.chain.position,
                self._space,
                positive.missing,
                self._generator,
                log_weights,
            )
            phases = self._phases(samples, where)
        f_positive = float(phases.positive.detach().mean())
        f_negative, accept_rate, low, high = None, (), None, None
        if self._objective.needs_chains:
            f_negative = float(weighted_mean(moved.chain.f, log_weights))
            accept_rate = tuple(moved.accept_probs.mean(dim=1).tolist())
            low, high = self._range(moved.chain.position)
        self._watch.check_phases(
            positive.position, phases, 0.0 if f_negative is None else f_positive - f_negative, where
        )
        numbers = BlockNumbers(
            rows=self._num,
            f_positive=f_positive,
            f_negative=f_negative,
            accept_rate=accept_rate,
            low=low,
            high=high,
            drawn_afresh=negative.drawn_afresh,
            ess=None if weights is None else float(weights.share) * len(weights.f),
            log_normalizer=None if weights is None else float(weights.log_normalizer),
            terms=None if phases.parts is None else dict(phases.parts),
        )
        return BlockAttempt(phases.loss, positive, negative, numbers, None if weights is None else phases.of_chains)

    def pooled(self, attempt: BlockAttempt, numbers: Sequence[Mapping[str, Any]]) -> BlockAttempt:
        """The attempt with the numbers of all processes."""
        parts = [BlockNumbers(**{**each, "accept_rate": tuple(each["accept_rate"])}) for each in numbers]
        return attempt._replace(numbers=BlockNumbers.pooled(parts))

    def commit(self, drawn: BlockRows, attempt: BlockAttempt) -> None:
        """Writes both halves of each chain back to its slot with its weight, and keeps the completions."""
        self.draws_afresh = attempt.numbers.drawn_afresh
        if self._objective.needs_chains and not self.draws_afresh:
            weights, chain = attempt.negative.reweighted, attempt.negative.moved.chain
            kept = None if weights is None else ChainWeights(weights.log_weights, chain.f.double())
            self.buffer.write(drawn.chains.slots, chain.position, kept)
        attempt.positive.keep(self.completions)

    def restart(self, drawn: BlockRows, chains: Tensor) -> int:
        """Writes fresh chains to the slots of offending ones."""
        slots = drawn.chains.slots[chains]
        self.buffer.write(slots, *self.buffer.fresh(len(slots), self._generator))
        return len(slots)

    def state(self) -> dict[str, Tensor]:
        """The buffer with its weights, and the completions."""
        weights: dict[str, Tensor] = {}
        if self.buffer.weights is not None:
            weights = {**self.buffer.weights._asdict(), "draws_afresh": torch.tensor(self.draws_afresh)}
        return {
            **prefixed("buffer", self.buffer.position),
            **prefixed("weights", weights),
            **prefixed("completions", self.completions.state()),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        self.buffer.position = without_prefix("buffer", tensors)
        self.completions.restore(without_prefix("completions", tensors))
        weights = without_prefix("weights", tensors)
        if weights:
            self.buffer.weights = ChainWeights(weights["log_weights"], weights["f"])
            self.draws_afresh = bool(weights["draws_afresh"])

    def _positive(self, batch: Batch, where: str) -> Positive:
        """The rows, completed by the kernel unless the objective takes missing entries."""
        if not self._objective.takes_missing:
            return self._completer().complete(
                batch, self.completions, log_density=self.module, generator=self._generator, where=where
            )
        known = {name: without_nan(value) for name, value in batch.position.items()}
        self._watch.check_data(known, where)
        return Positive(known, missing_entries(self._space, batch.position), numbers=batch.numbers)

    def _completer(self) -> Completer:
        return Completer(
            self._space,
            self._kernel,
            num_steps=self._config.num_completion_steps,
            noise=self.buffer.noise,
            watch=self._watch,
            sums_labels_out=self._objective.sums_labels_out,
        )

    def _negative(self, chains: Drawn, positive: Position, where: str) -> Negative:
        """The chains after their moves, or fresh draws of the reference while these are even enough."""
        if not self._objective.needs_chains:
            f = next(iter(chains.position.values())).new_empty(0)
            return Negative(Moved(Chain(chains.position, f, None), f.new_empty(0, 0), f.bool()))
        if chains.weights is None:
            return Negative(self._moved(chains.position, positive, where))
        weights = reweight(self.module, chains, self._generator)
        if self.draws_afresh and float(weights.share) >= MIN_SHARE:
            moved = weights.as_moved()
            self._watch.check_draws(moved.chain, where)
            return Negative(moved, weights, drawn_afresh=True)
        return Negative(self._moved(weights.position, positive, where), weights)

    def _moved(self, start: Position, positive: Position, where: str) -> Moved:
        """Chains after their moves with everything free, or with y alone if x is clamped to the rows."""
        moved = move(
            self.module,
            self._kernel,
            start,
            free=self._free,
            num_steps=self._config.num_steps,
            generator=self._generator,
            compiled=self._compiled,
        )
        self._watch.check_chains(moved, positive, where)
        return moved

    def _phases(self, samples: LossInputs, where: str) -> Phases:
        """The objective with its terms; rows with labels are drawn first."""
        of_terms = [self._samples_of(num, samples, where) for num in self._nums_labelled]
        phases = self._objective.loss(self.module, samples)
        loss = phases.loss
        for term, of_term in zip(self._config.terms, of_terms, strict=True):
            loss = loss + term.weight * term.loss(self.module, of_term)
        return phases._replace(loss=loss)

    def _samples_of(self, num_labelled: int, samples: LossInputs, where: str) -> LossInputs:
        """The batch, or rows with labels if a term asks for them."""
        if not num_labelled:
            return samples
        assert self._labelled is not None
        rows = self._rows(self._labelled, num_labelled).position
        self._watch.check_data({name: without_nan(value) for name, value in rows.items()}, where)
        return samples._replace(positive=rows, missing=missing_entries(self._space, rows))

    def _range(self, position: Position) -> tuple[float, float]:
        """The smallest and the largest continuous entry of chains."""
        entries = [position[name] for name in self._space.continuous]
        if not entries:
            return 0.0, 0.0
        return min(float(entry.min()) for entry in entries), max(float(entry.max()) for entry in entries)

    def _rows(self, source: BatchSource, num: int) -> Batch:
        drawn = source(num, generator=self._data_generator)
        batch = drawn if isinstance(drawn, Batch) else Batch(drawn)
        require_positions(self._space, batch.position)
        place, numbers = self._generator.device, batch.numbers
        position = {name: value.to(place) for name, value in batch.position.items()}
        return Batch(position, None if numbers is None else numbers.to(place))

    def _require_row_chains(self, batch: Batch) -> None:
        """Raises unless each row has a slot of its own, and all of its reals."""
        name, size = self._objective.name, self._num_slots
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


def _no_rows(position: Position) -> dict[str, Tensor]:
    return {name: value[:0] for name, value in position.items()}
