"""Sampling: runs of kernels (Algorithm 1), exact sums where the labels are few, and log Z by annealing."""

from jointebm.sampling.annealing import LogNormalizer, log_normalizer
from jointebm.sampling.diagnostics import Answer, ConvergenceWarning, Diagnostics, split_r_hat
from jointebm.sampling.enumeration import enumerate_log_density, evaluate_configurations, log_partition, marginalize
from jointebm.sampling.rank_diagnostics import Convergence, convergence_of, effective_draws
from jointebm.sampling.sample import Samples, Trajectory, run_chain, sample, sample_trajectory
from jointebm.sampling.tabulated import Tabulated

__all__ = [
    "Answer",
    "Convergence",
    "ConvergenceWarning",
    "Diagnostics",
    "LogNormalizer",
    "Samples",
    "Tabulated",
    "Trajectory",
    "convergence_of",
    "effective_draws",
    "enumerate_log_density",
    "evaluate_configurations",
    "log_normalizer",
    "log_partition",
    "marginalize",
    "run_chain",
    "sample",
    "sample_trajectory",
    "split_r_hat",
]
