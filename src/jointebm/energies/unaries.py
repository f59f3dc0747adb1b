"""Unary terms g(x) of a `StructuredEnergy`: one number per class of each label, given x.

Legend: N rows, T places.
"""

from itertools import pairwise

from torch import Tensor, nn

__all__ = ["PerPixel", "PerPlace"]


class PerPixel(nn.Module):
    """3 x 3 convolutions from an image (N, height, width) to one number per pixel (N, height, width).

    The number at a pixel depends on the square of side 2 num_layers + 1 around it.

    Args:
        channels: of the hidden layers; the activation is SiLU.
        num_layers: convolutions, at least 1.

    Raises:
        ValueError: num_layers is less than 1.

    Example:
        >>> import torch
        >>> PerPixel(8, num_layers=2)(torch.zeros(3, 16, 16)).shape
        torch.Size([3, 16, 16])
    """

    def __init__(self, channels: int, *, num_layers: int) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"PerPixel: num_layers must be at least 1, got {num_layers}")
        widths = (1, *[channels] * (num_layers - 1), 1)
        layers = [layer for pair in pairwise(widths) for layer in (nn.Conv2d(*pair, 3, padding=1), nn.SiLU())]
        self.net = nn.Sequential(*layers[:-1])

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.net,)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images[:, None]).squeeze(1)


class PerPlace(nn.Module):
    """The same network at every place of a sequence: (N, T, *shape) to (N, T, outputs).

    Args:
        net: module from (rows, *shape) to (rows, outputs).

    Example:
        >>> import torch
        >>> PerPlace(nn.Linear(5, 3))(torch.zeros(2, 4, 5)).shape
        torch.Size([2, 4, 3])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.net,)

    def forward(self, sequences: Tensor) -> Tensor:
        places = self.net(sequences.flatten(0, 1))
        return places.reshape(*sequences.shape[:2], -1)
