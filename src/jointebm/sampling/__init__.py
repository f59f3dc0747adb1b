"""Sampling: runs of kernels (Algorithm 1), exact sums where the labels are few, and log Z by annealing."""

from jointebm.sampling.annealing import LogNormalizer, log_normalizer
from jointebm.sampling.diagnostics import Answer, ConvergenceWarning, Diagnostics, ExtrapolationWarning, split_r_hat
from jointebm.sampling.enumeration import enumerate_log_density, evaluate_configurations, log_partition, marginalize
from jointebm.sampling.rank_diagnostics import Convergence, convergence_of, effective_draws
from jointebm.sampling.sample import run_chain, sample, sample_trajectory
from jointebm.sampling.samples import Samples, Trajectory
from jointebm.sampling.tabulated import Tabulated
from jointebm.sampling.unvisited_modes import Unvisited, unvisited

__all__ = [
    "Answer",
    "Convergence",
    "ConvergenceWarning",
    "Diagnostics",
    "ExtrapolationWarning",
    "LogNormalizer",
    "Samples",
    "Tabulated",
    "Trajectory",
    "Unvisited",
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
    "unvisited",
]
