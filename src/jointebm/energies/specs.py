"""Energies as plain data, so that recipes can name them and model folders can rebuild them.

They are read and listed without torch: `build` imports the networks, and draws fresh weights.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from jointebm.energies.activation import Activation
from jointebm.energies.any_subset_specs import AnySubsetSpec
from jointebm.energies.structured_specs import DeepSetSpec, IsingSpec, StructuredSpec, Width
from jointebm.references.reference_specs import ReferenceSpec
from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.energies.bilinear import BilinearEnergy
    from jointebm.energies.concat import ConcatEnergy
    from jointebm.energies.jem import JEMEnergy
    from jointebm.energies.networks import MLP, ConvEncoder
    from jointebm.energies.referenced import Referenced
    from jointebm.spaces.space import Space

__all__ = ["BilinearSpec", "ConcatSpec", "ConvSpec", "EnergySpec", "JEMSpec", "MLPSpec", "OwnSpec", "ReferencedSpec"]

_Scale = dict[str, float]


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
    """A `ConvEncoder` of square images."""

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


class ConcatSpec(Config):
    """A `ConcatEnergy`."""

    kind: Literal["concat"] = "concat"
    net: MLPSpec = Field(description="network over concat(h(x), y)")
    encoder: ConvSpec | None = Field(None, description="h; null is the identity")
    scale: _Scale = Field(default_factory=dict, description="per block, factor on the network's input")
    output_scale: float = Field(1.0, gt=0, description="factor on the network's output")

    def build(self, space: "Space") -> "ConcatEnergy":
        from jointebm.energies.concat import ConcatEnergy

        net = self.net.build(_width_of_h(space, self.encoder) + _width(space, space.discrete), 1)
        encoder = None if self.encoder is None else self.encoder.build()
        return ConcatEnergy(space, net, encoder=encoder, scale=self.scale, output_scale=self.output_scale)


class BilinearSpec(Config):
    """A `BilinearEnergy`."""

    kind: Literal["bilinear"] = "bilinear"
    g: MLPSpec = Field(description="network of x")
    h: MLPSpec = Field(description="network of y")
    num_features: Width = Field(description="length of the inner product")
    scale: _Scale = Field(default_factory=dict, description="per block, factor on the network's input")

    def build(self, space: "Space") -> "BilinearEnergy":
        from jointebm.energies.bilinear import BilinearEnergy

        g = self.g.build(_width(space, space.continuous), self.num_features)
        h = self.h.build(_width(space, space.discrete), self.num_features)
        return BilinearEnergy(space, g, h, scale=self.scale)


class JEMSpec(Config):
    """A `JEMEnergy`."""

    kind: Literal["jem"] = "jem"
    net: MLPSpec = Field(description="network from h(x) to one logit per class")
    encoder: ConvSpec | None = Field(None, description="h; null is the identity")
    scale: _Scale = Field(default_factory=dict, description="per continuous block, factor on the network's input")
    logit_scale: float = Field(1.0, gt=0, description="factor on the logits")
    shared: ConcatSpec | None = Field(None, description="energy of x alone, which all classes share; null: none")

    def build(self, space: "Space") -> "JEMEnergy":
        from jointebm.energies.jem import JEMEnergy

        net = self.net.build(_width_of_h(space, self.encoder), _width(space, space.discrete))
        encoder = None if self.encoder is None else self.encoder.build()
        shared = None
        if self.shared is not None:
            shared = self.shared.build(type(space)(**{name: space[name] for name in space.continuous}))
        return JEMEnergy(space, net, encoder=encoder, scale=self.scale, logit_scale=self.logit_scale, shared=shared)


class OwnSpec(Config):
    """An energy that is a module of your own, which no specification describes: such a model is not saved."""

    kind: Literal["own"] = "own"
    module: str = Field(max_length=200, description="name of its class")

    def build(self, space: "Space") -> "ConcatEnergy":
        """Raises ValueError: nothing here can make it."""
        raise ValueError(
            f"energy: {self.module} is a module of your own; build it yourself and pass it as `energy` (of blocks "
            f"{', '.join(space)}), or describe it by a spec of jointebm.energies"
        )


class ReferencedSpec(Config):
    """A `Referenced`: log q + residual.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.references.reference_specs import MixtureSpec
        >>> spec = ReferencedSpec(reference=MixtureSpec(num_components=4), residual=ConcatSpec(net=MLPSpec(hidden=(16,))))
        >>> type(spec.build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'Referenced'
    """

    kind: Literal["referenced"] = "referenced"
    reference: ReferenceSpec = Field(description="q")
    residual: Annotated[
        ConcatSpec | BilinearSpec | JEMSpec | StructuredSpec | DeepSetSpec | IsingSpec | OwnSpec,
        Field(discriminator="kind"),
    ] = Field(description="added to log q; zero before training")
    with_labels: bool = Field(
        True, description="whether log q(y | x) is part of f; else y is uniform but for the residual"
    )

    def build(self, space: "Space") -> "Referenced":
        """Makes the energy with an unfitted reference, and a residual that is zero."""
        from jointebm.energies.referenced import Referenced, start_at_zero

        residual = start_at_zero(self.residual.build(space))
        return Referenced(self.reference.build(space), residual, with_labels=self.with_labels)


EnergySpec = Annotated[
    ConcatSpec | BilinearSpec | JEMSpec | StructuredSpec | DeepSetSpec | IsingSpec | AnySubsetSpec | ReferencedSpec,
    Field(discriminator="kind"),
]


def _width(space: "Space", names: tuple[str, ...]) -> int:
    return sum(math.prod(space[name].position_shape) for name in names)


def _width_of_h(space: "Space", encoder: ConvSpec | None) -> int:
    """Width of h(x); raises if the encoder is made for images of another shape."""
    if encoder is None:
        return _width(space, space.continuous)
    for name in space.continuous:
        shape = space[name].variable_shape
        if shape != (encoder.side, encoder.side):
            raise ValueError(
                f"encoder: needs images of shape {(encoder.side, encoder.side)} (side {encoder.side}), but block {name!r} "
                f"has shape {shape}"
            )
    return encoder.num_features
