"""References as plain data, so that model folders can rebuild them; read without torch: `build` imports the densities."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.references.any_order import AnyOrder
    from jointebm.references.marginals import Marginals
    from jointebm.references.mixture import Mixture
    from jointebm.spaces.space import Space

__all__ = ["AnyOrderSpec", "MarginalsSpec", "MixtureSpec", "ReferenceSpec", "spec_of"]


class MixtureSpec(Config):
    """A `Mixture`, but for its parameters.

    Example:
        >>> from jointebm.spaces import Categorical, Space
        >>> spec_of(MixtureSpec(num_components=3).build(Space(group=Categorical(4))))
        MixtureSpec(kind='mixture', num_components=3)
    """

    kind: Literal["mixture"] = "mixture"
    num_components: int = Field(ge=1, description="number of components")

    def build(self, space: "Space") -> "Mixture":
        """Makes a mixture whose parameters are those of a fresh one, for `load_state_dict`."""
        from jointebm.references.mixture import Mixture

        return Mixture(space, self.num_components)


class MarginalsSpec(Config):
    """A `Marginals`, but for its parameters.

    Example:
        >>> from jointebm.spaces import Binary, Space
        >>> spec_of(MarginalsSpec(num_gaussians=3).build(Space(bits=Binary(2))))
        MarginalsSpec(kind='marginals', num_gaussians=3)
    """

    kind: Literal["marginals"] = "marginals"
    num_gaussians: int = Field(1, ge=1, description="Gaussians per real")

    def build(self, space: "Space") -> "Marginals":
        """Makes marginals whose parameters are those of fresh ones, for `load_state_dict`."""
        from jointebm.references.marginals import Marginals

        return Marginals(space, self.num_gaussians)


class AnyOrderSpec(Config):
    """An `AnyOrder`, but for its parameters.

    Example:
        >>> from jointebm.spaces import Categorical, Space
        >>> spec = AnyOrderSpec(num_components=2, width=32, num_layers=1)
        >>> spec_of(spec.build(Space(group=Categorical((2, 3))))) == spec
        True
    """

    kind: Literal["any-order"] = "any-order"
    num_components: int = Field(ge=1, description="components of the mixture that the network starts from")
    width: int = Field(ge=1, description="hidden units of a layer, a multiple of 32")
    num_layers: int = Field(ge=1, description="hidden layers")

    def build(self, space: "Space") -> "AnyOrder":
        """Makes a network whose parameters are those of a fresh one, for `load_state_dict`."""
        from jointebm.references.any_order import AnyOrder

        return AnyOrder.untrained(space, self.num_components, width=self.width, num_layers=self.num_layers)


ReferenceSpec = Annotated[MixtureSpec | MarginalsSpec | AnyOrderSpec, Field(discriminator="kind")]
"""Any description of a reference; `kind` says which.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(ReferenceSpec).validate_json('{"kind": "mixture", "num_components": 4}').num_components
    4
"""


def spec_of(reference: object) -> "MixtureSpec | MarginalsSpec | AnyOrderSpec":
    """A reference as plain data, but for its parameters; `build` makes one to load them into.

    Raises:
        TypeError: it is none of this library's references.
    """
    from jointebm.references.any_order import AnyOrder
    from jointebm.references.marginals import Marginals
    from jointebm.references.mixture import Mixture

    if isinstance(reference, Mixture):
        return MixtureSpec(num_components=reference.num_components)
    if isinstance(reference, Marginals):
        return MarginalsSpec(num_gaussians=len(reference.log_weights))
    if isinstance(reference, AnyOrder):
        network = reference.network
        return AnyOrderSpec(
            num_components=len(network.mixture.log_weights),
            width=len(network.bias),
            num_layers=len(network.weights) + 1,
        )
    raise TypeError(f"spec_of: got a {type(reference).__name__}, expected a Mixture, Marginals or AnyOrder")
