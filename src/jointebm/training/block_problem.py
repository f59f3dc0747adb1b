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
from jointebm.references.reference import Reference
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.training.chain_weights import MIN_SHARE, ChainWeights
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
        f_negative: mean f of the chains by their weights, nats; None if the objective needs no chains.
        negative: the chains with their weights.
        terms: the terms of the loss by name; None if it has one.
    """

    loss: Tensor
    positive: Positive
    chain: Chain
    accept_rate: tuple[float, ...]
    f_positive: float
    f_negative: float | None
    negative: Negative
    terms: Mapping[str, float] | None = None


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
        reference: q, from which fresh chains are drawn, with weights if `config.weighted`; None is noise.
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
        reference: Reference | None = None,
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
            noise,
            size=config.buffer_size if self._objective.needs_chains else 1,
            replacement_rate=config.replacement_rate,
            generator=generator,
            reference=reference,
            weighted=config.weighted,
        )
        self.draws_afresh = self.buffer.weights is not None  # until fresh draws of the reference are too uneven
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
        if not self._objective.needs_chains:
            return BlockRows(batch, Drawn(torch.empty(0, dtype=torch.int64), _no_rows(self.buffer.position)))
        if not self._objective.keeps_row_chains:
            drawn = self.buffer.draw(self._config.batch_size, generator=self._generator)
            if self.draws_afresh:
                position, weights = self.buffer.fresh(self._config.batch_size, self._generator)
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
        f_negative, accept_rate = None, ()
        if self._objective.needs_chains:
            f_negative = float(weighted_mean(moved.chain.f, log_weights))
            accept_rate = tuple(moved.accept_probs.mean(dim=1).tolist())
        self._watch.check_phases(
            positive.position, phases, 0.0 if f_negative is None else f_positive - f_negative, where
        )
        return BlockAttempt(
            phases.loss, positive, moved.chain, accept_rate, f_positive, f_negative, negative, phases.parts
        )

    def commit(self, drawn: BlockRows, attempt: BlockAttempt) -> None:
        """Writes both halves of each chain back to its slot with its weight, and keeps the completions."""
        self.draws_afresh = attempt.negative.drawn_afresh
        if self._objective.needs_chains and not self.draws_afresh:
            weights = attempt.negative.reweighted
            kept = None if weights is None else ChainWeights(weights.log_weights, attempt.chain.f.double())
            self.buffer.write(drawn.chains.slots, attempt.chain.position, kept)
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


def _no_rows(position: Position) -> dict[str, Tensor]:
    return {name: value[:0] for name, value in position.items()}


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
