"""References: normalised densities that start chains, propose jumps and are the base of annealing."""

from jointebm.references.any_order import AnyOrder
from jointebm.references.marginals import Marginals
from jointebm.references.mixture import Mixture, choose_mixture
from jointebm.references.product_mixture import ProductMixture
from jointebm.references.reference import Reference
from jointebm.references.reference_specs import ReferenceSpec

__all__ = ["AnyOrder", "Marginals", "Mixture", "ProductMixture", "Reference", "ReferenceSpec", "choose_mixture"]
