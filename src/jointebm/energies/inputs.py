"""Inputs of a network: chosen blocks of a position, scaled, flattened and side by side."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from jointebm.spaces.space import Position, Space

__all__ = ["Inputs"]


class Inputs:
    """Turns some blocks of a position into one matrix.

    Entries are multiplied by the scale of their block, 1 where absent. Networks learn fastest when every block has a spread
    of about one; unscaled labels are lost next to many pixels.
    """

    def __init__(self, space: Space, names: tuple[str, ...], scale: Mapping[str, float] | None = None) -> None:
        space.require(scale or {})
        self.names = names
        self.scale = {name: (scale or {}).get(name, 1.0) for name in names}
        self._widths = [math.prod(space[name].position_shape) for name in names]
        self.width = sum(self._widths)

    def scaled(self, position: Position, name: str) -> Tensor:
        """One block in its own shape, times its scale."""
        value, scale = position[name], self.scale[name]
        return value if scale == 1 else value * scale

    def split(self, gradient: Tensor, position: Position) -> dict[str, Tensor]:
        """The gradient with respect to each block of a position, from that with respect to all side by side, (N, width)."""
        parts = zip(self.names, gradient.split(self._widths, dim=1), strict=True)
        return {
            name: (part if self.scale[name] == 1 else part * self.scale[name]).reshape(position[name].shape)
            for name, part in parts
        }

    def __call__(self, position: Position) -> Tensor:
        """All blocks side by side, shape (N, width)."""
        flat = [self.scaled(position, name).reshape(len(position[name]), -1) for name in self.names]
        return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
