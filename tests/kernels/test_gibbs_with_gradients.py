"""Specification of `GibbsWithGradients`: exact in every small space, whatever is clamped, and cheap."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import GibbsWithGradients, evaluate
from jointebm.spaces.space import Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    Script,
    SmallSpace,
    clamp_patterns,
    gwg_matrix,
    gwg_proposal,
)

every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)


def all_free(space: Space) -> dict[str, Tensor]:
    return {name: torch.tensor(True) for name in space}


@every_space
def test_is_reversible_and_equals_equations_4_and_5_written_as_loops_whatever_is_clamped(small: SmallSpace) -> None:
    f, kernel = RandomLogDensity(small.space, 2), GibbsWithGradients(small.space)
    _, position = transition_matrix(kernel, f, small.space, small.given)
    probs = target_probs(f, position)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        assert detailed_balance_residual(matrix, probs) <= 1e-12
        assert stationarity_residual(matrix, probs) <= 1e-12
        torch.testing.assert_close(matrix, gwg_matrix(f, small.space, position, free), rtol=0, atol=1e-12)


def test_naming_blocks_is_clamping_the_others() -> None:
    space, f = MIXED.space, RandomLogDensity(MIXED.space, 7)
    named, _ = transition_matrix(GibbsWithGradients(space, blocks=("group", "bits")), f, space)
    free = {"bits": torch.tensor(True), "group": torch.tensor(True)}
    clamped, _ = transition_matrix(GibbsWithGradients(space), f, space, free=free)
    torch.testing.assert_close(named, clamped, rtol=0, atol=1e-14)


def test_reports_the_acceptance_probability_of_each_chain() -> None:
    space, f = Space(bits=Binary(2)), RandomLogDensity(Space(bits=Binary(2)), 8)
    position = space.configurations(dtype=torch.float64)
    free = all_free(space)
    script = Script(choices=[torch.zeros(4, dtype=torch.int64)], accepts=[False])
    chain, info = GibbsWithGradients(space).step(f, evaluate(f, position), free=free, generator=script)
    q, values = gwg_proposal(f, space, position, free), f(position).tolist()
    flipped = [2, 3, 0, 1]  # the first bit
    expected = [
        min(1.0, float(torch.tensor(values[j] - values[i]).exp()) * q[j][i] / q[i][j]) for i, j in enumerate(flipped)
    ]
    assert info.accept_prob.tolist() == pytest.approx(expected, rel=1e-6)
    assert not bool(info.accepted.any())
    assert torch.equal(chain.position["bits"], position["bits"])


def test_costs_one_evaluation_a_step_and_none_when_everything_is_clamped() -> None:
    space, generator = Space(y=Categorical(3), bits=Binary(2)), torch.Generator().manual_seed(0)
    counted = Counted(RandomLogDensity(space, 0), Passes())
    position, _ = space.clamp(None, num_chains=5, generator=generator, dtype=torch.float64)
    chain = evaluate(counted, position)
    assert counted.passes.take() == (1, 1)
    for _ in range(3):
        chain, _ = GibbsWithGradients(space).step(counted, chain, free=all_free(space), generator=generator)
    assert counted.passes.take() == (3, 3)
    clamped = {"y": torch.zeros(5, dtype=torch.bool), "bits": torch.tensor(False)}
    for free in (clamped, {}):
        same, info = GibbsWithGradients(space).step(counted, chain, free=free, generator=generator)
        assert same is chain
        assert not bool(info.accepted.any())
    assert counted.passes.take() == (0, 0)


def test_a_chain_without_a_score_is_scored_first() -> None:
    space, f = Space(y=Categorical(3)), RandomLogDensity(Space(y=Categorical(3)), 0)
    position, free = space.clamp(None, num_chains=50, generator=torch.Generator(), dtype=torch.float64)
    with_score, without = evaluate(f, position), evaluate(f, position, with_score=False)
    one, two = (
        GibbsWithGradients(space).step(f, chain, free=free, generator=torch.Generator().manual_seed(0))[0]
        for chain in (with_score, without)
    )
    assert torch.equal(one.position["y"], two.position["y"])
    assert torch.equal(one.f, two.f)


def test_a_proposal_where_the_log_density_is_not_a_number_is_never_accepted() -> None:
    space = Space(y=Categorical(3))

    def log_density(position: Position) -> Tensor:
        return torch.where(position["y"][:, 2] > 0.5, torch.nan, position["y"][:, 1])

    chain = evaluate(log_density, {"y": torch.eye(3)[[0, 1] * 100]})
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        chain, _ = GibbsWithGradients(space).step(log_density, chain, free=all_free(space), generator=generator)
    assert not bool(chain.position["y"][:, 2].any())


def test_refuses_blocks_that_do_not_exist_or_are_not_discrete() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    with pytest.raises(ValueError, match="no discrete block 'z'; this space has 'y'"):
        GibbsWithGradients(space, blocks=("z",))
    with pytest.raises(ValueError, match="no discrete block 'x'"):
        GibbsWithGradients(space, blocks=("x",))
    with pytest.raises(ValueError, match="there is no discrete block to move"):
        GibbsWithGradients(Space(x=Continuous(2)))
