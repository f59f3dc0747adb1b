"""Joint log-densities f(x, y) as networks, and the same as plain data."""

from typing import TYPE_CHECKING

from jointebm.energies.any_subset_specs import AnySubsetSpec, LevelConvSpec, LevelMLPSpec
from jointebm.energies.specs import (
    BilinearSpec,
    ConcatSpec,
    ConvSpec,
    EnergySpec,
    JEMSpec,
    MLPSpec,
    OwnSpec,
    ReferencedSpec,
)
from jointebm.energies.structured_specs import (
    DeepSetSpec,
    GridPairsSpec,
    IsingSpec,
    PerPixelSpec,
    PerPlaceSpec,
    StructuredSpec,
    TransitionsSpec,
)
from jointebm.importing import lazy_members

if TYPE_CHECKING:
    from jointebm.energies.any_subset import AnySubsetEnergy
    from jointebm.energies.bilinear import BilinearEnergy
    from jointebm.energies.composition import ConditionalEnergy, WeightedSum
    from jointebm.energies.concat import ConcatEnergy
    from jointebm.energies.deep_sets import DeepSetEnergy, PerItem
    from jointebm.energies.interactions import GridPairs, Transitions
    from jointebm.energies.ising import IsingEnergy
    from jointebm.energies.jem import JEMEnergy
    from jointebm.energies.level_networks import LevelConv, LevelMLP
    from jointebm.energies.networks import MLP, ConvEncoder
    from jointebm.energies.referenced import Referenced, start_at_zero
    from jointebm.energies.structured import StructuredEnergy
    from jointebm.energies.unaries import PerPixel, PerPlace

__all__ = [
    "MLP",
    "AnySubsetEnergy",
    "AnySubsetSpec",
    "BilinearEnergy",
    "BilinearSpec",
    "ConcatEnergy",
    "ConcatSpec",
    "ConditionalEnergy",
    "ConvEncoder",
    "ConvSpec",
    "DeepSetEnergy",
    "DeepSetSpec",
    "EnergySpec",
    "GridPairs",
    "GridPairsSpec",
    "IsingEnergy",
    "IsingSpec",
    "JEMEnergy",
    "JEMSpec",
    "LevelConv",
    "LevelConvSpec",
    "LevelMLP",
    "LevelMLPSpec",
    "MLPSpec",
    "OwnSpec",
    "PerItem",
    "PerPixel",
    "PerPixelSpec",
    "PerPlace",
    "PerPlaceSpec",
    "Referenced",
    "ReferencedSpec",
    "StructuredEnergy",
    "StructuredSpec",
    "Transitions",
    "TransitionsSpec",
    "WeightedSum",
    "start_at_zero",
]

if not TYPE_CHECKING:  # these import torch
    __getattr__, __dir__ = lazy_members(__name__, __all__)
