"""Joint log-densities f(x, y) as networks: the paper's forms."""

from jointebm.energies.bilinear import BilinearEnergy
from jointebm.energies.concat import ConcatEnergy
from jointebm.energies.jem import JEMEnergy
from jointebm.energies.networks import MLP, ConvEncoder
from jointebm.energies.specs import BilinearSpec, ConcatSpec, ConvSpec, EnergySpec, JEMSpec, MLPSpec

__all__ = [
    "MLP",
    "BilinearEnergy",
    "BilinearSpec",
    "ConcatEnergy",
    "ConcatSpec",
    "ConvEncoder",
    "ConvSpec",
    "EnergySpec",
    "JEMEnergy",
    "JEMSpec",
    "MLPSpec",
]
