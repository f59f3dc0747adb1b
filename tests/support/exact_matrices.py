"""Compares the transition matrix of a kernel with one that is written as loops."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from jointebm import Space
from jointebm.kernels import Kernel, LogDensity
from jointebm.spaces.space import Mask, Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.oracles import SmallSpace, clamp_patterns

Expected = Callable[[LogDensity, Space, Position, Mask], Tensor]


def matrix_error(kernel: Kernel, f: LogDensity, small: SmallSpace, expected: Expected | None = None) -> float:
    """How far the matrix is from detailed balance, from leaving exp f invariant, and from the expected one.

    Returns:
        The largest residual, whatever is clamped; NaN if a number of a matrix is.
    """
    _, position = transition_matrix(kernel, f, small.space, small.given)
    probs, errors = target_probs(f, position), []
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        errors += [detailed_balance_residual(matrix, probs), stationarity_residual(matrix, probs)]
        if expected is not None:
            errors.append(float((matrix - expected(f, small.space, position, free)).abs().max()))
    return float(torch.tensor(errors, dtype=torch.float64).max())


def differs(kernel: Kernel, f: LogDensity, space: Space, patterns: Iterable[Mask], expected: Expected) -> bool:
    """Whether the matrix is not the expected one, exp f is not invariant, or a walk through the kernel fails."""
    position = space.configurations(dtype=torch.float64)
    for free in patterns:
        try:
            matrix, _ = transition_matrix(kernel, f, space, free=free)
        except AssertionError:
            return True
        wrong_law = stationarity_residual(matrix, target_probs(f, position)) > 1e-6
        if wrong_law or float((matrix - expected(f, space, position, free)).abs().max()) > 1e-6:
            return True
    return False
