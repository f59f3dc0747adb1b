"""Exact and statistical tests of a kernel, for anyone who writes one."""

from jointebm.testing.invariance import Invariance, invariance_test
from jointebm.testing.transitions import (
    Transitions,
    detailed_balance_residual,
    stationarity_residual,
    target_probs,
    transition_matrix,
)

__all__ = [
    "Invariance",
    "Transitions",
    "detailed_balance_residual",
    "invariance_test",
    "stationarity_residual",
    "target_probs",
    "transition_matrix",
]
