"""Specification of `DMALA`: the proposal of its formula, and the target left invariant, as transition matrices."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Continuous, Space
from jointebm.kernels import DMALA, ChromaticGibbs, LogDensity, adapt, evaluate
from jointebm.spaces.space import Mask, Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.exact_matrices import differs
from support.mutants import altered
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    SmallSpace,
    clamp_patterns,
    gradient_rows,
    labels_of,
    variables_of,
)

SOME = [
    small for small in SMALL_SPACES if small.name in ("bits", "ragged", "one-class-in-a-group", "continuous-between")
]


def dmala_matrix(f: LogDensity, space: Space, position: Position, free: Mask, step_size: float) -> Tensor:
    """By the formula, one pair of configurations after the other, for a mask that all rows share."""
    y = torch.cat([position[name].reshape(len(position[name]), -1) for name in space.discrete], dim=1).tolist()
    labels, (score, values) = labels_of(space, position).tolist(), gradient_rows(f, space, position)
    counts = [count for name in space.discrete for count in space.num_classes(name)]
    widths = [1 if isinstance(space[name], Binary) else k for name in space.discrete for k in space.num_classes(name)]
    first = [sum(widths[:v]) for v in range(len(widths))]
    may_move = variables_of(space, free, len(y)).tolist()
    q = [[0.0] * len(y) for _ in y]
    for i in range(len(y)):
        for j in range(len(y)):
            q[i][j] = 1.0
            for v, count in enumerate(counts):
                weights = []
                for k in range(count):
                    gain = score[i][first[v] + k] if widths[v] == count else k * score[i][first[v]]
                    weights.append(math.exp(gain / 2 - (k != labels[i][v]) / (2 * step_size)))
                if may_move[i][v]:
                    q[i][j] *= weights[labels[j][v]] / sum(weights)
                elif labels[i][v] != labels[j][v]:
                    q[i][j] = 0.0
    matrix = torch.zeros(len(y), len(y), dtype=torch.float64)
    for i in range(len(y)):
        for j in range(len(y)):
            if i != j and q[i][j]:
                matrix[i, j] = q[i][j] * min(1.0, math.exp(values[j] - values[i]) * q[j][i] / q[i][j])
        matrix[i, i] = 1 - matrix[i].sum()
    return matrix


@pytest.mark.parametrize("small", SOME, ids=str)
@pytest.mark.parametrize("step_size", [0.3, 5.0, math.inf])
def test_the_matrix_is_that_of_the_formula(small: SmallSpace, step_size: float) -> None:
    f, kernel = RandomLogDensity(small.space, 0), DMALA(small.space, step_size)
    matrix, position = transition_matrix(kernel, f, small.space, small.given)
    everything = {name: torch.tensor(True) for name in small.space.discrete}
    expected = dmala_matrix(f, small.space, position, everything, step_size)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("small", SOME, ids=str)
def test_satisfies_detailed_balance_whatever_is_clamped(small: SmallSpace) -> None:
    f, kernel = RandomLogDensity(small.space, 1), DMALA(small.space, 0.7)
    _, position = transition_matrix(kernel, f, small.space, small.given)
    probs = target_probs(f, position)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        assert detailed_balance_residual(matrix, probs) <= 1e-12


FAULTS = {
    "score not halved": {"table.spread(score) / 2": "table.spread(score)"},
    "a change costs twice": {"0.5 / self.step_size": "1 / self.step_size"},
    "staying costs too": {"(classes != labels[:, None])": "(classes >= 0)"},
    "clamp ignored": {
        "columns.join_free(free, len(chain.f))": "torch.ones(len(chain.f), columns.num_variables, dtype=torch.bool)"
    },
}


def is_found(kernel: DMALA) -> bool:
    """Whether the matrix of a kernel is not that of DMALA with step size .5, or a walk through it fails."""
    patterns = ({"bits": torch.tensor([True, False])}, {name: torch.tensor(True) for name in MIXED.space})
    return differs(
        kernel, RandomLogDensity(MIXED.space, 0), MIXED.space, patterns, partial(dmala_matrix, step_size=0.5)
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    """By the formula or by a clamp; the correction itself is that of `ChromaticGibbs`, whose mutants are in test_mutants."""
    assert is_found(altered(DMALA, FAULTS[fault])(MIXED.space, 0.5)) and not is_found(DMALA(MIXED.space, 0.5))


def test_with_infinite_step_size_it_proposes_by_half_the_score_of_one_colour() -> None:
    """On f linear in independent bits the chromatic kernel of one colour uses the whole score and accepts everything."""
    space = Space(bits=Binary(3))

    def f(position: Position) -> Tensor:
        return position["bits"] @ position["bits"].new_tensor([1.0, -2.0, 0.5])

    exact, _ = transition_matrix(ChromaticGibbs(space, {"bits": torch.zeros(3, dtype=torch.int64)}), f, space)
    matrix, position = transition_matrix(DMALA(space, math.inf), f, space)
    probs = target_probs(f, position)
    assert stationarity_residual(exact, probs) < 1e-12 and stationarity_residual(matrix, probs) < 1e-12
    assert float((exact - probs).abs().max()) < 1e-12 < float((matrix - probs).abs().max())


def test_adapt_tunes_the_step_size() -> None:
    space = Space(bits=Binary(40))

    def f(position: Position) -> Tensor:
        y = 2 * position["bits"] - 1
        return 0.3 * (y * y.roll(1, dims=1)).sum(dim=1)

    generator = torch.Generator().manual_seed(0)
    start = evaluate(f, {"bits": torch.zeros(100, 40)})
    adapted = adapt(DMALA(space, 0.05), f, start, num_steps=200, target_accept=0.7, generator=generator)
    assert adapted.accept_rate[0] == pytest.approx(0.7, abs=0.05)


def test_costs_one_evaluation_and_none_if_clamped() -> None:
    counted = Counted(RandomLogDensity(MIXED.space, 0), Passes())
    chain = evaluate(counted, MIXED.space.configurations(dtype=torch.float64))
    counted.passes.take()
    free, generator = {name: torch.tensor(True) for name in MIXED.space}, torch.Generator().manual_seed(0)
    chain, _ = DMALA(MIXED.space, 1.0).step(counted, chain, free=free, generator=generator)
    assert counted.passes.take() == (1, 1)
    same, _ = DMALA(MIXED.space, 1.0).step(counted, chain, free={}, generator=generator)
    assert same is chain and counted.passes.take() == (0, 0)


def test_refuses_a_step_size_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="DMALA: step_size must be a positive number, got 0"):
        DMALA(MIXED.space, 0)
    with pytest.raises(ValueError, match="DMALA: there is no discrete block"):
        DMALA(Space(x=Continuous()), 0.1)
