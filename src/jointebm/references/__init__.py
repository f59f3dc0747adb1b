"""References: normalised densities that start chains, propose jumps and are the base of annealing."""

from typing import TYPE_CHECKING

from jointebm.importing import lazy_members
from jointebm.references.reference_fits import MarginalsFit, MixtureFit, ReferenceFit
from jointebm.references.reference_specs import ReferenceSpec

if TYPE_CHECKING:
    from jointebm.references.any_order import AnyOrder
    from jointebm.references.marginals import Marginals
    from jointebm.references.mixture import Mixture, choose_mixture
    from jointebm.references.product_mixture import ProductMixture
    from jointebm.references.reference import Reference

__all__ = [
    "AnyOrder",
    "Marginals",
    "MarginalsFit",
    "Mixture",
    "MixtureFit",
    "ProductMixture",
    "Reference",
    "ReferenceFit",
    "ReferenceSpec",
    "choose_mixture",
]

if not TYPE_CHECKING:  # these import torch
    __getattr__, __dir__ = lazy_members(__name__, __all__)
