"""Kernels run (Algorithm 1), and exact sums where a run is unnecessary."""

from jointebm.sampling.sample import Samples, Trajectory, sample, sample_trajectory

__all__ = ["Samples", "Trajectory", "sample", "sample_trajectory"]
