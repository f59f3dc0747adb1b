"""Structured energies, sets and the Ising model as plain data, so that model folders can rebuild them.

They are read and listed without torch: `build` imports the networks.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jointebm.energies.activation import Activation
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
    "PerPixelSpec",
    "PerPlaceSpec",
    "StructuredSpec",
    "TransitionsSpec",
]

Width = Annotated[int, Field(ge=1)]


class PerPixelSpec(Config):
    """A `PerPixel`."""

    kind: Literal["per-pixel"] = "per-pixel"
    channels: Width = Field(description="of the hidden layers")
    num_layers: int = Field(ge=1, le=64, description="3 x 3 convolutions")

    def build(self, space: "Space") -> "nn.Module":  # noqa: ARG002  # every unary is built for a space
        """Makes the network, with freshly drawn weights."""
        from jointebm.energies.unaries import PerPixel

        return PerPixel(self.channels, num_layers=self.num_layers)


class PerPlaceSpec(Config):
    """A `PerPlace` of an MLP over the flattened input of one place."""

    kind: Literal["per-place"] = "per-place"
    hidden: tuple[Width, ...] = Field(description="widths of the hidden layers")
    activation: Activation = Field("silu", description="elu or silu")

    def build(self, space: "Space") -> "nn.Module":
        """Makes the network, with freshly drawn weights."""
        from torch import nn

        from jointebm.energies.networks import MLP
        from jointebm.energies.unaries import PerPlace

        (_, columns), (_, *inputs) = _sequences(space)
        width = math.prod(inputs)
        mlp = MLP(width, self.hidden, columns, activation=self.activation)
        return PerPlace(nn.Sequential(nn.Flatten(), mlp))


class TransitionsSpec(Config):
    """A `Transitions`."""

    kind: Literal["transitions"] = "transitions"
    reach: int = Field(1, ge=1, le=64, description="largest distance between labels that interact")

    def build(self, space: "Space") -> "nn.Module":
        """Makes the interaction; it starts at 0."""
        from jointebm.energies.interactions import Transitions

        return Transitions(_sequences(space)[0][1], reach=self.reach)


class GridPairsSpec(Config):
    """A `GridPairs`."""

    kind: Literal["grid-pairs"] = "grid-pairs"
    width: int = Field(5, ge=3, le=65, description="side of the neighbourhood, odd")

    def build(self, space: "Space") -> "nn.Module":  # noqa: ARG002  # every interaction is built for a space
        """Makes the interaction; it starts at 0."""
        from jointebm.energies.interactions import GridPairs

        return GridPairs(width=self.width)


class StructuredSpec(Config):
    """A `StructuredEnergy`."""

    kind: Literal["structured"] = "structured"
    unary: Annotated[PerPixelSpec | PerPlaceSpec, Field(discriminator="kind")] = Field(description="g")
    interaction: Annotated[TransitionsSpec | GridPairsSpec, Field(discriminator="kind")] | None = Field(
        None, description="h; null is 0"
    )

    def build(self, space: "Space") -> "StructuredEnergy":
        """Makes the energy, with freshly drawn weights."""
        from jointebm.energies.structured import StructuredEnergy

        interaction = None if self.interaction is None else self.interaction.build(space)
        return StructuredEnergy(space, self.unary.build(space), interaction)


class DeepSetSpec(Config):
    """A `DeepSetEnergy` of two MLPs."""

    kind: Literal["deep-set"] = "deep-set"
    phi: tuple[Width, ...] = Field(description="widths of the hidden layers of phi")
    num_features: Width = Field(description="width of the output of phi, which is summed")
    rho: tuple[Width, ...] = Field(description="widths of the hidden layers of rho")
    activation: Activation = Field("elu", description="elu or silu")

    def build(self, space: "Space") -> "DeepSetEnergy":
        """Makes the energy, with freshly drawn weights."""
        from jointebm.energies.deep_sets import DeepSetEnergy
        from jointebm.energies.networks import MLP

        width = sum(math.prod(block.position_shape[1:]) for block in space.values())
        phi = MLP(width, self.phi, self.num_features, activation=self.activation)
        return DeepSetEnergy(space, phi, MLP(self.num_features, self.rho, activation=self.activation))


class IsingSpec(Config):
    """An `IsingEnergy`."""

    kind: Literal["ising"] = "ising"
    coupling: float = Field(allow_inf_nan=False, description="J, nats per pair")
    field: float = Field(0.0, allow_inf_nan=False, description="h, nats per spin")

    def build(self, space: "Space") -> "IsingEnergy":
        """Makes the energy."""
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
