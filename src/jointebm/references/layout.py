"""The positions of a space as two matrices: codes of its discrete variables and reals of its continuous ones.

Legend: N rows, V discrete variables, K_j classes of variable j, F = sum of K_j, D continuous variables.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.spaces.blocks import Binary, Categorical, Continuous
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Constraints", "Layout", "MixedRows"]


class MixedRows(NamedTuple):
    """Rows of a mixed space as codes and reals.

    Args:
        codes: shape (N, V), int64; -1 is missing.
        reals: shape (N, D); NaN is missing.
    """

    codes: Tensor
    reals: Tensor


class Constraints(NamedTuple):
    """Evidence about missing entries.

    Args:
        log_weights: per discrete variable, factors of its classes in nats, shape (K_j,) or (N, K_j); None is no factor.
        bounds: (low, high), each (D,) or (N, D), of the continuous variables; None is no bounds.
    """

    log_weights: tuple[Tensor | None, ...]
    bounds: tuple[Tensor, Tensor] | None


class Layout:
    """Maps positions of a space to codes and reals and back, in the order of its blocks.

    Args:
        space: the blocks.

    Example:
        >>> from jointebm.spaces import Binary, Categorical, Continuous, Space
        >>> layout = Layout(Space(bit=Binary(), point=Continuous(2), group=Categorical((2, 3))))
        >>> layout.num_classes, layout.num_reals
        ((2, 2, 3), 2)
        >>> layout.position(MixedRows(torch.tensor([[1, 0, 2]]), torch.zeros(1, 2)))["group"]
        tensor([[1., 0., 0., 0., 1.]])
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.num_classes = tuple(count for name in space.discrete for count in space.num_classes(name))
        self.num_reals = sum(space[name].num_variables for name in space.continuous)
        self.offsets = (0, *accumulate(self.num_classes))

    def rows(self, position: Position) -> MixedRows:
        """Codes and reals of a position.

        Raises:
            ValueError: a block is absent, has another shape, or is not made of floats.
        """
        num_rows = self._num_rows(position)
        codes = [
            self.space[name].decode(position[name]).reshape(num_rows, self.space[name].num_variables)
            for name in self.space.discrete
        ]
        like = position[next(iter(self.space))]
        empty = torch.empty(num_rows, 0, dtype=torch.int64, device=like.device)
        return MixedRows(torch.cat([empty, *codes], dim=1), self.reals(position))

    def one_hot(self, position: Position, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """One-hot codes (N, F), zeros where missing, and reals (N, D); both differentiable in the position."""
        self._num_rows(position)
        return self.classes(position, dtype), self.reals(position).to(dtype)

    def classes(self, position: Position, dtype: torch.dtype) -> Tensor:
        """One-hot codes (N, F), zeros where missing, differentiable; reads discrete blocks only."""
        like = next(iter(position.values()))
        num_rows = len(like)
        parts = [like.new_empty(num_rows, 0, dtype=dtype)]
        for name in self.space.discrete:
            block, part = self.space[name], position[name].to(dtype)
            missing = block.expand(block.decode(part.detach()) < 0)
            if isinstance(block, Binary):
                part, missing = torch.stack([1 - part, part], dim=-1), missing[..., None]
            parts.append(torch.where(missing, 0, part).reshape(num_rows, sum(self.space.num_classes(name))))
        return torch.cat(parts, dim=1)

    def reals(self, position: Position) -> Tensor:
        """All reals side by side, shape (N, D), differentiable; reads continuous blocks only."""
        like = next(iter(position.values()))
        parts = [position[name].reshape(len(like), self.space[name].num_variables) for name in self.space.continuous]
        return torch.cat(parts, dim=1) if parts else like.new_empty(len(like), 0)

    def position(self, rows: MixedRows) -> dict[str, Tensor]:
        """The position of codes and reals; missing entries are NaN, and the dtype is that of the reals."""
        num_rows, place = len(rows.codes), {True: 0, False: 0}
        position = {}
        for name, block in self.space.items():
            first = place[block.discrete]
            place[block.discrete] += block.num_variables
            part = (rows.codes if block.discrete else rows.reals)[:, first : place[block.discrete]]
            part = part.reshape(num_rows, *block.variable_shape)
            position[name] = part if isinstance(block, Continuous) else _one_hot(block, part, rows.reals.dtype)
        return position

    def completed(self, position: Position, rows: MixedRows) -> dict[str, Tensor]:
        """The position with its missing entries filled from complete rows; all others keep their bits."""
        filled = self.position(rows)
        return {
            name: torch.where(position[name].isnan(), filled[name].to(position[name]), position[name])
            for name in self.space
        }

    def clamped(self, rows: MixedRows, free: Mask) -> MixedRows:
        """The rows with what is free made missing; a block that `free` leaves out is clamped."""
        self.space.require(free)
        is_free: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, block in self.space.items():
            shape = (len(rows.codes), *block.variable_shape)
            mask = free[name].broadcast_to(shape) if name in free else rows.codes.new_zeros(shape, dtype=torch.bool)
            is_free[block.discrete].append(mask.reshape(len(rows.codes), block.num_variables))
        codes, reals = (
            rows.codes.new_zeros(len(rows.codes), 0, dtype=torch.bool) if not parts else torch.cat(parts, dim=1)
            for parts in (is_free[True], is_free[False])
        )
        return MixedRows(rows.codes.masked_fill(codes, -1), rows.reals.masked_fill(reals, torch.nan))

    def constraints(self, evidence: Mapping[str, Tensor] | None, num_rows: int, like: Tensor) -> Constraints:
        """Splits evidence (see `Reference`) into variables, with the dtype and device of `like`.

        Raises:
            ValueError: an unknown block, a shape that does not fit, NaN, a variable without any class, or an empty interval.
        """
        self.space.require(evidence or {})
        log_weights: list[Tensor | None] = []
        low, high = [], []
        for name, block in self.space.items():
            given = None if evidence is None else evidence.get(name)
            num = block.num_variables
            if block.discrete:
                log_weights += [None] * num if given is None else self._of_classes(name, given.to(like), num_rows)
            elif given is None:
                low.append(like.new_full((1, num), -torch.inf))
                high.append(like.new_full((1, num), torch.inf))
            else:
                bounds = self._of_interval(name, given.to(like), num_rows)
                low.append(bounds[:, 0])
                high.append(bounds[:, 1])
        if not any(name in self.space.continuous for name in evidence or {}):
            return Constraints(tuple(log_weights), None)
        return Constraints(tuple(log_weights), (_side_by_side(low), _side_by_side(high)))

    def _of_classes(self, name: str, given: Tensor, num_rows: int) -> list[Tensor | None]:
        """Log-weights of the classes of each variable of a block."""
        block, counts = self.space[name], self.space.num_classes(name)
        shape = (*block.position_shape, 2) if isinstance(block, Binary) else block.position_shape
        _check_shape(name, block.kind, given, shape, num_rows)
        flat = given.reshape(*given.shape[: given.ndim - len(shape)], -1)
        parts = list(flat.split(list(counts), dim=-1))
        if any(bool((part.amax(dim=-1) == -torch.inf).any()) for part in parts):
            raise ValueError(f"block {name!r} ({block.kind}): evidence forbids every class; allow at least one")
        return [*parts]

    def _of_interval(self, name: str, given: Tensor, num_rows: int) -> Tensor:
        """Bounds of the variables of a block, shape (1 or N, 2, variables)."""
        block = self.space[name]
        _check_shape(name, block.kind, given, (2, *block.variable_shape), num_rows)
        bounds = given.reshape(-1, 2, block.num_variables)
        if not bool((bounds[:, 0] < bounds[:, 1]).all()):
            raise ValueError(f"block {name!r} ({block.kind}): evidence holds an empty interval; low must be below high")
        return bounds

    def _num_rows(self, position: Position) -> int:
        absent = [name for name in self.space if name not in position]
        if absent:
            raise ValueError(f"position lacks block {absent[0]!r}; give every block, with NaN where it is missing")
        num_rows = len(position[next(iter(self.space))])
        for name, block in self.space.items():
            part = position[name]
            if part.shape != (num_rows, *block.position_shape) or not part.is_floating_point():
                raise ValueError(
                    f"block {name!r} ({block.kind}): got positions of shape {tuple(part.shape)} and {part.dtype}, expected "
                    f"floats of shape {(num_rows, *block.position_shape)}, such as `encode` gives"
                )
        return num_rows


def _one_hot(block: Binary | Categorical, codes: Tensor, dtype: torch.dtype) -> Tensor:
    """The position of codes (N, *variable_shape) that fit the block; no code is checked, so that none is read."""
    if isinstance(block, Binary):
        return torch.where(codes < 0, torch.nan, codes.to(dtype))
    counts = block.num_classes_per_variable
    if not block.ragged:
        same = codes[..., None] == torch.arange(counts[0], device=codes.device)
        return torch.where(codes[..., None] < 0, torch.nan, same.to(dtype))
    variable = torch.tensor([number for number, count in enumerate(counts) for _ in range(count)], device=codes.device)
    classes = torch.tensor([each for count in counts for each in range(count)], device=codes.device)
    of_variable = codes[:, variable]  # (N, M)
    return torch.where(of_variable < 0, torch.nan, (of_variable == classes).to(dtype))


def _check_shape(name: str, kind: str, given: Tensor, shape: tuple[int, ...], num_rows: int) -> None:
    if given.shape not in (shape, (num_rows, *shape)):
        raise ValueError(
            f"block {name!r} ({kind}): got evidence of shape {tuple(given.shape)}, expected {shape} or {(num_rows, *shape)}"
        )
    if bool(given.isnan().any()):
        raise ValueError(f"block {name!r} ({kind}): evidence holds NaN; use 0 for no factor and infinity for no bound")


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Bounds (1 or N, variables) of all blocks next to one another."""
    num_rows = max(len(part) for part in parts)
    return torch.cat([part.expand(num_rows, -1) for part in parts], dim=1)
