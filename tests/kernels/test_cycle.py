"""Specification of `Cycle`: Algorithm 1, at 2 + 2 passes of a network and 1 + 1 of an encoder."""

from collections.abc import Callable

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import (
    MALA,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Info,
    Kernel,
    Langevin,
    Lazy,
    evaluate,
    parts_of,
    without_laziness,
)
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs
from jointebm.testing import transition_matrix as matrix_of
from support.oracles import (
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    SmallSpace,
    clamp_patterns,
    count_passes,
)

every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)


@every_space
def test_is_the_product_of_its_kernels_and_stationary_whatever_is_clamped(small: SmallSpace) -> None:
    space, f = small.space, RandomLogDensity(small.space, 0)
    kernels = (GibbsWithGradients(space), Gibbs(space))
    _, position = matrix_of(kernels[0], f, space, small.given)
    patterns = clamp_patterns(space, position)
    free = patterns.get("by-first-variable", patterns["all-free"])
    first, second = (matrix_of(kernel, f, space, small.given, free=free)[0] for kernel in kernels)
    both, _ = matrix_of(Cycle(kernels), f, space, small.given, free=free)
    torch.testing.assert_close(both, first @ second, rtol=0, atol=1e-12)
    assert stationarity_residual(both, target_probs(f, position)) <= 1e-12


def test_is_not_reversible() -> None:
    space = Space(y=Categorical((2, 3, 4)))
    f = RandomLogDensity(space, 1)
    matrix, position = matrix_of(Cycle((GibbsWithGradients(space), Gibbs(space))), f, space)
    assert detailed_balance_residual(matrix, target_probs(f, position)) > 1e-6


def test_a_clamped_continuous_kernel_changes_nothing() -> None:
    """Langevin draws no noise for a block that is clamped, so the cycle can be enumerated."""
    small = SMALL_SPACES[-1]
    f, moves = RandomLogDensity(small.space, 2), GibbsWithGradients(small.space)
    alone, _ = matrix_of(moves, f, small.space, small.given)
    cycle = Cycle((moves, Langevin("x", 0.5), MALA("z", 0.5)))
    together, _ = matrix_of(cycle, f, small.space, small.given)
    assert torch.equal(alone, together)


def test_a_joint_step_costs_two_forward_and_two_backward_passes() -> None:
    space, generator = SMALL_SPACES[-1].space, torch.Generator().manual_seed(0)
    counted = Counted(RandomLogDensity(space, 0), Passes())
    position, free = space.clamp(None, num_chains=7, generator=generator, dtype=torch.float64)
    kernel = Cycle((GibbsWithGradients(space), Langevin("x", 0.1)))
    chain = evaluate(counted, position)
    counted.passes.take()
    for _ in range(5):
        chain, _ = kernel.step(counted, chain, free=free, generator=generator)
        assert counted.passes.take() == (2, 2)


SPRITES = Space(image=Continuous((32, 32)), horizontal=Categorical(16), vertical=Categorical(16))


def sprites() -> tuple[ConcatEnergy, Passes, Passes]:
    """The dSprites energy of App. B.3.2, with the passes of its encoder and of its head."""
    torch.manual_seed(0)
    energy = ConcatEnergy(SPRITES, MLP(256 + 32, (64, 64), activation="silu"), encoder=ConvEncoder())
    assert energy.encoder is not None
    return energy, count_passes(energy.encoder), count_passes(energy.net[-1])


JOINT = Cycle((GibbsWithGradients(SPRITES), Langevin("image", 3e-3)))


def test_a_joint_step_costs_one_forward_and_one_backward_pass_of_the_encoder_and_two_of_the_head() -> None:
    energy, encoder, head = sprites()
    generator = torch.Generator().manual_seed(0)
    position, free = SPRITES.clamp(None, num_chains=3, generator=generator)
    chain = evaluate(energy, position)
    assert (encoder.take(), head.take()) == ((1, 0), (1, 1))
    for _ in range(4):
        chain, _ = JOINT.step(energy, chain, free=free, generator=generator)
        assert (encoder.take(), head.take()) == ((1, 1), (2, 2))


