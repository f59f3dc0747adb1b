"""Networks whose input is a row with a noise level for each real; a missing real is at infinite noise.

Legend: N rows, D reals of a row, K numbers that sum a row's noise levels up, S outputs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

__all__ = ["INPUTS_PER_REAL", "LevelConv", "LevelMLP", "Levelled"]

INPUTS_PER_REAL = 4  # two scalings of the value, the noise level, and whether it is visible


class Levelled(nn.Module):
    """A layer whose output is shifted by the noise levels of the row, not at all before training."""

    def __init__(self, layer: nn.Module, num_levels: int, channels: int) -> None:
        super().__init__()
        self.layer, self.by_levels = layer, nn.Linear(num_levels, channels)
        nn.init.zeros_(self.by_levels.weight)
        nn.init.zeros_(self.by_levels.bias)

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        hidden, shift = self.layer(inputs), self.by_levels(levels)
        return silu(hidden + shift.reshape(*shift.shape, *[1] * (hidden.ndim - 2)))


class LevelMLP(nn.Module):
    """Linear layers over all inputs of a row, each shifted by the noise levels.

    Args:
        num_reals: D.
        num_levels: K.
        hidden: widths of the hidden layers.
        num_outputs: S.

    Example:
        >>> LevelMLP(2, 8, (16, 16), 3)(torch.zeros(5, INPUTS_PER_REAL, 2), torch.zeros(5, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, num_reals: int, num_levels: int, hidden: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        widths = (INPUTS_PER_REAL * num_reals, *hidden)
        self.layers = nn.ModuleList(Levelled(nn.Linear(a, b), num_levels, b) for a, b in pairwise(widths))
        self.output, self.log_scale = _output(widths[-1], num_outputs, num_levels)

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden, levels)
        return self.output(hidden) * self.log_scale(levels).exp()


class LevelConv(nn.Module):
    """Convolutions over square images, then linear layers; every layer is shifted by the noise levels.

    Every convolution halves the side. Besides the output of the linear layers, the mean
    features of every convolution add one number to all outputs: details of the image count wherever they are.

    Args:
        side: pixels per side.
        num_levels: K.
        channels: after each convolution.
        hidden: widths of the linear layers.
        num_outputs: S.

    Example:
        >>> LevelConv(8, 8, (4, 8, 16), (32,), 10)(torch.zeros(5, INPUTS_PER_REAL, 64), torch.zeros(5, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self, side: int, num_levels: int, channels: Sequence[int], hidden: Sequence[int], num_outputs: int
    ) -> None:
        super().__init__()
        self.side, ends, at_last = side, (INPUTS_PER_REAL, *channels), side
        self.convolutions = nn.ModuleList()
        for place, (before, after) in enumerate(pairwise(ends)):
            convolution = nn.Conv2d(before, after, 4 if place == 0 else 3, stride=2, padding=1)
            self.convolutions.append(Levelled(convolution, num_levels, after))
            at_last = at_last // 2 if place == 0 else (at_last + 1) // 2
        widths = (channels[-1] * at_last**2, *hidden)
        self.layers = nn.ModuleList(Levelled(nn.Linear(a, b), num_levels, b) for a, b in pairwise(widths))
        self.output, self.log_scale = _output(widths[-1], num_outputs, num_levels)
        details = [nn.Linear(channel, 1, bias=False) for channel in channels]
        for detail in details:
            nn.init.zeros_(detail.weight)
        self.details = nn.ModuleList(details)

    def forward(self, inputs: Tensor, levels: Tensor) -> Tensor:
        hidden, details = inputs.unflatten(2, (self.side, self.side)), []
        for convolution, detail in zip(self.convolutions, self.details, strict=True):
            hidden = convolution(hidden, levels)
            details.append(detail(hidden.mean(dim=(2, 3))))
        hidden = hidden.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden, levels)
        added = torch.stack(details).sum(dim=0) * self.side  # (N, 1)
        return (self.output(hidden) + added) * self.log_scale(levels).exp()


def _output(width: int, num_outputs: int, num_levels: int) -> tuple[nn.Linear, nn.Linear]:
    """The last layer, zero before training, and the logarithm of its factor, which is 1 there."""
    output, log_scale = nn.Linear(width, num_outputs), nn.Linear(num_levels, 1)
    for layer in (output, log_scale):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.ones_(log_scale.bias)
    return output, log_scale
