"""Chains of a block model that a page watches: they step one at a time, and what is clamped may change between steps.

Legend: N chains, P kernels of a step.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.inference.chain_starts import chain_starts
from jointebm.inference.model import Model
from jointebm.inference.noise_path import PathDraws
from jointebm.inference.subset_answers import SubsetPath
from jointebm.kernels import Chain, Info
from jointebm.sampling.rank_diagnostics import MIN_STATES, convergence_of
from jointebm.sampling.sample import begin_sampling, run_chain
from jointebm.spaces.blocks import Binary, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position
from jointebm.watch.block_predictions import BlockQuestion
from jointebm.watch.block_view import MAX_CONTROLS, block_view
from jointebm.watch.copied_blocks import BlockHistory, Clamped, block_python, block_shell
from jointebm.watch.json_blocks import block_values
from jointebm.watch.live_probs import live_probs
from jointebm.watch.packed_frames import finite_or_none, pack_frame

__all__ = ["NUM_WATCHED", "BlockChains"]

NUM_WATCHED = 16
RECENT_STATES = 400  # states that the ess and the acceptance are taken from


class BlockChains:
    """Chains of a block model, from their start on.

    A change of what is clamped keeps the chains where they are. Before the first step, and in models of any subset, whose
    chains end a path that depends on what is clamped, it starts them again by the same seed.

    Args:
        model: the model.
        source: its name, as `jointebm.load` takes it.
        rows: test rows that chains may start at, complete; None if there are no data.
        changes: changes that are remembered for `copied`.
    """

    def __init__(self, model: Model, *, source: str, rows: Mapping[str, Tensor] | None, changes: int) -> None:
        self.model, self._source, self._rows, self._changes = model, source, rows, changes
        self._view = block_view(model, source=source, rows=rows)
        self._shown = [name for name in model.space.discrete if model.space[name].num_variables <= MAX_CONTROLS]
        self.chain: Chain | None = None  # None on the path of a model of any subset
        self._given: dict[str, np.ndarray] = {}
        self._start, self._row = "own", 0
        self.seed = 0
        self._restart()

    def view(self) -> dict[str, Any]:
        """The model as plain data, for the page."""
        return {**self._view, "num_chains": NUM_WATCHED, "seed": self.seed}

    def clamp(self, given: Mapping[str, Any]) -> None:
        """Clamps what is given, and frees all else.

        Args:
            given: per block, V numbers; null is free.

        Raises:
            ValueError: it does not fit the space.
            FloatingPointError: f is not finite there. What was clamped before stays clamped, as after a ValueError.
        """
        before, self._given = self._given, self._read(given)
        state = self._generator.get_state()
        restarts = self._is_path or (len(self._clamped) == 1 and self.num_steps == 0)
        try:
            if restarts:
                self._restart()
            elif self._clamped[-1].num_steps == 0:  # the change before this one has not been seen by any step
                self._begin(self._base)
                del self._clamped[-2]
            else:
                assert self.chain is not None
                self._begin(self.chain.position)
        except (ValueError, FloatingPointError):
            self._given = before
            if restarts:
                self._restart()
            else:
                self._generator.set_state(state)
            raise

    def restart(self, *, start: str, seed: int, row: int) -> None:
        """Starts the chains again, with the same values clamped.

        Args:
            start: "noise", "row", or any other word for the model's own start.
            seed: of all draws.
            row: number of a test row, used by "row".
        """
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed: got {seed}, expected a whole number from 0 to 2^63 - 1")
        if start == "row":
            self._require_row(row)
        own = self._view["starts"][0]["id"]
        self._start = start if start in ("noise", "row") and start != own else "own"
        self.seed, self._row = seed, row
        self._restart()

    def step(self) -> None:
        """Moves each chain once by the kernels, or takes the path to its next noise level.

        Raises:
            FloatingPointError: f is not finite.
        """
        if self._walk is not None:
            self._walked(self._walk)
            return
        chain, infos = next(self._steps)
        if not bool(chain.f.isfinite().all()):
            raise FloatingPointError("the log-density of a chain is not finite; start the chains again")
        self.chain = chain
        self._accepted.append(torch.stack([info.accept_prob.mean() for info in infos]))
        self._visited_f.append(chain.f)
        self._clamped[-1] = self._clamped[-1]._replace(num_steps=self._clamped[-1].num_steps + 1)
        self.num_steps += 1
        self._num_visits += NUM_WATCHED
        for name in self._shown:
            self._visits[name] += chain.position[name].sum(dim=0)

    def frame(self, *, with_probs: bool) -> bytes:
        """The present states, packed; `with_probs` adds p(class | rest), which takes evaluations of f."""
        chain = self.chain
        position = chain.position if chain is not None else self._on_path
        values = self.model.space.decode(position)
        arrays = {f"value:{name}": value.reshape(NUM_WATCHED, -1).numpy() for name, value in values.items()}
        header: dict[str, Any] = {"kind": "frame", "step": self.num_steps, "change": len(self._clamped)}
        if chain is not None:
            arrays["f"] = chain.f.numpy()
            header["visits"] = {name: self._classes(name) for name in self._visits}
            if self._accepted:
                header["accept"] = torch.stack(list(self._accepted)).mean(dim=0).tolist()
            if len(self._visited_f) >= MIN_STATES and self.num_steps % 10 == 0:
                found = convergence_of(torch.stack(list(self._visited_f)))
                header["convergence"] = {
                    "ess": finite_or_none(found.ess_bulk),
                    "r_hat": finite_or_none(found.r_hat),
                    "states": len(self._visited_f),
                }
            if with_probs:
                header["probs"] = {name: live_probs(self.model, chain, name) for name in self._shown}
        else:
            header["level"] = {"number": self._level, "of": self._num_levels}
        return pack_frame(header, arrays)

    @property
    def has_probs(self) -> bool:
        """Whether there are labels whose live probabilities a frame can hold."""
        return bool(self._shown) and self.chain is not None

    def values(self) -> dict[str, Tensor]:
        """Values of the chains, per block (N, *variable_shape)."""
        return self.model.space.decode(self.chain.position if self.chain is not None else self._on_path)

    def question(self) -> BlockQuestion | None:
        """The labels given what is clamped now, for another thread to answer; None without labels."""
        return BlockQuestion(self.model, dict(self._given), self._shown, self.seed) if self._shown else None

    def row_values(self, number: int) -> dict[str, list[float]]:
        """The values of a test row, V numbers per block."""
        self._require_row(number)
        row = self._test_row(number)
        return {name: value.astype(np.float64).reshape(-1).tolist() for name, value in row.items()}

    def copied(self) -> dict[str, str]:
        """The view as Python and as a shell command."""
        if len(self._clamped) > self._changes:
            raise ValueError(
                f"more than {self._changes} changes since the chains started; start them again to copy the view"
            )
        if self.chain is None:
            raise ValueError("the chains are on their path; copy the view when it has ended")
        row = self._test_row(self._row) if self._start == "row" else None
        history = BlockHistory(
            self._source, NUM_WATCHED, self.seed, torch.get_num_threads(), self._start, row, tuple(self._clamped)
        )
        return {"python": block_python(history), "shell": block_shell(history)}

    def _read(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = block_values(self.model.space, given)
        read = {}
        for name, array in arrays.items():
            block = self.model.space[name]
            if array.size != block.num_variables:
                raise ValueError(f"block {name!r}: got {array.size} numbers, expected {block.num_variables}")
            array = array.reshape(block.variable_shape)
            is_free = array < 0 if block.discrete else np.isnan(array)
            if not is_free.all():
                self.model.space.encode({name: array[None]})  # raises if a value does not fit
                read[name] = array.astype(np.int64) if block.discrete else array
        return read

    @property
    def _is_path(self) -> bool:
        return isinstance(self.model.energy, LevelEnergy) and self._start == "own"

    def _restart(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self._clamped: list[Clamped] = []
        self._walk: Iterator[PathDraws] | None = None
        self.num_steps = 0
        self.chain = None
        if self._is_path:
            assert isinstance(self.model.energy, LevelEnergy)
            self._annealing = SubsetPath.begin(self.model.energy, NUM_WATCHED, self._given, self._generator)
            self._walk = self._annealing.path.walk(self._generator)
            self._level, self._num_levels = 0, self._annealing.path.num_levels
            self._on_path: dict[str, Tensor] = self._annealing.position
            self._clear()
            self._clamped = [Clamped(dict(self._given), 0)]
            return
        self._begin(self._started())

    def _started(self) -> Position | Noise:
        if self._start == "noise":
            return self.model.noise
        if self._start == "row":
            values = {name: torch.as_tensor(value)[None] for name, value in self._test_row(self._row).items()}
            row, _ = self.model.space.encode(values)
            return {name: each.expand(NUM_WATCHED, *each.shape[1:]) for name, each in row.items()}
        return chain_starts(self.model, NUM_WATCHED, self._given, self._generator)

    def _begin(self, base: Position | Noise) -> None:
        """Chains from these positions, with what is given in place."""
        state = begin_sampling(
            self.model,
            self.model.space,
            self.model.kernel,
            num_chains=NUM_WATCHED,
            given=self._given,
            init=base,
            generator=self._generator,
        )
        self._walk, self.chain, self._base = None, state.chain, base
        self._steps: Iterator[tuple[Chain, tuple[Info, ...]]] = run_chain(
            self.model, state.kernel, state.chain, free=state.free, generator=self._generator
        )
        self._clamped.append(Clamped(dict(self._given), 0))
        self._clear()

    def _walked(self, walk: Iterator[PathDraws]) -> None:
        """Takes the path to its next level; from its end, chains begin."""
        drawn = next(walk)
        self._level += 1
        energy = self._annealing.energy
        self._on_path = {**self._annealing.position, **energy.blocks(drawn.reals)}
        if self._level == self._num_levels:
            self._clamped.pop()
            self._begin(self._annealing.ended(drawn, self._generator).position)

    def _clear(self) -> None:
        """Forgets what was counted, since what is counted has changed."""
        self._accepted: deque[Tensor] = deque(maxlen=RECENT_STATES)
        self._visited_f: deque[Tensor] = deque(maxlen=RECENT_STATES)
        self._num_visits = 0
        shapes = {name: self.model.space[name].position_shape for name in self._shown}
        self._visits = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}

    def _classes(self, name: str) -> list[list[float]]:
        """How often the chains were in each class of each variable since the last change."""
        block, sums = self.model.space[name], self._visits[name].flatten()
        assert not isinstance(block, Continuous)
        if isinstance(block, Binary):
            return [[self._num_visits - ones, ones] for ones in sums.tolist()]
        return [part.tolist() for part in sums.split(list(block.num_classes_per_variable))]

    def _require_row(self, number: int) -> None:
        num = self._view["num_rows"]
        if not 0 <= number < num:
            raise ValueError(f"row: got {number}, and there are {num} test rows, counted from 0")

    def _test_row(self, number: int) -> dict[str, np.ndarray]:
        assert self._rows is not None
        return {name: value[number].numpy() for name, value in self._rows.items()}
