"""Networks of the paper's energies (App. B)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from jointebm.energies.activation import Activation

__all__ = ["MLP", "ConvEncoder"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "silu": nn.SiLU}


def _activation(name: str) -> nn.Module:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()


class MLP(nn.Sequential):
    """Linear layers with an activation between them (App. B.1, B.2.2 and the second part of B.3.2).

    Args:
        in_features: width of the input.
        hidden: widths of the hidden layers.
        out_features: width of the output.
        activation: "elu" or "silu".

    Example:
        >>> sum(p.numel() for p in MLP(8, (256, 256, 256)).parameters())  # App. B.1
        134145
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int], out_features: int = 1, *, activation: Activation = "elu"
    ) -> None:
        widths = (in_features, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), _activation(activation)]
        super().__init__(*layers, nn.Linear(widths[-1], out_features))


class ConvEncoder(nn.Sequential):
    """The convolutional encoder of App. B.3.2: (N, side, side) to (N, features), halving the side in each stage.

    Args:
        channels: channels after the first 3x3 convolution and after each 4x4 convolution of stride 2.
        out_channels: channels after the last 1x1 convolution.
        activation: "elu" or "silu".
        halves_first: whether the first convolution, too, is 4x4 of stride 2; much cheaper.

    Example:
        >>> import torch
        >>> ConvEncoder()(torch.zeros(2, 32, 32)).shape  # 16 channels of 4 x 4
        torch.Size([2, 256])
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        out_channels: int = 16,
        *,
        activation: Activation = "silu",
        halves_first: bool = False,
    ) -> None:
        kernel_size, stride = (4, 2) if halves_first else (3, 1)
        layers: list[nn.Module] = [nn.Conv2d(1, channels[0], kernel_size, stride=stride, padding=1)]
        for before, after in pairwise(channels):
            layers += [_activation(activation), nn.Conv2d(before, after, 4, stride=2, padding=1)]
        layers += [_activation(activation), nn.Conv2d(channels[-1], out_channels, 1), nn.Flatten()]
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.unsqueeze(1))
