"""Completions of rows with missing entries, kept from visit to visit (Eq. 8).

The positive phase of an incomplete row needs a draw of its missing entries given its observed ones. Like the chains of the
negative phase, the chain that draws them resumes where it was when its row was last visited.

Legend: N rows of a batch, S stored rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.spaces.blocks import Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Completions", "missing_entries", "noise_of"]


class Completions:
    """A second buffer, keyed by row: the missing entries of each row at its last visit.

    Of each row only the incomplete blocks are stored, so memory is linear in the rows with missing entries, and does not
    grow once each was visited.

    Args:
        space: the blocks.
        device: of the rows; None is the CPU.

    References:
        Kelly & Grathwohl 2021, Eq. 8, App. A.1.

    Example:
        >>> from jointebm import Binary, Continuous
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows, numbers = {"x": torch.tensor([0.5, 0.7]), "y": torch.tensor([torch.nan, 1.0])}, torch.tensor([40, 3])
        >>> completions = Completions(space)
        >>> completions.write(numbers, {"x": rows["x"], "y": torch.tensor([1.0, 1.0])}, missing_entries(space, rows))
        >>> completions.num_rows
        {'x': 0, 'y': 1}
        >>> completions.draw(numbers, rows, noise=Noise.uniform(space), generator=torch.Generator())["y"]
        tensor([1., 1.])
    """

    def __init__(self, space: Space, device: torch.device | None = None) -> None:
        self._space, self._device = space, device
        self._kept = self._empty()

    @property
    def num_rows(self) -> dict[str, int]:
        """Number of stored rows, per block."""
        return {name: len(kept.slots) for name, kept in self._kept.items()}

    def draw(self, numbers: Tensor, position: Position, *, noise: Noise, generator: Generator) -> dict[str, Tensor]:
        """The rows completed: by what was kept of the row, or by noise if it was never visited.

        Args:
            numbers: of the rows, shape (N,), int64.
            position: N rows, NaN is missing; complete blocks come back as the same tensors.
            noise: start of completions.
            generator: source of the noise; nothing is drawn for rows that were visited before.
        """
        completed = {}
        for name, value in position.items():
            gaps = value.isnan()
            rows = gaps.reshape(len(value), -1).any(dim=1).nonzero().flatten()
            if not len(rows):
                completed[name] = value
                continue
            slots = self._kept[name].find(numbers[rows])
            fresh, filling = slots < 0, torch.empty_like(value[rows])
            filling[~fresh] = self._kept[name].position[slots[~fresh]].to(value.dtype)
            if bool(fresh.any()):
                drawn = self._space[name].draw(noise.parameters[name], int(fresh.sum()), generator)
                filling[fresh] = drawn.to(value.dtype)
            completed[name] = value.index_copy(0, rows, torch.where(gaps[rows], filling, value[rows]))
        return completed

    def write(self, numbers: Tensor, position: Position, missing: Mask) -> None:
        """Keeps the incomplete blocks of N completed rows; of a repeated row, the last.

        Args:
            numbers: of the rows, shape (N,), int64.
            position: N rows, completed.
            missing: per block, which entries were not observed, (N, *variable_shape), bool.
        """
        for name, mask in missing.items():
            rows = mask.reshape(len(mask), -1).any(dim=1).nonzero().flatten()
            if len(rows):
                self._kept[name].write(numbers[rows], position[name][rows])

    def state(self) -> dict[str, Tensor]:
        """Of each block with stored rows, "rows.NAME", their numbers (S,), and "position.NAME", (S, *position_shape)."""
        tensors = {}
        for name, kept in self._kept.items():
            if kept.slots:
                tensors[f"rows.{name}"] = self._numbers(list(kept.slots))
                tensors[f"position.{name}"] = kept.position[: len(kept.slots)]
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError: the tensors are not completions of this space.
        """
        expected = {f"{part}.{name}" for name in self._space for part in ("rows", "position")}
        restored = self._empty()
        for name, block in self._space.items():
            none = {"rows": self._numbers([]), "position": self._kept[name].position[:0]}
            rows, position = (tensors.get(f"{part}.{name}", empty) for part, empty in none.items())
            if position.shape != (len(rows), *block.position_shape) or rows.shape != rows.unique().shape:
                raise ValueError(f"checkpoint: the completions of block {name!r} do not fit this run")
            restored[name].write(rows, position)
        if not tensors.keys() <= expected:
            raise ValueError(
                f"checkpoint: completions of {min(tensors.keys() - expected)!r}, which this run does not have"
            )
        self._kept = restored

    def _empty(self) -> dict[str, "_Kept"]:
        return {n: _Kept(torch.empty(0, *b.position_shape, device=self._device)) for n, b in self._space.items()}

    def _numbers(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


class _Kept:
    """Stored rows of one block: their slots by number, and their positions, with room to grow."""

    def __init__(self, position: Tensor) -> None:
        self.slots: dict[int, int] = {}
        self.position = position

    def find(self, numbers: Tensor) -> Tensor:
        """Slots of rows by their numbers, int64; -1 if they are not stored."""
        return numbers.new_tensor([self.slots.get(number, -1) for number in numbers.tolist()])

    def write(self, numbers: Tensor, position: Tensor) -> None:
        """Stores rows; of a repeated one, the last."""
        last = {self.slots.setdefault(number, len(self.slots)): row for row, number in enumerate(numbers.tolist())}
        if len(self.slots) > len(self.position):
            room = position.new_empty(2 * len(self.slots), *position.shape[1:])
            room[: len(self.position)] = self.position
            self.position = room
        if last:
            self.position[numbers.new_tensor(list(last))] = position[numbers.new_tensor(list(last.values()))]


def missing_entries(space: Space, position: Position) -> dict[str, Tensor] | None:
    """Which variables are missing (NaN), per block (N, *variable_shape), bool; None if none is.

    Example:
        >>> from jointebm import Categorical
        >>> space = Space(y=Categorical((2, 3)))
        >>> missing_entries(space, space.encode({"y": [[1, -1]]})[0])
        {'y': tensor([[False,  True]])}
    """
    gaps = {name: position[name].isnan() for name in space}
    if not any(bool(mask.any()) for mask in gaps.values()):
        return None
    return {
        name: space[name].decode(position[name]) < 0 if space[name].discrete else mask for name, mask in gaps.items()
    }


def noise_of(space: Space, position: Position, *, labels: str, reals: str = "range") -> Noise:
    """Noise fitted to the observed entries of a batch.

    Without missing entries it is `Noise.from_batch`. A missing label counts as all classes alike, so that no class is left
    out for lack of labels; the bounds of a real that is observed in no row are those of its block.

    Args:
        space: the blocks.
        position: a batch of rows, NaN is missing.
        labels: "frequency" or "uniform", as for `Noise.from_batch`.
        reals: "range" or "moments", likewise.

    Raises:
        ValueError: nothing of a continuous block is observed in the whole batch.

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bit=Binary())
        >>> noise_of(space, {"bit": torch.tensor([1.0, 1.0, torch.nan, torch.nan])}, labels="frequency").parameters["bit"]
        tensor(0.7500)
    """
    completed, bounds = dict(position), {}
    for name, block in space.items():
        gaps = position[name].isnan()
        if not bool(gaps.any()):
            continue
        if not isinstance(block, Continuous):
            completed[name] = torch.where(gaps, block.uniform_noise().to(position[name]), position[name])
            continue
        if bool(gaps.all()):
            raise ValueError(f"Noise: block {name!r}: nothing of it is observed in a batch; draw larger batches")
        bounds[name] = block.fit_noise(position[name], reals)
        completed[name] = position[name].nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
    return Noise(space, {**Noise.from_batch(space, completed, labels=labels, reals=reals).parameters, **bounds})
