"""References: normalised densities that start chains, propose jumps and are the base of annealing."""

from jointebm.references.mixture import Mixture, choose_mixture
from jointebm.references.reference import Reference

__all__ = ["Mixture", "Reference", "choose_mixture"]
