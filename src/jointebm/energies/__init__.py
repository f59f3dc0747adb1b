"""Joint log-densities f(x, y) as networks, and the same as plain data.

Example:
    >>> import torch
    >>> from jointebm import Categorical, Continuous, Space, energies
    >>> space = Space(x=Continuous(2), y=Categorical(3))
    >>> f = energies.ConcatEnergy(space, energies.MLP(5, (16,)))
    >>> f({"x": torch.zeros(4, 2), "y": torch.eye(3)[[0, 1, 2, 0]]}).shape
    torch.Size([4])
"""

from typing import TYPE_CHECKING

from jointebm.energies.any_subset_specs import AnySubsetSpec, LevelConvSpec, LevelMLPSpec
from jointebm.energies.caption_specs import CaptionSpec
from jointebm.energies.network_specs import ConvSpec, MLPSpec
from jointebm.energies.picture_specs import PictureSpec
from jointebm.energies.specs import (
    BilinearSpec,
    ConcatSpec,
    EnergySpec,
    JEMSpec,
    OwnSpec,
    ReferencedSpec,
)
from jointebm.energies.structured_specs import (
    DeepSetSpec,
    GridPairsSpec,
    IsingSpec,
    LabelProductsSpec,
    PerPixelSpec,
    PerPlaceSpec,
    StructuredSpec,
    TransitionsSpec,
)
from jointebm.importing import lazy_members

if TYPE_CHECKING:
    from jointebm.energies.any_subset import AnySubsetEnergy
    from jointebm.energies.bilinear import BilinearEnergy
    from jointebm.energies.caption import CaptionEnergy
    from jointebm.energies.composition import ConditionalEnergy, WeightedSum
    from jointebm.energies.concat import ConcatEnergy
    from jointebm.energies.deep_sets import DeepSetEnergy, PerItem
    from jointebm.energies.interactions import GridPairs, LabelProducts, Transitions
    from jointebm.energies.ising import IsingEnergy
    from jointebm.energies.jem import JEMEnergy
    from jointebm.energies.level_networks import LevelConv, LevelMLP
    from jointebm.energies.networks import MLP, ConvEncoder
    from jointebm.energies.picture import PictureEnergy
    from jointebm.energies.referenced import Referenced, start_at_zero
    from jointebm.energies.structured import StructuredEnergy
    from jointebm.energies.unaries import PerPixel, PerPlace

__all__ = [
    "MLP",
    "AnySubsetEnergy",
    "AnySubsetSpec",
    "BilinearEnergy",
    "BilinearSpec",
    "CaptionEnergy",
    "CaptionSpec",
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
    "LabelProducts",
    "LabelProductsSpec",
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
    "PictureEnergy",
    "PictureSpec",
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
