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

from jointebm.spaces.space import Space

__all__ = ["Columns", "chosen_blocks", "columns_of", "pick", "require_same"]


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

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Lays positions or scores of the blocks side by side, shape (N, M)."""
        flat = [parts[name].reshape(len(parts[name]), -1) for name in self.blocks]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)

    def split(self, joined: Tensor) -> dict[str, Tensor]:
        """The inverse of `join`; leading axes before the last are kept."""
        parts = joined.split(list(self.widths), dim=-1)
        return {
            name: part.reshape(*joined.shape[:-1], *self.space[name].position_shape)
            for name, part in zip(self.blocks, parts, strict=True)
        }

    def join_free(self, free: Mapping[str, Tensor], num_chains: int) -> Tensor:
        """Mask of the variables that may move, shape (N, V); blocks that `free` leaves out are clamped."""
        clamped = torch.zeros((), dtype=torch.bool, device=self.variable.device)
        shapes = {name: (num_chains, *self.space[name].variable_shape) for name in self.blocks}
        return self.join({name: free.get(name, clamped).expand(shape) for name, shape in shapes.items()})


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
