"""Kernels run (Algorithm 1), and exact sums where a run is unnecessary."""

from jointebm.sampling.annealing import LogNormalizer, log_normalizer
from jointebm.sampling.sample import Samples, Trajectory, sample, sample_trajectory

__all__ = ["LogNormalizer", "Samples", "Trajectory", "log_normalizer", "sample", "sample_trajectory"]
