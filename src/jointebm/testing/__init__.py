"""Exact and statistical tests of a kernel, for anyone who writes one.

Example:
    >>> from jointebm import Binary, Space, kernels, testing
    >>> space = Space(bits=Binary(2))
    >>> def f(position): return position["bits"].sum(dim=1)
    >>> matrix, states = testing.transition_matrix(kernels.Gibbs(space), f, space)
    >>> testing.stationarity_residual(matrix, testing.target_probs(f, states)) < 1e-12
    True
"""

from jointebm.testing.conditional import Redraw, Transition, conditional_path
from jointebm.testing.geweke import geweke_test
from jointebm.testing.invariance import Invariance, Statistics, invariance_test
from jointebm.testing.ising_closed_forms import (
    CRITICAL_COUPLING,
    ising_critical_square,
    ising_interaction,
    ising_log_partition,
    ising_magnetization,
)
from jointebm.testing.mixed_target import MixedTarget
from jointebm.testing.ranks import rank_test
from jointebm.testing.sequential import Verdict, sequential_test
from jointebm.testing.transitions import (
    TransitionMatrix,
    detailed_balance_residual,
    stationarity_residual,
    target_probs,
    transition_matrix,
)

__all__ = [
    "CRITICAL_COUPLING",
    "Invariance",
    "MixedTarget",
    "Redraw",
    "Statistics",
    "Transition",
    "TransitionMatrix",
    "Verdict",
    "conditional_path",
    "detailed_balance_residual",
    "geweke_test",
    "invariance_test",
    "ising_critical_square",
    "ising_interaction",
    "ising_log_partition",
    "ising_magnetization",
    "rank_test",
    "sequential_test",
    "stationarity_residual",
    "target_probs",
    "transition_matrix",
]
