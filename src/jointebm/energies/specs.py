"""Energies as plain data, so that recipes can name them and model folders can rebuild them.

They are read and listed without torch: `build` imports the networks, and draws fresh weights.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jointebm.energies.any_subset_specs import AnySubsetSpec
from jointebm.energies.caption_specs import CaptionSpec
from jointebm.energies.network_specs import ConvSpec, MLPSpec, Width
from jointebm.energies.picture_specs import PictureSpec
from jointebm.energies.structured_specs import DeepSetSpec, IsingSpec, StructuredSpec
from jointebm.references.reference_specs import ReferenceSpec
from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.energies.bilinear import BilinearEnergy
    from jointebm.energies.concat import ConcatEnergy
    from jointebm.energies.jem import JEMEnergy
    from jointebm.energies.referenced import Referenced
    from jointebm.spaces.space import Space

__all__ = ["BilinearSpec", "ConcatSpec", "EnergySpec", "JEMSpec", "OwnSpec", "ReferencedSpec"]

_Scale = dict[str, float]


class ConcatSpec(Config):
    """A `ConcatEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> type(ConcatSpec(net=MLPSpec(hidden=(16,))).build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'ConcatEnergy'
    """

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
    """A `BilinearEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> spec = BilinearSpec(g=MLPSpec(hidden=(16,)), h=MLPSpec(hidden=(8,)), num_features=4)
        >>> type(spec.build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'BilinearEnergy'
    """

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
    """A `JEMEnergy`.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> type(JEMSpec(net=MLPSpec(hidden=(16,))).build(Space(x=Continuous(2), y=Categorical(3)))).__name__
        'JEMEnergy'
    """

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
    """An energy that is a module of your own, which no specification describes: such a model is not saved.

    Example:
        >>> from jointebm import Continuous, Space
        >>> OwnSpec(module="MyEnergy").build(Space(x=Continuous()))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: energy: MyEnergy is a module of your own; build it yourself and pass it as `energy` (of blocks x), or ...
    """

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
    ConcatSpec
    | BilinearSpec
    | JEMSpec
    | StructuredSpec
    | DeepSetSpec
    | IsingSpec
    | AnySubsetSpec
    | PictureSpec
    | CaptionSpec
    | ReferencedSpec,
    Field(discriminator="kind"),
]
"""Any description of an energy; `kind` says which.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(EnergySpec).validate_json('{"kind": "ising", "coupling": 0.4}')
    IsingSpec(kind='ising', coupling=0.4, field=0.0)
"""


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