@pytest.mark.parametrize("moves", [GibbsWithGradients(SPRITES), Gibbs(SPRITES), Gibbs(SPRITES, scan="systematic")])
def test_while_x_is_clamped_the_encoder_never_runs_again(moves: Kernel) -> None:
    energy, encoder, _ = sprites()
    kernel, generator = Cycle((moves, Langevin("image", 3e-3))), torch.Generator().manual_seed(0)
    position, free = SPRITES.clamp({"image": torch.zeros(32, 32)}, num_chains=3, generator=generator)
    assert not bool(free["image"].any())
    chain = evaluate(energy, position)
    assert encoder.take() == (1, 0)
    for _ in range(4):
        chain, _ = kernel.step(energy, chain, free=free, generator=generator)
    assert encoder.take() == (0, 0)
    assert chain.position["image"] is position["image"]


@pytest.mark.parametrize("moves", [GibbsWithGradients(SPRITES), Gibbs(SPRITES)])
def test_with_mala_a_joint_step_costs_two_passes_of_the_encoder(moves: Kernel) -> None:
    """One for the proposal, and one for the rows where a rejection brought the old x back."""
    energy, encoder, _ = sprites()
    kernel, generator = Cycle((moves, MALA("image", 3e-3))), torch.Generator().manual_seed(0)
    position, free = SPRITES.clamp(None, num_chains=3, generator=generator)
    chain, _ = kernel.step(energy, evaluate(energy, position), free=free, generator=generator)
    encoder.take()
    chain, _ = kernel.step(energy, chain, free=free, generator=generator)
    assert encoder.take() == (2, 2)


def test_the_info_has_one_entry_per_kernel_and_nests() -> None:
    space, generator = Space(x=Continuous(), y=Categorical(3)), torch.Generator()
    f, kernel = RandomLogDensity(space, 0), Cycle((Gibbs(space), Cycle((MALA("x", 0.5), Langevin("x", 0.5)))))
    position, free = space.clamp(None, num_chains=4, generator=generator, dtype=torch.float64)
    _, info = kernel.step(f, evaluate(f, position), free=free, generator=generator)
    assert isinstance(info[0], Info)
    assert isinstance(info[1], tuple)
    assert [type(part) for part in info[1]] == [Info, Info]


def test_uses_the_score_if_any_of_its_kernels_does() -> None:
    space = Space(x=Continuous(), y=Categorical(3))
    assert not Cycle((Gibbs(space), Gibbs(space))).uses_score
    assert Cycle((Gibbs(space), Cycle((Gibbs(space), Langevin("x", 1.0))))).uses_score


def test_refuses_to_be_empty() -> None:
    with pytest.raises(ValueError, match="at least one kernel"):
        Cycle(())


def test_is_adjusted_if_all_of_its_kernels_are() -> None:
    space = Space(x=Continuous(), y=Binary())
    exact, langevin = (Gibbs(space), GibbsWithGradients(space), MALA("x", 0.1)), Langevin("x", 0.1)
    assert Cycle(exact).adjusted
    assert not Cycle((*exact, langevin)).adjusted
    assert not Cycle((Cycle(exact), Cycle((langevin,)))).adjusted
    assert Lazy(exact[0], 0.5).adjusted and not Lazy(langevin, 0.5).adjusted


@pytest.mark.parametrize("wrap", [lambda kernel: kernel, lambda k: Lazy(k, 0.5), lambda k: Cycle((Cycle((k,)),))])
def test_a_kernel_fits_the_spaces_that_have_its_block(wrap: Callable[[Kernel], Kernel]) -> None:
    space, other = Space(x=Continuous(), y=Binary()), Space(x=Binary(), y=Categorical(2), z=Continuous())
    for kernel in (Gibbs(space), GibbsWithGradients(space), MALA("x", 0.1), Langevin("x", 0.1)):
        wrap(kernel).require(space)
        with pytest.raises(ValueError, match=r"was made for a block 'y'|no continuous block 'x'"):
            wrap(kernel).require(other)


def test_without_laziness_every_part_moves_at_every_step() -> None:
    space = Space(x=Continuous(), y=Binary())
    gibbs, langevin = Gibbs(space), Langevin("x", 0.1)
    lazy = Cycle((Lazy(gibbs, 0.01), Cycle((Lazy(Lazy(gibbs, 0.5), 0.5), langevin))))
    assert without_laziness(lazy) == Cycle((gibbs, Cycle((gibbs, langevin))))
    assert without_laziness(langevin) is langevin
    assert parts_of(lazy) == (Lazy(gibbs, 0.01), Lazy(Lazy(gibbs, 0.5), 0.5), langevin)
