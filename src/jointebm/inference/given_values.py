"""What a question gives: values, sets of classes and intervals of reals, as known values and evidence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.kernels import LogDensity
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Position, Space

__all__ = ["Given", "Restricted", "split_given"]


class Given(NamedTuple):
    """What is known of the rows to draw.

    Args:
        values: per block, values that broadcast to the rows; NaN or -1 is free.
        evidence: what is known of free entries, as `Reference.complete` takes it.
    """

    values: dict[str, Any]
    evidence: dict[str, Tensor]


class Restricted:
    """A log-density that is minus infinity where evidence forbids a position.

    Args:
        log_density: F, shape (N,).
        space: the blocks.
        evidence: log-weights of classes (0 or minus infinity) and intervals, without a leading axis.
    """

    def __init__(self, log_density: LogDensity, space: Space, evidence: Mapping[str, Tensor]) -> None:
        self._log_density, self._space, self._evidence = log_density, space, evidence

    def __call__(self, position: Position) -> Tensor:
        f = self._log_density(position)
        allowed = torch.ones_like(f, dtype=torch.bool)
        for name, known in self._evidence.items():
            value = position[name].detach()
            if not self._space[name].discrete:
                fits = (value >= known[0]) & (value <= known[1])
            elif isinstance(self._space[name], Binary):
                fits = torch.where(value > 0.5, known[..., 1], known[..., 0]) == 0
            else:
                fits = (value < 0.5) | (known == 0)
            allowed &= fits.reshape(len(f), -1).all(dim=1)
        return f.masked_fill(~allowed, -torch.inf)


def split_given(space: Space, given: Mapping[str, Any] | None) -> Given:
    """Splits what is given into values and evidence.

    A set of classes, or a pair (low, high) of reals with None for no bound, stands for a whole variable: alone where the
    block has one variable, or as an entry of a list with one entry per variable.

    Args:
        space: the blocks.
        given: per block, values, sets or intervals.

    Raises:
        ValueError: an unknown block, a class out of range, an empty set, or an interval whose low end is not below its high.

    Example:
        >>> from jointebm.spaces import Categorical, Continuous
        >>> space = Space(x=Continuous(), y=Categorical(3))
        >>> split_given(space, {"x": (0.0, None), "y": {0, 2}}).evidence["y"]
        tensor([0., -inf, 0.])
    """
    space.require(given or {})
    values: dict[str, Any] = {}
    evidence: dict[str, Tensor] = {}
    for name, known in (given or {}).items():
        block = space[name]
        entries = [known] if block.variable_shape == () and _is_range(known) else known
        is_list = isinstance(entries, list) and len(entries) == block.num_variables
        if not is_list or not any(map(_is_range, entries)):
            values[name] = known
            continue
        free = -1 if block.discrete else torch.nan
        plain = np.array([free if _is_range(entry) else entry for entry in entries], dtype=float)
        values[name] = plain.reshape(block.variable_shape)
        read = _classes if block.discrete else _intervals
        evidence[name] = read(space, name, entries)
    return Given(values, evidence)


def _is_range(entry: Any) -> bool:
    return isinstance(entry, set | frozenset | tuple)


def _classes(space: Space, name: str, entries: list[Any]) -> Tensor:
    """Log-weights of classes: 0 where allowed, minus infinity where not."""
    parts = []
    for entry, count in zip(entries, space.num_classes(name), strict=True):
        if isinstance(entry, tuple):
            raise ValueError(f"block {name!r}: got {entry}, expected a set of classes such as {{0, 1}}")
        weights = torch.zeros(count)
        if _is_range(entry):
            wrong = [label for label in entry if label not in range(count)]
            if wrong or not entry:
                raise ValueError(
                    f"block {name!r}: got the set {set(entry) or '{}'}, expected some of the classes 0 to {count - 1}"
                )
            weights[:] = -torch.inf
            weights[sorted(entry)] = 0
        parts.append(weights)
    block = space[name]
    shape = (*block.position_shape, 2) if isinstance(block, Binary) else block.position_shape
    return torch.cat(parts).reshape(shape)


def _intervals(space: Space, name: str, entries: list[Any]) -> Tensor:
    """Bounds in position units, shape (2, *shape)."""
    block = space[name]
    bounds = torch.tensor([[-torch.inf] * len(entries), [torch.inf] * len(entries)])
    for place, entry in enumerate(entries):
        if not _is_range(entry):
            continue
        if isinstance(entry, set | frozenset) or len(entry) != 2:
            raise ValueError(f"block {name!r}: got {entry}, expected an interval (low, high), with None for no bound")
        for end, bound in enumerate(entry):
            if bound is not None:
                row = torch.zeros(1, *block.variable_shape)
                row.view(-1)[place] = bound
                bounds[end, place] = block.transform.forward(row).view(-1)[place]  # type: ignore[union-attr]
        if not bool(bounds[0, place] < bounds[1, place]):
            raise ValueError(f"block {name!r}: got the interval {entry}; low must be below high")
    return bounds.reshape(2, *block.variable_shape)
