"""References as plain data, so that model folders can rebuild them."""

from typing import Annotated

from pydantic import Field

from jointebm.references.any_order import AnyOrderSpec
from jointebm.references.marginals import MarginalsSpec
from jointebm.references.mixture import MixtureSpec

__all__ = ["ReferenceSpec"]

ReferenceSpec = Annotated[MixtureSpec | MarginalsSpec | AnyOrderSpec, Field(discriminator="kind")]
