"""The exact checks of discrete kernels reject a kernel with any one thing wrong."""

from collections.abc import Callable

import pytest
import torch

from jointebm import Space
from jointebm.kernels import ChromaticGibbs, Gibbs, GibbsWithGradients, Kernel
from jointebm.testing import stationarity_residual, target_probs, transition_matrix
from support.mutants import FAULTS, StateDependentCycle, mutant
from support.oracles import MIXED, RandomLogDensity, clamp_patterns


def of_one_colour(fault: str) -> Callable[[Space], Kernel]:
    colours = {name: torch.zeros(MIXED.space[name].variable_shape, dtype=torch.int64) for name in MIXED.space}
    return lambda space: mutant(ChromaticGibbs, fault)(space, colours)


DISCRETE: dict[str, Callable[[Space], Kernel]] = {
    **{
        f"{kind.__name__}: {fault}": mutant(kind, fault)
        for kind in (GibbsWithGradients, Gibbs)
        for fault in FAULTS[kind]
    },
    **{f"ChromaticGibbs: {fault}": of_one_colour(fault) for fault in FAULTS[ChromaticGibbs] if "sign" not in fault},
    "Cycle: order depends on the state": lambda space: StateDependentCycle(GibbsWithGradients(space), Gibbs(space)),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_mutants_are_rejected(name: str) -> None:
    """Under some clamp a mutant moves the target, moves what is held, or does not know where it is."""
    f, kernel = RandomLogDensity(MIXED.space, 1), DISCRETE[name](MIXED.space)
    position = MIXED.space.configurations(dtype=torch.float64)
    residuals = []
    for free in clamp_patterns(MIXED.space, position).values():
        try:
            matrix, _ = transition_matrix(kernel, f, MIXED.space, free=free)
        except AssertionError:
            return
        residuals.append(stationarity_residual(matrix, target_probs(f, position)))
    assert max(residuals) > 1e-6


def test_a_chromatic_score_that_is_wrong_costs_acceptance_and_nothing_else() -> None:
    """Stationary by the correction: here the score has the wrong sign."""
    f, kernel = RandomLogDensity(MIXED.space, 1), of_one_colour("score has the wrong sign")(MIXED.space)
    matrix, position = transition_matrix(kernel, f, MIXED.space)
    assert stationarity_residual(matrix, target_probs(f, position)) < 1e-12
