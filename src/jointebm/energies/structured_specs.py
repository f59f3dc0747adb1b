"""Structured energies, sets and the Ising model as plain data, from which model folders rebuild them."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from jointebm.energies.deep_sets import DeepSetEnergy
from jointebm.energies.interactions import GridPairs, Transitions
from jointebm.energies.ising import IsingEnergy
from jointebm.energies.networks import MLP, Activation, Width
from jointebm.energies.structured import StructuredEnergy
from jointebm.energies.unaries import PerPixel, PerPlace
from jointebm.spaces.space import Space
from jointebm.storage.config import Config

__all__ = [
    "DeepSetSpec",
    "GridPairsSpec",
    "IsingSpec",
    "PerPixelSpec",
    "PerPlaceSpec",
    "StructuredSpec",
    "TransitionsSpec",
]


class PerPixelSpec(Config):
    """A `PerPixel`."""

    kind: Literal["per-pixel"] = "per-pixel"
    channels: Width = Field(description="of the hidden layers")
    num_layers: int = Field(ge=1, le=64, description="3 x 3 convolutions")

    def build(self, space: Space) -> nn.Module:  # noqa: ARG002  # every unary is built for a space
        """Makes the network, with freshly drawn weights."""
        return PerPixel(self.channels, num_layers=self.num_layers)


class PerPlaceSpec(Config):
    """A `PerPlace` of an MLP over the flattened input of one place."""

    kind: Literal["per-place"] = "per-place"
    hidden: tuple[Width, ...] = Field(description="widths of the hidden layers")
    activation: Activation = Field("silu", description="elu or silu")

    def build(self, space: Space) -> nn.Module:
        """Makes the network, with freshly drawn weights."""
        (_, columns), (_, *inputs) = _sequences(space)
        width = math.prod(inputs)
        mlp = MLP(width, self.hidden, columns, activation=self.activation)
        return PerPlace(nn.Sequential(nn.Flatten(), mlp))


class TransitionsSpec(Config):
    """A `Transitions`."""

    kind: Literal["transitions"] = "transitions"
    reach: int = Field(1, ge=1, le=64, description="largest distance between labels that interact")

    def build(self, space: Space) -> nn.Module:
        """Makes the interaction; it starts at 0."""
        return Transitions(_sequences(space)[0][1], reach=self.reach)


class GridPairsSpec(Config):
    """A `GridPairs`."""

    kind: Literal["grid-pairs"] = "grid-pairs"
    width: int = Field(5, ge=3, le=65, description="side of the neighbourhood, odd")

    def build(self, space: Space) -> nn.Module:  # noqa: ARG002  # every interaction is built for a space
        """Makes the interaction; it starts at 0."""
        return GridPairs(width=self.width)


class StructuredSpec(Config):
    """A `StructuredEnergy`."""

    kind: Literal["structured"] = "structured"
    unary: Annotated[PerPixelSpec | PerPlaceSpec, Field(discriminator="kind")] = Field(description="g")
    interaction: Annotated[TransitionsSpec | GridPairsSpec, Field(discriminator="kind")] | None = Field(
        None, description="h; null is 0"
    )

    def build(self, space: Space) -> StructuredEnergy:
        """Makes the energy, with freshly drawn weights."""
        interaction = None if self.interaction is None else self.interaction.build(space)
        return StructuredEnergy(space, self.unary.build(space), interaction)


class DeepSetSpec(Config):
    """A `DeepSetEnergy` of two MLPs."""

    kind: Literal["deep-set"] = "deep-set"
    phi: tuple[Width, ...] = Field(description="widths of the hidden layers of phi")
    num_features: Width = Field(description="width of the output of phi, which is summed")
    rho: tuple[Width, ...] = Field(description="widths of the hidden layers of rho")
    activation: Activation = Field("elu", description="elu or silu")

    def build(self, space: Space) -> DeepSetEnergy:
        """Makes the energy, with freshly drawn weights."""
        width = sum(math.prod(block.position_shape[1:]) for block in space.values())
        phi = MLP(width, self.phi, self.num_features, activation=self.activation)
        return DeepSetEnergy(space, phi, MLP(self.num_features, self.rho, activation=self.activation))


class IsingSpec(Config):
    """An `IsingEnergy`."""

    kind: Literal["ising"] = "ising"
    coupling: float = Field(allow_inf_nan=False, description="J, nats per pair")
    field: float = Field(0.0, allow_inf_nan=False, description="h, nats per spin")

    def build(self, space: Space) -> IsingEnergy:
        """Makes the energy."""
        return IsingEnergy(space, coupling=self.coupling, field=self.field)


def _sequences(space: Space) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of y, (T, C), and of x, (T, *inputs); raises unless both are sequences of the same length."""
    y = [space[name].position_shape for name in space.discrete]
    x = [space[name].position_shape for name in space.continuous]
    if len(y) != 1 or len(x) != 1 or len(y[0]) != 2 or y[0][:1] != x[0][:1]:
        raise ValueError(
            f"per-place, transitions: need one continuous and one categorical block with the same number of places, got "
            f"{space}; write for example Space(image=Continuous((14, 16, 8)), letters=Categorical(27, (14,)))"
        )
    return y[0], x[0]
