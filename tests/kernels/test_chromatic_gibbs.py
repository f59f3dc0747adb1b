"""Specification of `ChromaticGibbs`: exact for any f and any colours; a sweep of Gibbs sampling where the colours fit."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, sample
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder, GridPairs, IsingEnergy, Transitions
from jointebm.kernels import ChromaticGibbs, Gibbs, LogDensity, evaluate
from jointebm.spaces.space import Mask, Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    AcceptAll,
    Counted,
    Passes,
    RandomLogDensity,
    Script,
    SmallSpace,
    clamp_patterns,
    count_passes,
    gibbs_matrices,
    split_variables,
)

SOME = [small for small in SMALL_SPACES if small.name in ("bits", "ragged", "continuous-between")]


def laid_out(space: Space, numbers: list[int]) -> dict[str, Tensor]:
    """Colours of all discrete variables side by side, per block."""
    return {name: part[0] for name, part in split_variables(space, torch.tensor([numbers])).items()}


def alternating(space: Space, num_colours: int) -> dict[str, Tensor]:
    count = sum(space[name].num_variables for name in space.discrete)
    return laid_out(space, [number % num_colours for number in range(count)])


class Pairwise:
    """f(y) = sum of a_v(y_v) + sum over pairs of different colours of b_vw(y_v, y_w), at random: what the colours fit."""

    def __init__(self, space: Space, colours: dict[str, Tensor], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        colour = torch.cat([colours[name].flatten() for name in space.discrete])
        widths = [
            1 if isinstance(space[name], Binary) else num for name in space.discrete for num in space.num_classes(name)
        ]
        of_column = colour.repeat_interleave(torch.tensor(widths))
        self.names = space.discrete
        self.linear = torch.randn(len(of_column), generator=generator, dtype=torch.float64)
        pairs = torch.randn(len(of_column), len(of_column), generator=generator, dtype=torch.float64)
        self.pairs = pairs * (of_column[:, None] != of_column)

    def __call__(self, position: Position) -> Tensor:
        y = torch.cat([position[name].reshape(len(position[name]), -1) for name in self.names], dim=1)
        return y @ self.linear + torch.einsum("ni,ij,nj->n", y, self.pairs, y)


def product_of_conditionals(
    f: LogDensity, space: Space, position: Position, free: Mask, colours: dict[str, Tensor]
) -> Tensor:
    """The matrix of drawing one variable after the other from its exact conditional, by colours."""
    matrices = gibbs_matrices(f, space, position, free)
    colour = torch.cat([colours[name].flatten() for name in space.discrete])
    expected = torch.eye(len(matrices[0]), dtype=torch.float64)
    for variable in colour.argsort(stable=True).tolist():
        expected = expected @ matrices[variable]
    return expected


@pytest.mark.parametrize("small", SOME, ids=str)
@pytest.mark.parametrize("num_colours", [2, 3])
def test_a_step_is_the_product_of_the_exact_conditionals_where_the_colours_fit(
    small: SmallSpace, num_colours: int
) -> None:
    colours = alternating(small.space, num_colours)
    f, kernel = Pairwise(small.space, colours, 0), ChromaticGibbs(small.space, colours)
    _, position = transition_matrix(Gibbs(small.space), f, small.space, small.given)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        expected = product_of_conditionals(f, small.space, position, free, colours)
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("small", SOME, ids=str)
@pytest.mark.parametrize("num_colours", [1, 2])
def test_any_f_is_stationary_with_any_colours_whatever_is_clamped(small: SmallSpace, num_colours: int) -> None:
    """f is not linear, and every variable meets every other."""
    f, kernel = RandomLogDensity(small.space, 1), ChromaticGibbs(small.space, alternating(small.space, num_colours))
    _, position = transition_matrix(Gibbs(small.space), f, small.space, small.given)
    probs = target_probs(f, position)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        assert stationarity_residual(matrix, probs) <= 1e-12
        if num_colours == 1:
            assert detailed_balance_residual(matrix, probs) <= 1e-12


def ising(rows: int, columns: int) -> tuple[IsingEnergy, Space]:
    space = Space(spins=Binary((rows, columns)))
    return IsingEnergy(space, coupling=0.4, field=0.2).double(), space


def board(rows: int, columns: int) -> Tensor:
    return (torch.arange(rows)[:, None] + torch.arange(columns)) % 2


def test_a_chessboard_fits_the_ising_model_and_stripes_do_not() -> None:
    """Right colours: the uncorrected sweep is stationary. Wrong ones: it is far off, and the correction sees it."""
    energy, space = ising(2, 4)
    start = evaluate(energy, space.configurations(dtype=torch.float64))
    probs, found = target_probs(energy, start.position), {}
    for name, colours in {"chessboard": board(2, 4), "stripes": torch.tensor([[0] * 4, [1] * 4])}.items():
        kernel = ChromaticGibbs(space, {"spins": colours})
        uncorrected, _ = transition_matrix(AcceptAll(kernel), energy, space)
        free, generator = {"spins": torch.tensor(True)}, torch.Generator().manual_seed(0)
        _, info = kernel.step(energy, start, free=free, generator=generator)
        found[name] = (stationarity_residual(uncorrected, probs), float(info.accept_prob.min()))
    assert found["chessboard"][0] < 1e-12 and found["chessboard"][1] > 1 - 1e-12
    assert found["stripes"][0] > 1e-3 and found["stripes"][1] < 0.5


@pytest.mark.parametrize("interaction", ["grid", "sequence"])
def test_nine_colours_fit_pixels_two_apart_and_three_fit_letters_two_apart(interaction: str) -> None:
    torch.manual_seed(0)
    if interaction == "grid":
        space, energy = Space(y=Binary((3, 4))), GridPairs(width=5).double()
        colours = 3 * (torch.arange(3)[:, None] % 3) + torch.arange(4) % 3
    else:
        space, energy = Space(y=Categorical(3, (5,))), Transitions(3, reach=2).double()
        colours = torch.arange(5) % 3
    torch.nn.init.normal_(energy.weight)  # type: ignore[arg-type]
    position, free = space.clamp(None, num_chains=50, generator=torch.Generator(), dtype=torch.float64)

    def f(position: Position) -> Tensor:
        return energy(position["y"])

    chain = evaluate(f, position)
    for _ in range(5):
        chain, info = ChromaticGibbs(space, {"y": colours}).step(f, chain, free=free, generator=torch.Generator())
        torch.testing.assert_close(info.accept_prob, torch.ones_like(info.accept_prob), rtol=0, atol=1e-10)


def test_costs_one_evaluation_per_colour_that_may_move() -> None:
    space, generator = MIXED.space, torch.Generator().manual_seed(0)
    counted, kernel = Counted(RandomLogDensity(space, 0), Passes()), ChromaticGibbs(space, alternating(space, 3))
    position, free = space.clamp(None, num_chains=6, generator=generator, dtype=torch.float64)
    chain = evaluate(counted, position)
    counted.passes.take()
    chain, _ = kernel.step(counted, chain, free=free, generator=generator)
    assert counted.passes.take() == (3, 3)
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[:, 1] = True  # of the second colour
    chain, _ = kernel.step(counted, chain, free=split_variables(space, mask), generator=generator)
    assert counted.passes.take() == (1, 1)
    same, info = kernel.step(counted, chain, free={}, generator=generator)
    assert same is chain and not bool(info.accepted.any())
    assert counted.passes.take() == (0, 0)


def test_an_encoder_is_not_run_again() -> None:
    torch.manual_seed(0)
    space, generator = Space(x=Continuous((8, 8)), y=Categorical(3), bits=Binary(3)), torch.Generator().manual_seed(0)
    energy = ConcatEnergy(space, MLP(8 + 6, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    position, free = space.clamp(None, num_chains=6, generator=generator)
    chain, passes = evaluate(energy, position), count_passes(energy.encoder)  # type: ignore[arg-type]
    kernel = ChromaticGibbs(space, {"y": torch.tensor(0), "bits": torch.arange(3)})
    chain, _ = kernel.step(energy, chain, free=free, generator=generator)
    assert passes.take() == (0, 0)
    torch.testing.assert_close(chain.f, energy(chain.position).detach(), rtol=1e-5, atol=1e-6)


def test_a_large_grid_in_single_precision_accepts_next_to_everything() -> None:
    """Rounding of f, some thousand nats, is all that the correction sees."""
    space = Space(spins=Binary((32, 32)))
    kernel = ChromaticGibbs(space, {"spins": board(32, 32)})
    samples = sample(
        IsingEnergy(space, coupling=0.6),
        space,
        kernel,
        num_chains=4,
        num_steps=20,
        generator=torch.Generator().manual_seed(0),
    )
    assert samples.accept_rate[0] > 0.999


def test_a_log_density_that_is_no_number_at_a_proposal_shows_in_accept_prob() -> None:
    space = Space(bits=Binary(2))

    def log_density(position: Position) -> Tensor:
        return torch.where(position["bits"].sum(dim=1) > 0, math.nan, 0.0) + 50 * position["bits"].sum(dim=1)

    chain = evaluate(log_density, {"bits": torch.zeros(1, 2)})
    chain = chain._replace(score=evaluate(lambda p: 50 * p["bits"].sum(dim=1), chain.position).score)
    kernel = ChromaticGibbs(space, {"bits": torch.tensor([0, 0])})
    moved, info = kernel.step(log_density, chain, free={"bits": torch.tensor(True)}, generator=torch.Generator())
    assert info.accept_prob.isnan().all() and not bool(info.accepted.any())
    assert torch.equal(moved.position["bits"], chain.position["bits"])


def test_refuses_colours_that_do_not_fit_the_space() -> None:
    space = Space(bits=Binary(3), x=Continuous())
    with pytest.raises(ValueError, match=r"colours of block 'bits': got torch.int64 of shape \(2,\), expected whole"):
        ChromaticGibbs(space, {"bits": torch.tensor([0, 1])})
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(3,\)"):
        ChromaticGibbs(space, {"bits": torch.zeros(3)})
    with pytest.raises(ValueError, match="ChromaticGibbs: there is no discrete block to move"):
        ChromaticGibbs(space, {})
    with pytest.raises(ValueError, match="'x'"):
        ChromaticGibbs(space, {"x": torch.tensor(0)})
    with pytest.raises(ValueError, match="ChromaticGibbs: was made for a block 'bits'"):
        sample(
            lambda position: position["bits"].sum(dim=1),
            Space(bits=Binary(4)),
            ChromaticGibbs(space, {"bits": torch.arange(3)}),
            num_chains=1,
            num_steps=1,
            generator=torch.Generator(),
        )


def verified(f: LogDensity, space: Space, **options: Any) -> ChromaticGibbs:
    generator = torch.Generator().manual_seed(0)
    position, _ = space.clamp(None, num_chains=3, generator=generator, dtype=torch.float64)
    return ChromaticGibbs.verified(space, f, position, generator=generator, **options)


def test_a_verified_kernel_is_the_sweep_of_exact_draws_without_correction() -> None:
    """Its matrix is the product of the Gibbs matrices in the order of colours, and accept has no part in it."""
    energy, space = ising(2, 4)
    kernel = verified(energy, space)
    matrix, position = transition_matrix(kernel, energy, space)
    single = gibbs_matrices(energy, space, position, {"spins": torch.tensor(True)})
    colours, expected = kernel.colours["spins"].flatten().tolist(), torch.eye(256, dtype=torch.float64)
    for number in sorted(range(8), key=lambda each: colours[each]):
        expected = expected @ single[number]
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)
    rejecting = Script(choices=[torch.zeros(1, 4, dtype=torch.int64)] * 2, accepts=[])
    chain = evaluate(energy, {"spins": torch.ones(1, 2, 4, dtype=torch.float64)})
    moved, _ = kernel.step(energy, chain, free={"spins": torch.tensor(True)}, generator=rejecting)
    assert not bool(moved.position["spins"].any()) and rejecting.log_ratios == []


def test_a_verified_kernel_corrects_for_any_other_log_density() -> None:
    energy, space = ising(2, 4)
    kernel, wrong = verified(energy, space), RandomLogDensity(space, 0)
    matrix, position = transition_matrix(kernel, wrong, space)
    assert stationarity_residual(matrix, target_probs(wrong, position)) < 1e-12
    object.__setattr__(kernel, "verified_for", wrong)  # without the check, it would not
    object.__setattr__(kernel, "sums", None)
    matrix, _ = transition_matrix(kernel, wrong, space)
    assert stationarity_residual(matrix, target_probs(wrong, position)) > 1e-3


@pytest.mark.parametrize("small", SOME, ids=str)
def test_a_verified_kernel_is_stationary_whatever_is_clamped(small: SmallSpace) -> None:
    f = Pairwise(small.space, alternating(small.space, 2), 0)
    kernel = verified(f, small.space)
    _, position = transition_matrix(Gibbs(small.space), f, small.space, small.given)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(kernel, f, small.space, small.given, free=free)
        assert stationarity_residual(matrix, target_probs(f, position)) <= 1e-12


def test_two_layers_of_a_boltzmann_machine_are_two_colours_in_two_blocks() -> None:
    space = Space(visible=Binary(3), hidden=Binary(2))
    weight = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def f(position: Position) -> Tensor:
        return ((position["visible"] @ weight) * position["hidden"]).sum(dim=1) + position["visible"].sum(dim=1)

    kernel = verified(f, space)
    of_visible, of_hidden = (set(kernel.colours[name].tolist()) for name in ("visible", "hidden"))
    assert len(of_visible) == len(of_hidden) == 1 and of_visible != of_hidden
    matrix, position = transition_matrix(kernel, f, space)
    assert stationarity_residual(matrix, target_probs(f, position)) < 1e-12


def test_refuses_to_verify_colours_that_do_not_fit() -> None:
    energy, space = ising(2, 4)
    stripes = torch.tensor([[0] * 4, [1] * 4])
    with pytest.raises(ValueError, match="variables 0 and 1, counted over spins, interact and have one colour, 0"):
        verified(energy, space, colours={"spins": stripes})
    assert verified(energy, space, colours={"spins": board(2, 4)}).verified_for is energy
    mixed = MIXED.space
    with pytest.raises(ValueError, match="f is not linear in variable 0 of block 'bits'"):
        verified(RandomLogDensity(mixed, 0), mixed)
