"""Spaces: named, typed blocks of variables and their encoding."""

from jointebm.spaces.blocks import Binary, Block, Categorical, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space, Values, image_block
from jointebm.spaces.transforms import Identity, Logit, Transform

__all__ = [
    "Binary",
    "Block",
    "Categorical",
    "Continuous",
    "Identity",
    "Logit",
    "Mask",
    "Noise",
    "Position",
    "Space",
    "Transform",
    "Values",
    "image_block",
]
