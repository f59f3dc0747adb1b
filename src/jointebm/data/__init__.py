"""Data sets: toy data, bundled digits, dSprites ellipses, MNIST; several have structured labels (docs/structured.md)."""

from jointebm.data.all_sprites import AllSprites, all_sprites
from jointebm.data.datasets import ArrayDataset, Dataset
from jointebm.data.digit_strips import digit_strips
from jointebm.data.digits import digits
from jointebm.data.dsprites import dsprites
from jointebm.data.generated_dataset import GeneratedDataset
from jointebm.data.ising_grids import IsingGrids
from jointebm.data.letters import letters
from jointebm.data.mnist import mnist
from jointebm.data.registry import DATASETS, open_dataset
from jointebm.data.scenes import CaptionedScenes
from jointebm.data.segmentation import segmentation
from jointebm.data.sets import Sets
from jointebm.data.toy import Toy

__all__ = [
    "DATASETS",
    "AllSprites",
    "ArrayDataset",
    "CaptionedScenes",
    "Dataset",
    "GeneratedDataset",
    "IsingGrids",
    "Sets",
    "Toy",
    "all_sprites",
    "digit_strips",
    "digits",
    "dsprites",
    "letters",
    "mnist",
    "open_dataset",
    "segmentation",
]
