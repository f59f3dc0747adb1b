"""Sampling: runs of kernels (Algorithm 1), and exact sums where the labels are few."""

from jointebm.sampling.sample import Samples, Trajectory, sample, sample_trajectory

__all__ = ["Samples", "Trajectory", "sample", "sample_trajectory"]
