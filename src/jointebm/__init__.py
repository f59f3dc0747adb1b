"""One energy-based model of the joint density of mixed continuous and discrete data."""

from jointebm import energies, kernels
from jointebm.blocks import Binary, Categorical, Continuous
from jointebm.buffer import ReplayBuffer
from jointebm.noise import Noise
from jointebm.sampling import sample, sample_trajectory
from jointebm.spaces import Space
