"""Fits of references to rows, as plain data in a recipe; read without torch: `fit` imports the densities."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jointebm.references.mixture_sizes import MIXTURE_SIZES
from jointebm.storage.config import Config

if TYPE_CHECKING:
    from jointebm.randomness.draws import Generator
    from jointebm.references.marginals import Marginals
    from jointebm.references.mixture import Mixture
    from jointebm.spaces.space import Position, Space

__all__ = ["MarginalsFit", "MixtureFit", "ReferenceFit"]


def _as_candidates(value: Any) -> Any:
    """Lets one number of components stand for a single candidate, and takes a list, as JSON has it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class MixtureFit(Config):
    """Fits a `Mixture` by EM, with the number of components that has the largest log-density on held-out rows.

    Example:
        >>> import torch
        >>> from jointebm.spaces import Continuous, Space
        >>> space, generator = Space(point=Continuous()), torch.Generator().manual_seed(0)
        >>> values = torch.randn(400, generator=generator) + 9 * (torch.arange(400) % 2)
        >>> rows, held_out = ({"point": part} for part in values.split([300, 100]))
        >>> MixtureFit(num_components=(1, 2)).fit(space, rows, held_out, generator).num_components
        2
    """

    kind: Literal["mixture"] = "mixture"
    num_components: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), BeforeValidator(_as_candidates)
    ] = Field(MIXTURE_SIZES, description="candidate numbers of components, or one number")
    label: str | None = Field(
        None,
        description="a label of one variable: each of its classes has as many components of its own; null: they share",
    )
    max_rows: int = Field(10_000, ge=1, description="rows that it is fitted to, at most")

    def fit(self, space: "Space", rows: "Position", held_out: "Position", generator: "Generator") -> "Mixture":
        """Fits candidates of growing size; stops after two without improvement (see `choose_mixture`)."""
        from jointebm.references.mixture import choose_mixture

        some = {name: value[: self.max_rows] for name, value in rows.items()}
        return choose_mixture(
            space, some, held_out, generator=generator, candidates=self.num_components, label=self.label
        ).mixture


class MarginalsFit(Config):
    """Fits `Marginals`, a product of independent marginals, for images with many reals.

    Example:
        >>> import torch
        >>> from jointebm.spaces import Binary, Space
        >>> rows = {"bit": torch.tensor([1.0, 1.0, 0.0, 1.0])}
        >>> marginals = MarginalsFit().fit(Space(bit=Binary()), rows, rows, torch.Generator())
        >>> bool(marginals.log_prob({"bit": torch.ones(1)}).exp() > 0.6)
        True
    """

    kind: Literal["marginals"] = "marginals"
    num_gaussians: int = Field(3, ge=1, description="Gaussians of each real")
    max_rows: int = Field(10_000, ge=1, description="rows that they are fitted to, at most")

    def fit(self, space: "Space", rows: "Position", held_out: "Position", generator: "Generator") -> "Marginals":  # noqa: ARG002
        """Fits each marginal to its observed entries; there is nothing to choose and nothing to draw."""
        from jointebm.references.marginals import Marginals

        return Marginals.fit(space, {name: value[: self.max_rows] for name, value in rows.items()}, self.num_gaussians)


def _by_kind(value: Any) -> Any:
    """Lets a kind stand for the fit with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


ReferenceFit = Annotated[MixtureFit | MarginalsFit, Field(discriminator="kind"), BeforeValidator(_by_kind)]
"""Any way to fit a reference; `kind` says which, and a kind alone stands for its defaults.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(ReferenceFit).validate_json('"marginals"')
    MarginalsFit(kind='marginals', num_gaussians=3, max_rows=10000)
"""
