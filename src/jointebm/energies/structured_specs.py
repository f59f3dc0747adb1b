"""Structured energies, sets and the Ising model as plain data, so that model folders can rebuild them.

They are read and listed without torch: `build` imports the networks, and draws fresh weights; interactions start at 0.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jointebm.energies.activation import Activation
from jointebm.energies.network_specs import ConvSpec, Width
from jointebm.storage.config import Config

if TYPE_CHECKING:
    from torch import nn

    from jointebm.energies.deep_sets import DeepSetEnergy
    from jointebm.energies.ising import IsingEnergy
    from jointebm.energies.structured import StructuredEnergy
    from jointebm.spaces.space import Space

__all__ = [
    "DeepSetSpec",
    "GridPairsSpec",
    "IsingSpec",
    "LabelProductsSpec",
    "PerPixelSpec",
    "PerPlaceSpec",
    "StructuredSpec",
    "TransitionsSpec",
]


class PerPixelSpec(Config):
    """A `PerPixel`.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(image=Continuous((8, 8)), mask=Binary((8, 8)))
        >>> type(PerPixelSpec(channels=4, num_layers=2).build(space)).__name__
        'PerPixel'
    """

    kind: Literal["per-pixel"] = "per-pixel"
    channels: Width = Field(description="of the hidden layers")
    num_layers: int = Field(ge=1, le=64, description="3 x 3 convolutions")

    def build(self, space: "Space") -> "nn.Module":  # noqa: ARG002  # every unary is built for a space
        from jointebm.energies.unaries import PerPixel

        return PerPixel(self.channels, num_layers=self.num_layers)


class PerPlaceSpec(Config):
    """A `PerPlace` of an MLP over the flattened input of one place, or over the features of its image.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(strokes=Continuous((5, 7)), letters=Categorical(26, (5,)))
        >>> type(PerPlaceSpec(hidden=(16,)).build(space)).__name__
        'PerPlace'
    """

    kind: Literal["per-place"] = "per-place"
    hidden: tuple[Width, ...] = Field(description="widths of the hidden layers")
    activation: Activation = Field("silu", description="elu or silu")
    encoder: ConvSpec | None = Field(None, description="convolutions over the image of a place; null: none")

    def build(self, space: "Space") -> "nn.Module":
        from torch import nn

        from jointebm.energies.networks import MLP
        from jointebm.energies.unaries import PerPlace

        (_, columns), (_, *inputs) = _sequences(space)
        first: nn.Module = nn.Flatten()
        width = math.prod(inputs)
        if self.encoder is not None:
            if inputs != [self.encoder.side] * 2:
                raise ValueError(
                    f"per-place: the encoder needs images of shape {(self.encoder.side,) * 2} at every place, but the "
                    f"space has inputs of shape {tuple(inputs)}"
                )
            first, width = self.encoder.build(), self.encoder.num_features
        return PerPlace(nn.Sequential(first, MLP(width, self.hidden, columns, activation=self.activation)))


class TransitionsSpec(Config):
    """A `Transitions`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(strokes=Continuous((5, 7)), letters=Categorical(26, (5,)))
        >>> tuple(TransitionsSpec(reach=2).build(space).weight.shape)
        (2, 26, 26)
    """

    kind: Literal["transitions"] = "transitions"
    reach: int = Field(1, ge=1, le=64, description="largest distance between labels that interact")

    def build(self, space: "Space") -> "nn.Module":
        from jointebm.energies.interactions import Transitions

        return Transitions(_sequences(space)[0][1], reach=self.reach)


class LabelProductsSpec(Config):
    """A `LabelProducts`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(image=Continuous((4, 7)), digits=Categorical(10, (4,)))
        >>> type(LabelProductsSpec(num_terms=8).build(space)).__name__
        'LabelProducts'
    """

    kind: Literal["label-products"] = "label-products"
    num_terms: Width = Field(64, description="products in the sum")

    def build(self, space: "Space") -> "nn.Module":
        from jointebm.energies.interactions import LabelProducts

        (num_labels, num_classes), _ = _sequences(space)
        return LabelProducts(num_labels, num_classes, num_terms=self.num_terms)


class GridPairsSpec(Config):
    """A `GridPairs`.

    Example:
        >>> from jointebm import Binary, Space
        >>> type(GridPairsSpec(width=3).build(Space(mask=Binary((8, 8))))).__name__
        'GridPairs'
    """

    kind: Literal["grid-pairs"] = "grid-pairs"
    width: int = Field(5, ge=3, le=65, description="side of the neighbourhood, odd")

    def build(self, space: "Space") -> "nn.Module":  # noqa: ARG002  # every interaction is built for a space
        from jointebm.energies.interactions import GridPairs

        return GridPairs(width=self.width)


class StructuredSpec(Config):
    """A `StructuredEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> spec = StructuredSpec(unary=PerPlaceSpec(hidden=(16,)), interaction=TransitionsSpec(reach=2))
        >>> type(spec.build(Space(strokes=Continuous((5, 7)), letters=Categorical(26, (5,))))).__name__
        'StructuredEnergy'
    """

    kind: Literal["structured"] = "structured"
    unary: Annotated[PerPixelSpec | PerPlaceSpec, Field(discriminator="kind")] = Field(description="g")
    interaction: Annotated[TransitionsSpec | LabelProductsSpec | GridPairsSpec, Field(discriminator="kind")] | None = (
        Field(None, description="h; null is 0")
    )

    def build(self, space: "Space") -> "StructuredEnergy":
        from jointebm.energies.structured import StructuredEnergy

        interaction = None if self.interaction is None else self.interaction.build(space)
        return StructuredEnergy(space, self.unary.build(space), interaction)


class DeepSetSpec(Config):
    """A `DeepSetEnergy` of two MLPs.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> spec = DeepSetSpec(phi=(16,), num_features=8, rho=(16,))
        >>> type(spec.build(Space(points=Continuous((6, 2)), chosen=Binary(6)))).__name__
        'DeepSetEnergy'
    """

    kind: Literal["deep-set"] = "deep-set"
    phi: tuple[Width, ...] = Field(description="widths of the hidden layers of phi")
    num_features: Width = Field(description="width of the output of phi, which is summed")
    rho: tuple[Width, ...] = Field(description="widths of the hidden layers of rho")
    activation: Activation = Field("elu", description="elu or silu")

    def build(self, space: "Space") -> "DeepSetEnergy":
        from jointebm.energies.deep_sets import DeepSetEnergy
        from jointebm.energies.networks import MLP

        width = sum(math.prod(block.position_shape[1:]) for block in space.values())
        phi = MLP(width, self.phi, self.num_features, activation=self.activation)
        return DeepSetEnergy(space, phi, MLP(self.num_features, self.rho, activation=self.activation))


class IsingSpec(Config):
    """An `IsingEnergy`.

    Example:
        >>> from jointebm import Binary, Space
        >>> type(IsingSpec(coupling=0.4).build(Space(spins=Binary((4, 4))))).__name__
        'IsingEnergy'
    """

    kind: Literal["ising"] = "ising"
    coupling: float = Field(allow_inf_nan=False, description="J, nats per pair")
    field: float = Field(0.0, allow_inf_nan=False, description="h, nats per spin")

    def build(self, space: "Space") -> "IsingEnergy":
        from jointebm.energies.ising import IsingEnergy

        return IsingEnergy(space, coupling=self.coupling, field=self.field)


def _sequences(space: "Space") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of y, (T, C), and of x, (T, *inputs); raises unless both are sequences of one length."""
    y = [space[name].position_shape for name in space.discrete]
    x = [space[name].position_shape for name in space.continuous]
    if len(y) != 1 or len(x) != 1 or len(y[0]) != 2 or y[0][:1] != x[0][:1]:
        raise ValueError(
            f"per-place, transitions: need one continuous and one categorical block with the same number of places, got "
            f"{space}; write for example Space(image=Continuous((14, 16, 8)), letters=Categorical(27, (14,)))"
        )
    return y[0], x[0]
