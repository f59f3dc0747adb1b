"""Specification of `HammingBall`: its matrix is that of the definition, reversible, whatever is clamped."""

import math
from functools import partial
from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from jointebm import Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import Gibbs, HammingBall, LogDensity, evaluate
from jointebm.spaces.space import Mask, Position
from jointebm.testing import detailed_balance_residual, target_probs, transition_matrix
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
    count_passes,
    labels_of,
    random_scan_matrix,
    variables_of,
)

SOME = [small for small in SMALL_SPACES if small.name in ("bits", "shaped-categorical", "one-class-in-a-group")]


def ball_matrix(f: LogDensity, space: Space, position: Position, free: Mask, radius: int, size: int) -> Tensor:
    """By the definition: every set of variables, every centre, every draw. For a mask that all rows share."""
    labels, values = labels_of(space, position).tolist(), f(position).exp().tolist()
    free_variables = variables_of(space, free, len(labels))[0].nonzero().flatten().tolist()
    sets = list(combinations(free_variables, min(size, len(free_variables))))
    matrix = torch.zeros(len(labels), len(labels), dtype=torch.float64)

    def near(i: int, j: int, some: tuple[int, ...]) -> bool:
        differ = [v for v in range(len(labels[i])) if labels[i][v] != labels[j][v]]
        return set(differ) <= set(some) and len(differ) <= radius

    for some in sets:
        balls = [[j for j in range(len(labels)) if near(i, j, some)] for i in range(len(labels))]
        for i, u in product(range(len(labels)), range(len(labels))):
            if u in balls[i]:
                total = math.fsum(values[j] for j in balls[u])
                for j in balls[u]:
                    matrix[i, j] += values[j] / total / len(balls[i]) / len(sets)
    return matrix


@pytest.mark.parametrize("small", SOME, ids=str)
@pytest.mark.parametrize(("radius", "size"), [(1, 1), (1, 2), (2, 2), (2, 3)])
def test_the_matrix_is_that_of_the_definition(small: SmallSpace, radius: int, size: int) -> None:
    f, kernel = RandomLogDensity(small.space, 0), HammingBall(small.space, radius, size)
    matrix, position = transition_matrix(kernel, f, small.space, small.given)
    everything = {name: torch.tensor(True) for name in small.space.discrete}
    expected = ball_matrix(f, small.space, position, everything, radius, size)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_satisfies_detailed_balance_whatever_is_clamped(size: int) -> None:
    """Fewer variables are free than are drawn in some rows, and none in others."""
    space = next(small.space for small in SMALL_SPACES if small.name == "ragged")
    f, kernel, position = (
        RandomLogDensity(space, 1),
        HammingBall(space, 1, size),
        space.configurations(dtype=torch.float64),
    )
    for free in clamp_patterns(space, position).values():
        matrix, _ = transition_matrix(kernel, f, space, free=free)
        assert detailed_balance_residual(matrix, target_probs(f, position)) <= 1e-12


def test_one_variable_whose_ball_is_everything_is_random_scan_gibbs() -> None:
    f = RandomLogDensity(MIXED.space, 1)
    matrix, position = transition_matrix(HammingBall(MIXED.space, 1, 1), f, MIXED.space)
    everything = {name: torch.tensor(True) for name in MIXED.space}
    expected = random_scan_matrix(f, MIXED.space, position, everything)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix, transition_matrix(Gibbs(MIXED.space), f, MIXED.space)[0], rtol=0, atol=1e-12)


FAULTS = {
    "centre is the present place": {"(labels + offsets[choose(log_uniform, generator)])": "(labels + 0 * offsets[:1])"},
    "another radius": {
        "_offsets(len(some), columns.max_classes, self.radius,": "_offsets(len(some), columns.max_classes, 2,"
    },
    "members that do not exist": {"f = f.masked_fill(~inside, -torch.inf)": "f = f + 0 * inside"},
    "clamp ignored": {
        "columns.join_free(free, len(chain.f))": "torch.ones(len(chain.f), columns.num_variables, dtype=torch.bool)"
    },
    "draws at temperature 2": {"choose(f, generator)": "choose(f / 2, generator)"},
    "stale f": {"f_moved, None,": "chain.f, None,"},
    "variables drawn twice": {"waiting.scatter(1, variable[:, None], False)": "waiting"},
}


def is_found(kernel: HammingBall) -> bool:
    """Whether the matrix of a kernel is not that of radius 1 and 2 variables, or a walk through it fails."""
    patterns = ({"group": torch.tensor([True, False])}, {name: torch.tensor(True) for name in MIXED.space})
    expected = partial(ball_matrix, radius=1, size=2)
    return differs(kernel, RandomLogDensity(MIXED.space, 0), MIXED.space, patterns, expected)


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    assert is_found(altered(HammingBall, FAULTS[fault])(MIXED.space, 1, 2)) and not is_found(
        HammingBall(MIXED.space, 1, 2)
    )


def test_costs_one_batch_without_gradient_and_no_encoder_pass() -> None:
    torch.manual_seed(0)
    space, generator = Space(x=Continuous((8, 8)), y=Categorical(3, (4,))), torch.Generator().manual_seed(0)
    energy = ConcatEnergy(space, MLP(8 + 12, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    position, free = space.clamp(None, num_chains=6, generator=generator)
    chain, passes = evaluate(energy, position), count_passes(energy.encoder)  # type: ignore[arg-type]
    chain, _ = HammingBall(space, 2, 3).step(energy, chain, free=free, generator=generator)
    assert passes.take() == (0, 0)
    torch.testing.assert_close(chain.f, energy(chain.position).detach(), rtol=1e-5, atol=1e-6)
    counted = Counted(RandomLogDensity(MIXED.space, 0), Passes())
    chain = evaluate(counted, MIXED.space.configurations(dtype=torch.float64), with_score=False)
    counted.passes.take()
    HammingBall(MIXED.space).step(counted, chain, free={"bits": torch.tensor(True)}, generator=generator)
    assert counted.passes.take() == (1, 0)


def test_refuses_balls_that_do_not_fit() -> None:
    for radius, size in ((0, 2), (3, 2)):
        with pytest.raises(ValueError, match=f"needs 1 <= radius <= num_variables, got {radius} and {size}"):
            HammingBall(MIXED.space, radius, size)
    with pytest.raises(ValueError, match="have 1771561 neighbours within 6; at most 100000"):
        HammingBall(Space(y=Categorical(11, (6,))), 6, 6)
