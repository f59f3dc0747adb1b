"""The discrete blocks of a space side by side, as one matrix of columns.

A binary variable is one column, a categorical variable one column per class. Kernels over many blocks work on these
columns and never loop over variables.

Legend: N chains, V variables, M columns.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.full_precision import full_precision
from jointebm.spaces.space import Space

__all__ = ["Columns", "chosen_blocks", "columns_of", "pick", "require_same"]

MOST_DENSE = 64  # columns up to which sums over the columns of a variable are a product of matrices


class Columns(NamedTuple):
    """A matrix of columns: the variable and class of each."""

    space: Space
    blocks: tuple[str, ...]  # in the order of their columns
    widths: tuple[int, ...]  # number of columns of each block
    variable: Tensor  # of each column, (M,), int64
    is_binary: Tensor  # which columns are binary variables, (M,), bool
    num_variables: int
    num_classes: Tensor  # of each variable, (V,), int64
    class_of_column: Tensor  # the class that a 1 in a column means, (M,), int64
    max_classes: int  # of any variable
    number: Tensor  # 0 to M - 1, (M,), int64
    all_binary: bool  # whether every variable is a column of its own
    all_classes: bool  # whether none is
    same_width: int | None  # columns of each variable, if all have as many
    all_move: bool  # whether every variable has another class
    own_class: Tensor  # above which a column says that its class is the current one: never in a bit, (M,)
    pull: Tensor  # of the current class on the gain of a move: 1, and 2 in a bit, (M,)
    dense_pull: Tensor | None  # the same from each column to those of its variable, (M, M); None if there are many

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Lays positions or scores of the blocks side by side, shape (N, M)."""
        flat = [parts[name].reshape(len(parts[name]), -1) for name in self.blocks]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)

    def split(self, joined: Tensor) -> dict[str, Tensor]:
        """The inverse of `join`; leading axes before the last are kept."""
        parts = joined.split(list(self.widths), dim=-1) if len(self.widths) > 1 else (joined,)
        return {
            name: part.reshape(*joined.shape[:-1], *self.space[name].position_shape)
            for name, part in zip(self.blocks, parts, strict=True)
        }

    def join_free(self, free: Mapping[str, Tensor], num_chains: int) -> Tensor:
        """Mask of the variables that may move, shape (N, V); blocks that `free` leaves out are clamped."""
        masks = dict(free)
        if not masks.keys() >= set(self.blocks):
            clamped = torch.zeros((), dtype=torch.bool, device=self.variable.device)
            masks = dict.fromkeys(self.blocks, clamped) | masks
        shapes = {name: (num_chains, *self.space[name].variable_shape) for name in self.blocks}
        return self.join({name: masks[name].expand(shape) for name, shape in shapes.items()})

    def widen(self, of_variables: Tensor) -> Tensor:
        """What belongs to variables (N, V), for each of their columns, (N, M)."""
        return of_variables if self.all_binary else of_variables[:, self.variable]

    def movable(self, free_variables: Tensor) -> Tensor:
        """Which of the free variables have another class, (N, V), bool."""
        return free_variables if self.all_move else free_variables & (self.num_classes > 1)

    def label_of(self, y: Tensor, variable: Tensor) -> Tensor:
        """The label in columns (N, M) of one variable per chain (N,), shape (N,), int64."""
        own = y * (self.variable == variable[:, None]) * self.class_of_column
        return own.sum(dim=1).round().to(torch.int64)

    def above_current(self, y: Tensor, score: Tensor) -> Tensor:
        """(y' - y)^T score of the move of each column, (N, M): a change to its class, or the flip of its bit."""
        of_current = y * score
        if self.same_width is not None:
            shape = (len(y), self.num_variables, self.same_width)
            return (score.reshape(shape) - of_current.reshape(shape).sum(dim=2, keepdim=True)).reshape(y.shape)
        if self.dense_pull is not None:
            with full_precision(score):
                return score - of_current @ self.dense_pull.to(score.dtype)
        summed = y.new_zeros(len(y), self.num_variables).index_add_(1, self.variable, of_current)
        return score - summed[:, self.variable] * self.pull.to(score.dtype)


@lru_cache(maxsize=64)
def columns_of(space: Space, blocks: tuple[str, ...], device: torch.device) -> Columns:
    """Builds the columns of some discrete blocks once per device."""
    widths: list[int] = []
    num_classes: list[int] = []
    is_binary: list[bool] = []
    for name in blocks:
        classes = space.num_classes(name)
        widths.append(math.prod(space[name].position_shape))
        num_classes += classes
        is_binary += [widths[-1] < sum(classes)] * len(classes)  # one column for two classes
    counts, binary = torch.tensor(num_classes), torch.tensor(is_binary)
    width = torch.where(binary, 1, counts)  # columns of each variable
    first = width.cumsum(0) - width
    variable = torch.arange(len(counts)).repeat_interleave(width)
    class_of_column = torch.where(binary[variable], 1, torch.arange(len(variable)) - first[variable])
    pull = torch.where(binary[variable], 2.0, 1.0)
    dense_pull = (variable[:, None] == variable) * pull if len(variable) <= MOST_DENSE else None
    return Columns(
        space,
        blocks,
        tuple(widths),
        variable=variable.to(device),
        is_binary=binary[variable].to(device),
        num_variables=len(counts),
        num_classes=counts.to(device),
        class_of_column=class_of_column.to(device),
        max_classes=max(num_classes),
        number=torch.arange(len(variable), device=device),
        all_binary=all(is_binary),
        all_classes=not any(is_binary),
        same_width=int(width[0]) if len(set(width.tolist())) == 1 else None,
        all_move=min(num_classes) > 1,
        own_class=torch.where(binary[variable], 2.0, 0.5).to(device),
        pull=pull.to(device),
        dense_pull=None if dense_pull is None else dense_pull.to(device),
    )


def pick(values: Tensor, index: Tensor) -> Tensor:
    """The entry of each row of (N, M, ...) at an index (N, ...) along the second axis."""
    return values.gather(1, index[:, None]).squeeze(1)


def chosen_blocks(kernel: object, space: Space, blocks: tuple[str, ...] | None) -> tuple[str, ...]:
    """The discrete blocks a kernel moves: those it names, or all; raises ValueError if it has none to move."""
    if blocks is not None:
        space.require(blocks, discrete=True)
    chosen = space.discrete if blocks is None else tuple(blocks)
    if not chosen:
        raise ValueError(f"{type(kernel).__name__}: there is no discrete block to move in {space}")
    return chosen


def require_same(kernel: object, made_for: Space, blocks: tuple[str, ...], space: Space) -> None:
    """Raises ValueError unless a space has the same blocks, by name and kind, as the space of a kernel."""
    for name in blocks:
        space.require(name, discrete=made_for[name].discrete)
        if made_for[name] != space[name]:
            raise ValueError(
                f"{type(kernel).__name__}: was made for a block {name!r} that is {made_for[name]}, but here it is "
                f"{space[name]}; make the kernel from this space"
            )
