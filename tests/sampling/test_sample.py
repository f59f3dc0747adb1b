"""Specification of `sample` and `sample_trajectory`: Algorithm 1 from noise, with any values clamped."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from jointebm import Binary, Categorical, Continuous, Noise, Space, kernels, sample, sample_trajectory
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import (
    MALA,
    Chain,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Info,
    Kernel,
    Langevin,
    LogDensity,
    evaluate,
)
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import begin_sampling
from jointebm.sampling.samples import Samples
from jointebm.spaces.space import Mask, Position
from support.generators import seeded
from support.oracles import GaussianMixture, RandomLogDensity

SPACE = Space(bits=Binary((2, 2)), x=Continuous(3), group=Categorical((2, 3)), z=Continuous(), y=Categorical(4))


class Confined:
    """A random log-density that falls off quadratically, so that Langevin chains stay where they can be compared."""

    def __init__(self) -> None:
        self.inner = RandomLogDensity(Space(**{name: SPACE[name] for name in SPACE.discrete}), seed=0)

    def __call__(self, position: Position) -> Tensor:
        x, z, y = position["x"], position["z"], position["y"]
        return self.inner(position) - (x - y[:, :3]).square().sum(dim=1) - (z - y[:, 3]).square()


LOG_DENSITY = Confined()
INIT = SPACE.clamp(None, num_chains=6, generator=seeded(9), dtype=torch.float64)[0]
KERNELS: dict[str, Kernel] = {
    "langevin": Cycle((GibbsWithGradients(SPACE), Langevin("x", 0.3), Langevin("z", 0.3))),
    "mala": Cycle((Gibbs(SPACE), MALA("x", 0.3), MALA("z", 0.3))),
    "labels only": GibbsWithGradients(SPACE),
    "nested": Cycle((Cycle((Gibbs(SPACE, ("y",)), Gibbs(SPACE, ("bits",)))), MALA("x", 0.3))),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def draw(kernel: Kernel = KERNELS["langevin"], **arguments: Any) -> Samples:
    settings: dict[str, Any] = {"num_chains": 6, "num_steps": 20, "init": INIT, "generator": seeded()}
    return sample(LOG_DENSITY, SPACE, kernel, **(settings | arguments))


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in SPACE)


# What comes out.


@every_kernel
def test_the_chain_that_comes_out_is_where_f_and_values_say(kernel: Kernel) -> None:
    samples = draw(kernel)
    torch.testing.assert_close(samples.chain.f, LOG_DENSITY(samples.chain.position), rtol=0, atol=1e-10)
    assert same(samples.values, SPACE.decode(samples.chain.position))
    assert samples.num_steps == 20
    assert samples.values["bits"].shape == (6, 2, 2) and samples.values["y"].dtype == torch.int64


def test_sampling_is_the_kernel_applied_again_and_again() -> None:
    kernel, generator = KERNELS["langevin"], seeded(3)
    position, free = SPACE.clamp({"y": 1}, num_chains=6, generator=generator, init=INIT)
    chain, accept_prob = evaluate(LOG_DENSITY, position), []
    for _ in range(7):
        chain, infos = kernel.step(LOG_DENSITY, chain, free=free, generator=generator)
        accept_prob.append([float(info.accept_prob.mean()) for info in infos])
    samples = draw(kernel, given={"y": 1}, num_steps=7, generator=seeded(3))
    assert same(samples.chain.position, chain.position)
    assert samples.accept_rate == pytest.approx(torch.tensor(accept_prob).mean(dim=0).tolist(), abs=1e-6)


def test_there_is_one_acceptance_rate_per_kernel_in_order() -> None:
    assert [len(draw(kernel).accept_rate) for kernel in KERNELS.values()] == [3, 3, 1, 3]
    unadjusted = draw(KERNELS["langevin"]).accept_rate
    assert 0 < unadjusted[0] < 1 and unadjusted[1:] == (1.0, 1.0)


@every_kernel
def test_the_generator_decides_and_nothing_else(kernel: Kernel) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = draw(kernel)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    two, other = draw(kernel), draw(kernel, generator=seeded(1))
    assert same(one.values, two.values) and torch.equal(one.chain.f, two.chain.f)
    assert not same(one.values, other.values)


# Clamping.

GIVEN = {
    "bits": [[[1, -1], [0, 1]]],
    "x": [[0.1, math.nan, -0.7], [math.nan] * 3, [1 / 3, 0.2, 0.3]] * 2,
    "y": [0, 1, -1, 3, -1, 2],
    "group": [1, -1],
}


@every_kernel
@pytest.mark.parametrize("num_steps", [0, 1, 50])
def test_a_clamped_entry_is_bit_identical_after_any_number_of_steps(kernel: Kernel, num_steps: int) -> None:
    start, free = SPACE.clamp(GIVEN, num_chains=6, generator=seeded(), init=INIT)
    samples = draw(kernel, given=GIVEN, num_steps=num_steps)
    for name, block in SPACE.items():
        clamped = ~block.expand(free[name]).expand_as(start[name])
        assert torch.equal(samples.chain.position[name][clamped], start[name][clamped])
    if num_steps == 50:  # what is free has moved
        assert not torch.equal(samples.chain.position["bits"], start["bits"])


def test_with_everything_given_nothing_moves_and_nothing_is_accepted() -> None:
    everything = SPACE.decode(INIT)
    samples = draw(KERNELS["mala"], given=everything)
    assert same(samples.chain.position, INIT)
    assert samples.accept_rate == (0.0, 0.0, 0.0)


# Where chains start.


def test_without_steps_the_samples_are_the_initial_positions() -> None:
    samples = draw(num_steps=0)
    assert same(samples.chain.position, INIT)
    assert samples.num_steps == 0 and samples.accept_rate == ()
    torch.testing.assert_close(samples.chain.f, LOG_DENSITY(INIT), rtol=0, atol=0)


def test_a_noise_is_drawn_with_the_same_generator() -> None:
    noise = Noise(SPACE, {name: value.double() for name, value in Noise.uniform(SPACE).parameters.items()})
    samples = draw(init=noise, num_steps=0, generator=seeded(5), given={"z": 3.0})
    expected = noise.draw(6, generator=seeded(5))
    assert torch.equal(samples.chain.position["x"], expected["x"]) and samples.values["z"].tolist() == [3.0] * 6


def test_by_default_chains_start_from_uniform_noise_that_knows_no_data() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    samples = sample(
        lambda position: 0 * position["x"][:, 0],
        space,
        Langevin("x", 0.1),
        num_chains=5,
        num_steps=0,
        generator=seeded(5),
    )
    expected, _ = space.clamp(None, num_chains=5, generator=seeded(5))
    assert all(torch.equal(samples.chain.position[name], expected[name]) for name in space)


def test_chains_from_noise_reach_a_known_distribution() -> None:
    """Labels and reals of 4,000 chains within 6 standard errors of the truth: 9 checks, each wrong in 2e-9 of all seeds."""
    mixture = GaussianMixture(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([-1.0, 0.0, 1.5]), 0.8)
    kernel = Cycle((Gibbs(mixture.space), MALA("x", 1.0)))
    samples = sample(mixture.log_density, mixture.space, kernel, num_chains=4000, num_steps=100, generator=seeded())
    x, y = samples.values["x"], samples.values["y"]
    for k in range(3):
        p, of_class = float(mixture.weights[k]), x[y == k]
        assert abs(len(of_class) / 4000 - p) < 6 * math.sqrt(p * (1 - p) / 4000)
        assert abs(float(of_class.mean() - mixture.means[k])) < 6 * 0.8 / math.sqrt(len(of_class))
        assert abs(float(of_class.var()) - 0.64) < 6 * 0.64 * math.sqrt(2 / len(of_class))


# Trajectories.


@pytest.mark.parametrize(("thin", "num_kept"), [(1, 20), (3, 6), (20, 1), (21, 0)])
@every_kernel
def test_a_trajectory_keeps_every_thin_th_state(kernel: Kernel, thin: int, num_kept: int) -> None:
    arguments: dict[str, Any] = {"num_chains": 6, "num_steps": 20, "init": INIT, "given": {"y": 1}}
    trajectory = sample_trajectory(LOG_DENSITY, SPACE, kernel, thin=thin, generator=seeded(), **arguments)
    assert same(trajectory.samples.chain.position, draw(kernel, given={"y": 1}).chain.position)
    assert trajectory.f.shape == (num_kept, 6)
    for name, block in SPACE.items():
        assert trajectory.values[name].shape == (num_kept, 6, *block.variable_shape)
        assert trajectory.values[name].dtype == trajectory.samples.values[name].dtype
    for kept in range(num_kept):
        stopped = draw(kernel, given={"y": 1}, num_steps=thin * (kept + 1))
        assert torch.equal(trajectory.f[kept], stopped.chain.f)
        assert all(torch.equal(trajectory.values[name][kept], stopped.values[name]) for name in SPACE)


def test_a_trajectory_without_steps_is_empty_and_ends_where_it_starts() -> None:
    trajectory = sample_trajectory(
        LOG_DENSITY, SPACE, KERNELS["langevin"], num_chains=6, num_steps=0, init=INIT, generator=seeded()
    )
    assert trajectory.f.shape == (0, 6) and trajectory.values["x"].shape == (0, 6, 3)
    assert same(trajectory.samples.chain.position, INIT)


# Ctrl-C.


@dataclass(frozen=True)
class Breaks(kernels.Kernel):
    """A kernel that does what another does, and something else at the given step."""

    kernel: Kernel
    at: int
    what: Callable[[Chain, Info], tuple[Chain, Info]]
    calls: list[int]

    @property
    def uses_score(self) -> bool:
        return self.kernel.uses_score

    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> Any:
        self.calls.append(1)
        moved, info = self.kernel.step(log_density, chain, free=free, generator=generator)
        return self.what(moved, info) if len(self.calls) == self.at else (moved, info)


def test_an_interrupt_between_two_steps_leaves_complete_chains_that_run_on() -> None:
    sampling = begin_sampling(
        *(LOG_DENSITY, SPACE, KERNELS["langevin"]), num_chains=6, given=None, init=INIT, generator=seeded(), thin=3
    )

    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampling.run(20, stop)
    trajectory = sampling.trajectory()
    assert same(trajectory.samples.values, draw(num_steps=7).values) and trajectory.samples.num_steps == 7
    assert trajectory.f.shape == (2, 6) and torch.equal(trajectory.f[1], draw(num_steps=6).chain.f)
    sampling.run(20)
    assert same(sampling.samples().values, draw(num_steps=20).values)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_exception_within_a_step_is_raised(error: BaseException) -> None:
    def what(*_: object) -> tuple[Chain, Info]:
        raise error

    with pytest.raises(type(error)):
        draw(Breaks(KERNELS["langevin"], 3, what, []))


# Nothing that is not finite comes out.


def with_entry(position: Position, block: str, value: float) -> dict[str, Tensor]:
    """The position with the first entry of row 4 changed."""
    changed = position[block].clone()
    changed[(4, *[0] * (changed.ndim - 1))] = value
    return {**position, block: changed}


NOT_FINITE = [(block, value) for block in ("x", "z") for value in (math.nan, math.inf, -math.inf)]


@pytest.mark.parametrize(("block", "value"), [*NOT_FINITE, ("bits", math.nan), ("group", math.nan)])
def test_a_start_that_is_not_finite_is_refused_by_block_and_row(block: str, value: float) -> None:
    with pytest.raises(FloatingPointError, match=f"block '{block}': not finite in row 4 at the start of the chains"):
        draw(init=with_entry(INIT, block, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_f_that_is_not_finite_at_the_start_is_refused_by_row(value: float) -> None:
    def log_density(position: Position) -> Tensor:
        return torch.where(position["x"][:, 0] == INIT["x"][4, 0], value, LOG_DENSITY(position))

    with pytest.raises(
        FloatingPointError, match=rf"log-density: f is {value} in row 4 at the start of the chains \(1 of 6"
    ):
        sample(log_density, SPACE, KERNELS["mala"], num_chains=6, num_steps=3, init=INIT, generator=seeded())


def test_a_chain_that_leaves_the_numbers_is_refused_by_block_and_row() -> None:
    def lost(chain: Chain, info: Info) -> tuple[Chain, Info]:
        return chain._replace(position=with_entry(chain.position, "x", math.nan)), info

    with pytest.raises(
        FloatingPointError, match=re.escape("block 'x': not finite in row 4 after 20 steps (1 of 6 rows)")
    ):
        draw(Breaks(KERNELS["labels only"], 20, lost, []))


def test_langevin_steps_that_explode_are_refused() -> None:
    with pytest.raises(FloatingPointError, match=r"not finite in row \d after 500 steps .*Try a smaller step size"):
        draw(Langevin("x", 3.0), num_steps=500)


def test_a_proposal_where_f_is_not_a_number_is_refused_though_it_was_never_accepted() -> None:
    def unknown(chain: Chain, info: Info) -> tuple[Chain, Info]:
        return chain, info._replace(accept_prob=torch.full_like(info.accept_prob, math.nan))

    with pytest.raises(FloatingPointError, match="not a number at some proposal within 20 steps"):
        draw(Breaks(KERNELS["labels only"], 2, unknown, []))


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_chains": 0}, r"needs num_chains >= 1 and num_steps >= 0, got 0 and 20"),
        ({"num_steps": -1}, r"needs num_chains >= 1 and num_steps >= 0, got 6 and -1"),
        ({"given": {"colour": 1}}, "no block 'colour'"),
        ({"given": {"y": 4}}, "block 'y' .*got label 4 in row 0"),
        ({"given": {"y": [0, 1]}}, r"block 'y' .*shape \(2,\) do not broadcast to \(6,\)"),
        ({"num_chains": 5}, r"block 'bits' .*got initial positions of shape \(6, 2, 2\), expected \(5, 2, 2\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(**arguments)


def test_a_thinning_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="thin must be >= 1, got 0"):
        sample_trajectory(LOG_DENSITY, SPACE, KERNELS["mala"], num_chains=1, num_steps=1, thin=0, generator=seeded())


def test_a_log_density_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"log-density: returned shape \(6, 3\), expected one number per chain, \(6,\)"
    ):
        sample(lambda p: p["x"], SPACE, KERNELS["mala"], num_chains=6, num_steps=1, init=INIT, generator=seeded())


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (kernels.Langevin(block="typo", step_size=0.1), "no continuous block 'typo'"),
        (kernels.MALA(block="y", step_size=0.1), "no continuous block 'y'"),
        (kernels.Gibbs(Space(z=Categorical(3))), "no discrete block 'z'"),
        (kernels.Cycle((kernels.GibbsWithGradients(Space(y=Categorical(5))),)), "was made for a block 'y'"),
    ],
)
def test_a_kernel_for_another_space_is_refused(kernel: kernels.Kernel, message: str) -> None:
    space = Space(x=Continuous(), y=Categorical(3))
    with pytest.raises(ValueError, match=message):
        sample(
            lambda position: -position["x"].square(),
            space,
            kernel,
            num_chains=2,
            num_steps=1,
            generator=torch.Generator(),
        )


@pytest.mark.parametrize("kernel", [[kernels.Gibbs(SPACE)], kernels.Gibbs, None, "gibbs"])
def test_what_is_no_kernel_is_refused_in_one_line(kernel: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^kernel: got a \w+, expected a kernel such as kernels\.Gibbs\(space\); .*Cycle"
    ):
        draw(kernel)


def test_a_foreign_kernel_needs_no_base_class() -> None:
    class Incomplete:
        uses_score = adjusted = False
        step = Langevin.step

    class Foreign(Incomplete):
        def require(self, space: Space) -> None:
            raise ValueError(f"{len(space)} blocks")

    with pytest.raises(ValueError, match="5 blocks"):
        draw(Foreign())
    with pytest.raises(TypeError, match=r"got a Incomplete, .* derive your own from kernels\.Kernel"):
        draw(Incomplete())


STARTS = ["default", "noise", "positions", "single precision"]


@pytest.mark.parametrize("given", [None, {"y": 1}, {"x": [0.5, math.nan, 0.1]}])
@pytest.mark.parametrize(
    "init", [None, Noise.uniform(SPACE), INIT, {n: v.float() for n, v in INIT.items()}], ids=STARTS
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chains_have_the_dtype_of_the_module_wherever_they_start(dtype: torch.dtype, init: Any, given: Any) -> None:
    torch.manual_seed(0)
    energy = ConcatEnergy(SPACE, MLP(4 + 3 + 5 + 1 + 4, (8,))).to(dtype)
    samples = sample(
        energy, SPACE, KERNELS["mala"], num_chains=6, num_steps=2, given=given, init=init, generator=seeded()
    )
    assert {value.dtype for value in samples.chain.position.values()} == {samples.chain.f.dtype} == {dtype}


def test_buffers_say_the_dtype_of_a_module_without_parameters() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1, dtype=torch.int64))
            self.register_buffer("slope", torch.ones(3, dtype=torch.float64))

        def forward(self, position: Position) -> Tensor:
            return -position["x"].square() @ self.slope

    samples = sample(Fixed(), SPACE, MALA("x", 0.1), num_chains=2, num_steps=1, generator=seeded())
    assert samples.values["x"].dtype == torch.float64


class Casts(TorchDispatchMode):
    """Counts the casts of a weight to bfloat16."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape, self.count = weight.shape, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        is_cast = function.overloadpacket.__name__ == "_to_copy" and (kwargs or {}).get("dtype") == torch.bfloat16
        self.count += is_cast and args[0].shape == self.shape
        return function(*args, **(kwargs or {}))


def test_weights_are_cast_once_per_run_under_autocast_and_stay_as_they_are() -> None:
    torch.manual_seed(0)
    space = Space(x=Continuous(2), y=Categorical(3))
    energy = ConcatEnergy(space, MLP(5, (24, 24)))
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    kernel = Cycle((GibbsWithGradients(space), Gibbs(space), MALA("x", 0.1)))
    with torch.autocast("cpu", torch.bfloat16), Casts(energy.net[2].weight) as casts:
        sample(energy, space, kernel, num_chains=4, num_steps=10, generator=seeded())
    assert casts.count == 1
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())
    assert all(parameter.grad is None for parameter in energy.parameters())
