"""Specification of `log_normalizer`: mean weights are Z, errors are honest, and both directions bracket log Z."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import MALA, Chain, Gibbs, Kernel, Langevin, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.sampling import LogNormalizer, log_normalizer
from jointebm.sampling.enumeration import log_partition
from jointebm.spaces.space import Mask, Position
from support.exact_references import Components, gaussians, random_reference
from support.faulty_exchange import Still
from support.oracles import RandomLogDensity

BITS, PLANE = Space(bits=Binary(2), y=Categorical(3)), Space(x=Continuous(2))
SEEDS = range(200)


@dataclass(frozen=True)
class Misled(Kernel):
    """A kernel that moves for another log-density than it is asked for."""

    kernel: Kernel
    log_density: LogDensity

    uses_score = False
    adjusted = True

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> Any:  # noqa: ARG002
        return self.kernel.step(self.log_density, chain, free=free, generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs(f: LogDensity, q: Components, **settings: Any) -> list[LogNormalizer]:
    return [log_normalizer(f, q, generator=seeded(seed), **settings) for seed in SEEDS]


def num_outside(estimates: list[LogNormalizer], exact: float) -> int:
    """How many are more than three standard errors off."""
    return sum(abs(each.value - exact) > 3 * each.standard_error for each in estimates)


def z_score_of_mean_weight(estimates: list[LogNormalizer], exact: float) -> float:
    """How many standard errors the mean of Z over seeds is off: it is unbiased for any number of draws and rungs."""
    ratio = torch.tensor([each.value - exact for each in estimates], dtype=torch.float64).exp()
    return float((ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5))


@pytest.mark.parametrize("rungs", [None, (0, 1), (0, 0.2, 1)])
def test_the_reference_itself_has_no_variance(rungs: tuple[float, ...] | None) -> None:
    for space in (BITS, PLANE, Space(x=Continuous(), y=Categorical(3))):
        q = random_reference(space, 0)
        estimate = log_normalizer(
            lambda p, q=q: q.log_prob(p) + 3.25,
            q,
            num_draws=100,
            rungs=rungs,
            generator=seeded(0),  # type: ignore[misc]
        )
        assert max(abs(each - 3.25) for each in (estimate.value, estimate.upper)) < 1e-12
        assert estimate.standard_error < 1e-12
        assert estimate.ess == pytest.approx(100)


def test_without_moves_any_path_is_importance_sampling() -> None:
    """The weights telescope: sum over rungs of (b_k - b_(k-1)) u is u."""
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    one, many = (
        log_normalizer(f, q, rungs=rungs, kernel=Still(), num_draws=50, generator=seeded(0))
        for rungs in ((0, 1), (0, 0.1, 0.35, 0.8, 1))
    )
    assert many.value == pytest.approx(one.value, abs=1e-12)
    assert many.standard_error == pytest.approx(one.standard_error, abs=1e-12)
    u = torch.logsumexp(f(q.draw(50, seeded(0))) - q.log_prob(q.draw(50, seeded(0))), dim=0) - math.log(50)
    assert one.value == pytest.approx(float(u), abs=1e-12)


def test_importance_sampling_is_right_within_three_standard_errors() -> None:
    """200 seeds: .5 false alarms are expected of a normal error; more than 4 have probability 2e-4."""
    q, tilt = random_reference(BITS, 1), RandomLogDensity(BITS, 0)

    def f(position: Position) -> Tensor:
        return q.log_prob(position) + 0.2 * tilt(position)

    exact = float(log_partition(f, BITS, dtype=torch.float64))
    estimates = runs(f, q, num_draws=400)
    assert {each.method for each in estimates} == {"importance sampling"}
    assert num_outside(estimates, exact) <= 4
    assert abs(z_score_of_mean_weight(estimates, exact)) < 4
    assert num_outside(estimates, exact + 0.1) > 100


def test_annealing_is_right_within_three_standard_errors() -> None:
    """As above; few rungs and draws, so that an error in the weights would show. A misled kernel is found out."""
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    exact = float(log_partition(f, BITS, dtype=torch.float64))
    settings = {"num_draws": 200, "rungs": (0, 0.2, 1)}
    estimates = runs(f, q, kernel=Gibbs(BITS), **settings)
    assert num_outside(estimates, exact) <= 4
    assert abs(z_score_of_mean_weight(estimates, exact)) < 4
    misled = runs(f, q, kernel=Misled(Gibbs(BITS), lambda p: f({n: p[n] for n in BITS})), **settings)
    assert abs(z_score_of_mean_weight(misled, exact)) > 10


def test_both_directions_bracket_log_z() -> None:
    """In expectation, from exact draws of exp(f): mean over 200 seeds, in standard errors of that mean."""
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    exact = float(log_partition(f, BITS, dtype=torch.float64))
    every = BITS.configurations(dtype=torch.float64)
    target = Components(BITS, f(every).log_softmax(dim=0), every)
    lower, upper, errors = [], [], []
    for seed in SEEDS:
        draws = target.draw(50, seeded(1000 + seed))
        each = log_normalizer(
            f, q, num_draws=50, rungs=(0, 0.3, 1), kernel=Gibbs(BITS), draws=draws, generator=seeded(seed)
        )
        lower.append(each.value - exact)
        upper.append(each.upper - exact)
        errors.append((each.value - exact) / each.standard_error)
    low, high = torch.tensor(lower), torch.tensor(upper)
    assert float(low.mean()) < 2 * float(low.std()) / 200**0.5
    assert float(high.mean()) > -2 * float(high.std()) / 200**0.5
    assert sum(abs(error) > 3 for error in errors) <= 8  # 50 draws with an ess of about 10: heavier tails than normal
    assert float(high.mean() - low.mean()) > 0


def test_both_ends_agree_with_enumeration_as_often_as_they_should() -> None:
    """200 seeds of 400 draws: as above for each end, and for their difference by both errors."""
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    exact = float(log_partition(f, BITS, dtype=torch.float64))
    every = BITS.configurations(dtype=torch.float64)
    target = Components(BITS, f(every).log_softmax(dim=0), every)
    rungs, errors = (0, 0.1, 0.25, 0.5, 1), []
    for seed in SEEDS:
        draws = target.draw(400, seeded(1000 + seed))
        each = log_normalizer(f, q, num_draws=400, rungs=rungs, kernel=Gibbs(BITS), draws=draws, generator=seeded(seed))
        apart = (each.upper - each.value) / math.hypot(each.standard_error, each.upper_error)
        errors.append([(each.value - exact) / each.standard_error, (each.upper - exact) / each.upper_error, apart])
    off = torch.tensor(errors)
    assert ((off.abs() > 3).sum(dim=0) <= 5).all() and ((off.std(dim=0) - 1).abs() < 0.3).all()


def modes(position: Position) -> Tensor:
    """Two modes 8 apart with weights .7 and .3, one of them bent; not normalised."""
    x, y = position["x"].unbind(dim=1)
    one = -0.5 * (x / 0.6).square() - 0.5 * ((y - 0.3 * x.square()) / 0.4).square() + math.log(0.7)
    other = -0.5 * ((x - 8) / 0.5).square() - 0.5 * ((y - 3) / 0.7).square() + math.log(0.3)
    return torch.logaddexp(one, other) + 10


def quadrature(f: LogDensity) -> float:
    x, y = torch.linspace(-6, 14, 1201, dtype=torch.float64), torch.linspace(-5, 12, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(x, y)
    return float(f({"x": grid}).logsumexp(dim=0)) + math.log(float(x[1] - x[0]) * float(y[1] - y[0]))


def test_separate_modes_agree_with_quadrature() -> None:
    """Four seeds, each within four standard errors (false-alarm rate 3e-4 in all)."""
    exact = quadrature(modes)
    wide = gaussians(PLANE, [1.0], [[4.0, 2.0]], 5.0)
    near = gaussians(PLANE, [0.5, 0.5], [[0.0, 0.2], [8.0, 3.0]], 0.8)
    for seed in range(2):
        far = log_normalizer(modes, wide, num_draws=400, generator=seeded(seed))
        assert far.method == "annealed importance sampling" and far.ess > 100
        assert abs(far.value - exact) < 4 * far.standard_error < 0.4
        direct = log_normalizer(modes, near, num_draws=2000, generator=seeded(seed))
        assert direct.method == "importance sampling"
        assert abs(direct.value - exact) < 4 * direct.standard_error < 0.15
        assert abs(direct.upper - direct.value) < 0.1


def test_mixed_blocks_agree_with_a_sum_of_gaussians() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    target, q = random_reference(space, 2, spread=2), random_reference(space, 3, spread=2)
    narrow = Components(space, target.log_weights, target.centres, 0.3)
    estimate = log_normalizer(lambda p: narrow.log_prob(p) - 7, q, num_draws=800, generator=seeded(0))
    assert estimate.method == "annealed importance sampling"
    assert abs(estimate.value + 7) < 4 * estimate.standard_error < 0.4


def test_draws_of_the_target_uncover_a_mode_that_no_chain_reaches() -> None:
    """The value misses half of Z, with a small error; only the bracket says so."""
    q, both = gaussians(PLANE, [1.0], [[0.0, 0.0]], 1.0), gaussians(PLANE, [0.5, 0.5], [[0.0, 0.0], [60.0, 0.0]], 0.7)
    rungs, kernel = (0, 0.25, 0.5, 0.75, 1), MALA("x", 0.8)
    blind, seeing = (
        log_normalizer(both.log_prob, q, num_draws=400, rungs=rungs, kernel=kernel, draws=draws, generator=seeded(0))
        for draws in (None, both.draw(400, seeded(1)))
    )
    assert abs(blind.value - math.log(0.5)) < 0.1 and abs(blind.upper - math.log(0.5)) < 0.1
    assert abs(seeing.value - math.log(0.5)) < 0.1 and abs(seeing.upper) < 0.2


def test_one_draw_with_all_weight_has_an_infinite_error() -> None:
    q = gaussians(PLANE, [1.0], [[0.0, 0.0]], 1.0)
    spike = gaussians(PLANE, [1.0], [[30.0, 30.0]], 0.05)
    estimate = log_normalizer(spike.log_prob, q, num_draws=20, rungs=(0, 1), kernel=Still(), generator=seeded(0))
    assert estimate.standard_error == math.inf and estimate.ess == pytest.approx(1) and estimate.value < -100


def test_the_same_seed_gives_the_same_bits() -> None:
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    assert log_normalizer(f, q, num_draws=60, generator=seeded(3)) == log_normalizer(
        f, q, num_draws=60, generator=seeded(3)
    )


def test_states_of_zero_density_count_as_zero() -> None:
    space = Space(y=Categorical(4))
    q = random_reference(space, 0)

    def f(position: Position) -> Tensor:
        return torch.where(position["y"][:, 0] + position["y"][:, 1] > 0, -torch.inf, 0.5)

    for rungs in (None, (0, 0.5, 1)):
        estimate = log_normalizer(f, q, num_draws=1000, rungs=rungs, generator=seeded(0))
        assert abs(estimate.value - 0.5 - math.log(2)) < 4 * estimate.standard_error


def test_names_what_is_wrong() -> None:
    q = random_reference(BITS, 0)
    with pytest.raises(ValueError, match="num_draws"):
        log_normalizer(q.log_prob, q, num_draws=1, generator=seeded(0))
    with pytest.raises(ValueError, match="strictly increase"):
        log_normalizer(q.log_prob, q, rungs=(0, 0.5), generator=seeded(0))
    with pytest.raises(ValueError, match="no continuous block 'x'"):
        log_normalizer(q.log_prob, q, kernel=MALA("x", 0.1), generator=seeded(0))
    plane = random_reference(PLANE, 0)
    with pytest.raises(ValueError, match="Langevin is not adjusted"):
        log_normalizer(plane.log_prob, plane, kernel=Langevin("x", 0.1), generator=seeded(0))
    with pytest.raises(FloatingPointError, match="is not a number at draw 0"):
        log_normalizer(lambda p: q.log_prob(p) * torch.nan, q, generator=seeded(0))
    with pytest.raises(FloatingPointError, match="share no draw"):
        log_normalizer(lambda p: torch.full_like(q.log_prob(p), -torch.inf), q, generator=seeded(0))
