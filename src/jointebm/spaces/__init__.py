"""Spaces: named, typed blocks of variables and their encoding."""

from jointebm.spaces.blocks import Binary, Block, Categorical, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space, image_block

__all__ = ["Binary", "Block", "Categorical", "Continuous", "Mask", "Noise", "Position", "Space", "image_block"]
