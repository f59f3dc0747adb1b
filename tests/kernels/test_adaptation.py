"""Specification of `adapt`: dual averaging, metrics and shifts from a warm-up that ends in a frozen kernel."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import (
    HMC,
    MALA,
    Chain,
    Cycle,
    Gibbs,
    Info,
    Kernel,
    Langevin,
    Lazy,
    LogDensity,
    ReplicaExchange,
    ShiftedGibbs,
    adapt,
    evaluate,
    flat_infos,
    parts_of,
)
from jointebm.kernels.adaptation import DualAveraging
from jointebm.randomness.draws import Generator
from jointebm.references import Mixture
from jointebm.spaces.space import Mask, Position

SCALES = torch.tensor([0.02, 1.0, 1.0, 30.0])
SPACE = Space(x=Continuous(4), y=Binary())


def f(position: Position) -> Tensor:
    """Independent normals of very different scales, moved by a bit."""
    x = position["x"] / SCALES - position["y"][:, None]
    return -0.5 * x.square().sum(dim=1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(num: int = 100) -> Chain:
    return evaluate(f, {"x": torch.zeros(num, 4), "y": torch.zeros(num)})


def everything(num: int) -> dict[str, Tensor]:
    return {"x": torch.ones(num, 4, dtype=torch.bool), "y": torch.ones(num, dtype=torch.bool)}


def rate_of(kernel: Kernel, log_density: LogDensity, chain: Chain, num_steps: int = 60) -> list[float]:
    free = everything(len(chain.f))
    generator, rates = seeded(9), []
    for _ in range(num_steps):
        chain, info = kernel.step(log_density, chain, free=free, generator=generator)
        rates.append(torch.stack([each.accept_prob.mean() for each in flat_infos(info)]))
    return torch.stack(rates).mean(dim=0).tolist()


def test_dual_averaging_follows_its_recursion() -> None:
    tuner, shortfall, average = DualAveraging(0.6), 0.0, 0.0
    for t, accepted in enumerate([1.0, 0.2, 0.9, 0.0], start=1):
        tuner = tuner.updated(accepted)
        shortfall = (1 - 1 / (t + 10)) * shortfall + (0.6 - accepted) / (t + 10)
        log_size = -math.sqrt(t) / 0.15 * shortfall
        average = t**-0.75 * log_size + (1 - t**-0.75) * average
        assert (tuner.num_updates, tuner.log_size) == (t, pytest.approx(log_size))
        assert tuner.log_average == pytest.approx(average)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1e-4, 0.5, 1e3])
@pytest.mark.parametrize("target", [0.574, 0.8])
def test_mala_meets_the_target_from_any_first_step_size(first: float, target: float) -> None:
    """100 chains of 60 steps: the rate is known to .01; the metric to a tenth."""
    adapted = adapt(
        Cycle((Gibbs(SPACE), MALA("x", first))),
        f,
        start(),
        num_steps=300,
        target_accept=target,
        generator=seeded(),
    )
    gibbs, mala = parts_of(adapted.kernel)
    assert isinstance(mala, MALA) and isinstance(mala.step_size, Tensor)
    rate = rate_of(adapted.kernel, f, adapted.chain)[1]
    assert rate == pytest.approx(target, abs=0.06)
    assert adapted.accept_rate[1] == pytest.approx(target, abs=0.06)
    assert gibbs == Gibbs(SPACE)
    # x / SCALES has variance 1 + 1/4 in every entry
    relative = mala.step_size / SCALES
    torch.testing.assert_close(relative / relative.log().mean().exp(), torch.ones(4), rtol=0.15, atol=0)


def test_hmc_is_adapted_and_keeps_its_path() -> None:
    adapted = adapt(HMC("x", 0.001, num_leapfrog=4), f, start(), num_steps=200, generator=seeded())
    assert isinstance(adapted.kernel, HMC) and adapted.kernel.num_leapfrog == 4
    assert rate_of(adapted.kernel, f, adapted.chain)[0] == pytest.approx(0.8, abs=0.06)


def test_a_lazy_part_is_adapted_as_if_it_were_not_lazy() -> None:
    kernel = Cycle((Gibbs(SPACE), Lazy(MALA("x", 1.0), 0.3)))
    adapted = adapt(kernel, f, start(400), num_steps=300, free=everything(400), generator=seeded())
    lazy = parts_of(adapted.kernel)[1]
    assert isinstance(lazy, Lazy) and lazy.rate == 0.3
    assert rate_of(Cycle((Gibbs(SPACE), lazy.kernel)), f, adapted.chain)[1] == pytest.approx(0.574, abs=0.06)


def test_parts_are_adapted_each_on_its_own_in_their_places() -> None:
    kernel = Cycle((Cycle((MALA("x", 1.0), Gibbs(SPACE))), HMC("x", 1.0, num_leapfrog=2), Langevin("x", 1e-4)))
    adapted = adapt(kernel, f, start(), num_steps=100, generator=seeded())
    assert [type(part) for part in parts_of(adapted.kernel)] == [MALA, Gibbs, HMC, Langevin]
    mala, _, hmc, langevin = parts_of(adapted.kernel)
    assert isinstance(adapted.kernel, Cycle) and isinstance(adapted.kernel.kernels[0], Cycle)
    assert isinstance(mala, MALA) and isinstance(hmc, HMC)
    assert not torch.equal(torch.as_tensor(mala.step_size), torch.as_tensor(hmc.step_size))
    assert langevin == Langevin("x", 1e-4)


def test_shifts_are_learned_where_the_classes_are() -> None:
    space = Space(x=Continuous(), y=Categorical(3))
    means = torch.tensor([-30.0, 0.0, 50.0])

    def apart(position: Position) -> Tensor:
        return -0.5 * (position["x"] - position["y"] @ means).square()

    y = torch.eye(3).repeat(40, 1)
    chain = evaluate(apart, {"x": y @ means + torch.randn(120, generator=seeded()), "y": y})
    kernel = Cycle((ShiftedGibbs(space, "y", torch.zeros(3)), MALA("x", 1.0)))
    adapted = adapt(kernel, apart, chain, num_steps=100, generator=seeded())
    shifted = parts_of(adapted.kernel)[0]
    assert isinstance(shifted, ShiftedGibbs) and isinstance(shifted.shift, dict)
    torch.testing.assert_close(shifted.shift["x"], means, rtol=0, atol=0.2)


def test_clamped_entries_teach_nothing() -> None:
    """Clamped at places far apart: their spread is not that of free entries."""
    chain = evaluate(
        f,
        {
            "x": torch.cat([torch.zeros(200, 3), 1e4 * torch.randn(200, 1, generator=seeded())], dim=1),
            "y": torch.zeros(200),
        },
    )
    mask = torch.ones(200, 4, dtype=torch.bool)
    mask[:, 3] = False
    adapted = adapt(MALA("x", 0.5), f, chain, num_steps=200, free={"x": mask}, generator=seeded())
    assert isinstance(adapted.kernel, MALA) and isinstance(adapted.kernel.step_size, Tensor)
    assert torch.equal(adapted.chain.position["x"][:, 3], chain.position["x"][:, 3])
    relative = adapted.kernel.step_size / SCALES
    assert float(relative[:3].max() / relative[:3].min()) < 1.3
    # what is not known keeps its share of the first step size, which was the same for all entries
    sizes = adapted.kernel.step_size.log()
    torch.testing.assert_close(sizes[3], sizes[:3].mean(), rtol=0, atol=1e-5)


@dataclass(frozen=True)
class Known(Kernel):
    """A kernel that moves nothing and accepts with a probability that its step size decides."""

    size: float
    uses_score = False
    adjusted = True
    target_accept = 0.5

    def rescaled(self, factor: float) -> "Known":
        return Known(self.size * factor)

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        return chain, Info(torch.full_like(chain.f, math.exp(-self.size)), torch.ones_like(chain.f, dtype=torch.bool))


def test_the_step_size_is_the_average_of_the_last_window_on_top_of_those_before() -> None:
    size = 5.0
    for length in (2, 3, 5, 6, 4):  # of the windows of 20 steps
        tuner = DualAveraging(0.5)
        for _ in range(length):
            tuner = tuner.updated(float(torch.tensor(math.exp(-size * math.exp(tuner.log_size)))))
        size *= math.exp(tuner.log_average)
    adapted = adapt(Known(5.0), f, start(), num_steps=20, generator=seeded())
    assert isinstance(adapted.kernel, Known)
    assert adapted.kernel.size == pytest.approx(size, rel=1e-5)


def test_the_warm_up_ends() -> None:
    """The kernel has fixed numbers: running it changes nothing about it, and the same seed finds the same one."""
    found = [adapt(MALA("x", 0.1), f, start(), num_steps=60, generator=seeded()) for _ in range(2)]
    assert found[0].kernel == found[1].kernel
    before = found[0].kernel
    rate_of(found[0].kernel, f, found[0].chain)
    assert found[0].kernel == before


def test_refuses_what_cannot_be_adapted() -> None:
    generator = seeded()
    with pytest.raises(ValueError, match="adapt: nothing to adapt in Gibbs, Langevin"):
        adapt(Cycle((Gibbs(SPACE), Langevin("x", 0.1))), f, start(), num_steps=50, generator=generator)
    with pytest.raises(ValueError, match="num_steps must be >= 20, got 19"):
        adapt(MALA("x", 0.1), f, start(), num_steps=19, generator=generator)
    with pytest.raises(ValueError, match=r"target_accept must lie in \(0, 1\), got 1"):
        adapt(MALA("x", 0.1), f, start(), num_steps=50, target_accept=1, generator=generator)
    held = everything(100)
    held["x"][:7] = False
    with pytest.raises(ValueError, match="block 'x' is clamped entirely in 7 of 100 chains"):
        adapt(MALA("x", 0.1), f, start(), num_steps=50, free=held, generator=generator)
    with pytest.raises(ValueError, match="block 'x' is clamped entirely in 100 of 100 chains"):
        adapt(MALA("x", 0.1), f, start(), num_steps=50, free={"y": torch.tensor(True)}, generator=generator)


def test_a_replica_exchange_adapts_the_kernel_inside() -> None:
    space = Space(x=Continuous())
    q = Mixture(space)
    exchange = ReplicaExchange(q, (0, 0.5, 1), Cycle((MALA("x", 1e-3),)))
    target = exchange.target(lambda position: -0.5 * (position["x"] - 1).square())
    chain = evaluate(target, exchange.replicate(q.draw(50, seeded())), with_score=False)
    adapted = adapt(exchange, target, chain, num_steps=100, generator=seeded())
    assert isinstance(adapted.kernel, ReplicaExchange)
    assert adapted.accept_rate[-1] == pytest.approx(0.574, abs=0.1)
