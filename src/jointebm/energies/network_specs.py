"""Networks as plain data: those that several energies have a part of."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from jointebm.energies.activation import Activation
from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.energies.networks import MLP, ConvEncoder

__all__ = ["ConvSpec", "MLPSpec", "Width"]

Width = Annotated[int, Field(ge=1)]


class MLPSpec(Config):
    """An `MLP`, without the widths of its two ends, which follow from the space.

    Example:
        >>> MLPSpec(hidden=(256, 256, 256)).build(8, 1)[0]
        Linear(in_features=8, out_features=256, bias=True)
    """

    hidden: tuple[Width, ...] = Field(description="widths of the hidden layers")
    activation: Activation = Field("elu", description="elu or silu")

    def build(self, in_features: int, out_features: int) -> "MLP":
        from jointebm.energies.networks import MLP

        return MLP(in_features, self.hidden, out_features, activation=self.activation)


class ConvSpec(Config):
    """A `ConvEncoder` of square images.

    Example:
        >>> ConvSpec(side=16, channels=(8, 16, 32), out_channels=4).num_features  # 4 channels of 4 x 4
        64
    """

    side: Width = Field(description="pixels per side of the image; divisible by 2 in every stage")
    channels: tuple[Width, ...] = Field(
        (16, 32, 64, 128), min_length=1, description="channels after each convolution but the last"
    )
    out_channels: Width = Field(16, description="channels after the last, 1x1 convolution")
    activation: Activation = Field("silu", description="elu or silu")
    halves_first: bool = Field(False, description="whether the first convolution halves the side too")

    @model_validator(mode="after")
    def _side_halves(self) -> Self:
        divisor = 2**self._num_halvings
        if self.side % divisor:
            but_the_first = "" if self.halves_first else " but the first"
            raise ValueError(
                f"side {self.side} does not halve {self._num_halvings} times, once for each of the {len(self.channels)} "
                f"channels{but_the_first}; give a multiple of {divisor}, or fewer channels"
            )
        return self

    @property
    def _num_halvings(self) -> int:
        return len(self.channels) - (not self.halves_first)

    @property
    def num_features(self) -> int:
        """Width of the encoding."""
        return self.out_channels * (self.side // 2**self._num_halvings) ** 2

    def build(self) -> "ConvEncoder":
        from jointebm.energies.networks import ConvEncoder

        return ConvEncoder(self.channels, self.out_channels, activation=self.activation, halves_first=self.halves_first)
