"""Specification of `Gibbs`: the exact conditional of one discrete variable, without any backward pass."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import Gibbs, evaluate
from jointebm.spaces.space import Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.exact_matrices import matrix_error
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    SmallSpace,
    clamp_patterns,
    count_passes,
    gibbs_matrices,
    random_scan_matrix,
)

every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)


@every_space
def test_random_scan_is_reversible_and_the_mean_of_the_exact_conditionals_whatever_is_clamped(
    small: SmallSpace,
) -> None:
    f = RandomLogDensity(small.space, 2)
    assert matrix_error(Gibbs(small.space), f, small, random_scan_matrix) <= 1e-12


@every_space
def test_systematic_scan_is_stationary_and_the_product_of_the_exact_conditionals(small: SmallSpace) -> None:
    f, kernel = RandomLogDensity(small.space, 3), Gibbs(small.space, scan="systematic")
    _, position = transition_matrix(kernel, f, small.space, small.given)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        assert stationarity_residual(matrix, target_probs(f, position)) <= 1e-12
        expected = torch.eye(len(matrix), dtype=torch.float64)
        for one_variable in gibbs_matrices(f, small.space, position, free):
            expected = expected @ one_variable
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


def test_a_forbidden_class_is_never_drawn() -> None:
    """f = -inf is a hard constraint; no class of probability zero is ever reached."""
    space = Space(y=Categorical(3), bit=Binary())

    def log_density(position: Position) -> Tensor:
        forbidden = (position["y"][:, 2] > 0.5) & (position["bit"] > 0.5)
        return torch.where(forbidden, -torch.inf, position["y"][:, 1])

    matrix, position = transition_matrix(Gibbs(space), log_density, space)
    probs = target_probs(log_density, position)
    assert probs[-1] == 0
    assert bool((matrix[:-1, -1] == 0).all())
    assert detailed_balance_residual(matrix, probs) <= 1e-12


def test_runs_no_backward_pass_and_one_batch_per_variable() -> None:
    space, generator = MIXED.space, torch.Generator().manual_seed(0)
    counted = Counted(RandomLogDensity(space, 0), Passes())
    position, free = space.clamp(None, num_chains=6, generator=generator, dtype=torch.float64)
    chain = evaluate(counted, position, with_score=False)
    assert counted.passes.take() == (1, 0)
    chain, _ = Gibbs(space).step(counted, chain, free=free, generator=generator)
    assert counted.passes.take() == (1, 0)
    chain, _ = Gibbs(space, scan="systematic").step(counted, chain, free=free, generator=generator)
    assert counted.passes.take() == (5, 0)
    assert not Gibbs(space).uses_score
    same, info = Gibbs(space).step(counted, chain, free={}, generator=generator)
    assert same is chain
    assert not bool(info.accepted.any())
    assert counted.passes.take() == (0, 0)


@pytest.mark.parametrize("known", [True, False])
def test_runs_an_encoder_at_most_once_and_never_backward(known: bool) -> None:
    """Also when the chain comes without its encoding, as after a MALA move."""
    torch.manual_seed(0)
    space, generator = Space(x=Continuous((8, 8)), y=Categorical(3), bits=Binary(3)), torch.Generator().manual_seed(0)
    energy = ConcatEnergy(space, MLP(8 + 6, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    passes = count_passes(energy.encoder)  # type: ignore[arg-type]
    position, free = space.clamp(None, num_chains=6, generator=generator)
    chain = evaluate(energy, position, with_score=False)
    if not known:
        chain = chain._replace(encoding=None)
    passes.take()
    chain, _ = Gibbs(space, scan="systematic").step(energy, chain, free=free, generator=generator)
    assert passes.take() == (0 if known else 1, 0)
    chain, _ = Gibbs(space).step(energy, chain, free=free, generator=generator)
    assert passes.take() == (0, 0)
    torch.testing.assert_close(chain.f, energy(chain.position).detach(), rtol=1e-5, atol=1e-6)


def test_refuses_an_unknown_scan() -> None:
    with pytest.raises(ValueError, match="scan must be 'random' or 'systematic', got 'both'"):
        Gibbs(MIXED.space, scan="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("scan", ["random", "systematic"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_log_density_that_is_no_number_at_a_candidate_shows_in_accept_prob(scan: str, bad: float) -> None:
    space = Space(y=Categorical(3))

    def log_density(position: Position) -> Tensor:
        return torch.where(position["y"][:, 2] > 0.5, bad, 0.0)

    chain = evaluate(log_density, {"y": torch.eye(3)[[0, 1]]}, with_score=False)
    free = {"y": torch.tensor([True, False])}
    _, info = Gibbs(space, scan=scan).step(  # type: ignore[arg-type]
        log_density, chain, free=free, generator=torch.Generator().manual_seed(0)
    )
    assert info.accept_prob.isnan().tolist() == [True, False]


@pytest.mark.parametrize("scan", ["random", "systematic"])
def test_more_classes_than_a_batch_holds_are_evaluated_in_several(scan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws, up to rounding of f; no batch holds more than the limit."""
    space = Space(x=Continuous(2), y=Categorical((7, 3)), bit=Binary())
    f, rows = RandomLogDensity(space, 0), []

    def counted(position: Position) -> Tensor:
        rows.append(len(position["x"]))
        return f(position)

    position, free = space.clamp(None, num_chains=20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = []
    for limit in (2**24, 20 * 13 * 2):  # a row has 13 entries
        monkeypatch.setattr("jointebm.kernels.gibbs.MAX_ENTRIES", limit)
        chain, generator = evaluate(counted, position, with_score=False), torch.Generator().manual_seed(1)
        rows.clear()
        for _ in range(3):
            chain, _ = Gibbs(space, scan=scan).step(counted, chain, free=free, generator=generator)  # type: ignore[arg-type]
        ends.append(chain)
        assert max(rows) == (20 * 7 if limit == 2**24 else 20 * 2)
    assert all(torch.equal(ends[0].position[name], ends[1].position[name]) for name in space)
    torch.testing.assert_close(ends[0].f, ends[1].f, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ends[1].f, f(ends[1].position), rtol=1e-12, atol=1e-12)


def test_chunks_are_exact() -> None:
    """The matrix with one class per batch is that of the definition."""
    space = Space(y=Categorical((4, 3)))
    f, kernel = RandomLogDensity(space, 0), Gibbs(space)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jointebm.kernels.gibbs.MAX_ENTRIES", 1)
        matrix, position = transition_matrix(kernel, f, space)
    expected = random_scan_matrix(f, space, position, {"y": torch.tensor(True)})
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_500_chains_of_labels_with_1_000_classes_end() -> None:
    """All classes of one step at once would be 2 * 10^9 numbers; a batch holds 2^24."""
    space = Space(y=Categorical(1000, 4))
    energy = ConcatEnergy(space, MLP(4000, (8,)))
    generator, largest = torch.Generator().manual_seed(0), []

    def f(position: Position) -> Tensor:
        largest.append(position["y"].numel())
        return energy(position)

    position, free = space.clamp(None, num_chains=500, generator=generator)
    with torch.no_grad():
        chain = evaluate(f, position, with_score=False)
        moved, _ = Gibbs(space).step(f, chain, free=free, generator=generator)
        changed = (moved.position["y"] != chain.position["y"]).any(dim=2).sum(dim=1)
        assert int(changed.max()) == 1 and int(changed.sum()) > 400
        torch.testing.assert_close(moved.f, energy(moved.position), rtol=1e-4, atol=1e-4)
    assert max(largest) <= 2**24
