"""Diagnostics of chains: by loops over a kept trajectory, and where they must say that chains disagree."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, kernels, sample, sample_trajectory
from jointebm.kernels import Chain, Info, Kernel
from jointebm.references import Mixture
from jointebm.sampling import Diagnostics, Samples, split_r_hat
from jointebm.sampling.chain_diagnostics import MAX_STATES
from jointebm.sampling.sample import begin_sampling
from jointebm.spaces.space import Position
from support.generators import seeded

SPACE = Space(x=Continuous(2), y=Categorical((2, 3)), b=Binary())
KERNEL = kernels.Cycle((kernels.MALA("x", 0.8), kernels.Gibbs(SPACE), kernels.MALA("x", 3.0)))


def f(position: Position) -> Tensor:
    x, y, b = position["x"], position["y"], position["b"]
    return -0.5 * (x - y[:, :2]).square().sum(dim=1) + y[:, 2] * b


def draw(num_steps: int, given: Any = None, kernel: Kernel = KERNEL) -> Samples:
    return sample(f, SPACE, kernel, num_chains=6, num_steps=num_steps, given=given, generator=seeded())


@dataclass(frozen=True)
class Walk(Kernel):
    """Adds one to x in every second chain and rejects in the others, without a draw."""

    uses_score = False
    adjusted = True

    def step(self, log_density: Any, chain: Chain, *, free: Any, generator: Any) -> tuple[Chain, Info]:
        del generator
        accepted = (torch.arange(len(chain.f)) % 2 == 0) & free["x"].any(dim=-1)
        x = chain.position["x"] + accepted.to(chain.f)
        return kernels.evaluate(log_density, {"x": x}, with_score=False), Info(accepted.to(chain.f), accepted)


@pytest.mark.parametrize("num_steps", [7, 8, 60, 2 * MAX_STATES, 2 * MAX_STATES + 5, 4 * MAX_STATES + 3])
def test_split_r_hat_is_that_of_the_second_half_of_the_kept_states(num_steps: int) -> None:
    given = {"b": torch.tensor([0, 0, 0, 1, 1, -1])}
    kept = sample_trajectory(f, SPACE, KERNEL, num_chains=6, num_steps=num_steps, given=given, generator=seeded())
    position = SPACE.encode({name: value.flatten(0, 1) for name, value in kept.values.items()})[0]
    flat = [value.reshape(num_steps, 6, -1) for value in position.values()]
    num_states = num_steps - num_steps // 2
    every = math.ceil(num_states / MAX_STATES)
    states = torch.cat([kept.f[:, :, None], *flat], dim=2)[num_steps // 2 :][every - 1 :: every]
    assert MAX_STATES / 2 < len(states) <= MAX_STATES or every == 1
    expected = split_r_hat(states, torch.tensor([0, 0, 0, 1, 1, 2]))
    assert kept.samples.diagnostics.r_hat == pytest.approx(expected, rel=1e-5)
    assert draw(num_steps, given).diagnostics.r_hat == kept.samples.diagnostics.r_hat


def test_watching_chains_leaves_them_alone() -> None:
    unwatched = begin_sampling(f, SPACE, KERNEL, num_chains=6, given=None, init=None, generator=seeded())
    unwatched.run(20)
    samples, watched = unwatched.samples(), draw(20)
    assert all(torch.equal(value, watched.values[name]) for name, value in samples.values.items())
    assert samples.diagnostics.r_hat is None and watched.diagnostics.r_hat is not None
    assert samples.diagnostics.accept_rate == watched.diagnostics.accept_rate


def test_kernels_of_one_kind_are_averaged_by_name() -> None:
    samples = draw(20)
    first, gibbs, second = samples.accept_rate
    assert first > second + 0.2  # so a mean of both is neither
    expected = {"MALA": pytest.approx((first + second) / 2, rel=1e-6), "Gibbs": pytest.approx(gibbs, rel=1e-6)}
    assert samples.diagnostics.accept_rate == expected
    assert samples.diagnostics.num_jumps is not None and bool((samples.diagnostics.num_jumps == 0).all())


def test_chains_that_cannot_move_are_exact() -> None:
    y, b = torch.tensor([[1, 2], [1, -1]]), torch.tensor([1, 1])
    samples = sample(f, SPACE, KERNEL, num_chains=2, num_steps=8, given={"x": torch.ones(2, 2), "y": y, "b": b},
                     generator=seeded())  # fmt: skip
    found = samples.diagnostics
    assert found.exact.tolist() == [True, False] and found.ess.tolist() == [math.inf, 1]
    assert found.num_jumps is not None and found.num_jumps.isnan().tolist() == [True, False]
    assert found.standard_error is None


def test_no_step_has_no_acceptance() -> None:
    assert str(draw(0).diagnostics) == "0 of 6 rows exact; ess of the others 1.0 and more"
    few, enough = draw(6).diagnostics, draw(7).diagnostics
    assert few.r_hat is None and enough.r_hat is not None and few.num_jumps is not None
    nothing: Diagnostics[Tensor] = draw(0).diagnostics
    assert nothing.num_jumps is None and nothing.accept_rate == {} and nothing.r_hat is None


def test_jumps_are_counted_of_chains_that_can_move() -> None:
    """Where f is q every jump is accepted: two in each step."""
    space = Space(x=Continuous())
    rows = {"x": torch.randn(50, generator=seeded())}
    q = Mixture.fit(space, rows, 1, generator=seeded())
    both = kernels.Cycle((kernels.Jump(q), kernels.Jump(q)))
    drawn = sample(q, space, both, num_chains=4, num_steps=9, generator=seeded())
    assert drawn.diagnostics.accept_rate == {"Jump": pytest.approx(1.0, abs=1e-5)}
    assert drawn.diagnostics.num_jumps is not None
    torch.testing.assert_close(drawn.diagnostics.num_jumps, torch.full((4,), 18.0).double(), rtol=1e-5, atol=0)


def test_chains_that_stay_apart_disagree_unless_their_conditions_do() -> None:
    """Chains around -9 and 9: R-hat is far above 1, but not if the side of each chain is given."""
    space = Space(x=Continuous(), side=Binary())
    kernel = kernels.MALA("x", 1.0)

    def apart(position: Position) -> Tensor:
        return -0.5 * (position["x"] - 18 * position["side"] + 9).square()

    side = torch.arange(40) % 2
    start = {"x": 18.0 * side - 9, "side": side.float()}
    settings: dict[str, Any] = {"num_chains": 40, "num_steps": 200, "init": start}
    free = sample(apart, space, kernel, **settings, generator=seeded()).diagnostics
    given = sample(apart, space, kernel, **settings, given={"side": side}, generator=seeded()).diagnostics
    assert free.r_hat is not None and free.r_hat > 5
    assert given.r_hat is not None and 0.99 < given.r_hat < 1.1


def test_warm_up_does_not_count() -> None:
    """x grows by one in every step of even chains: over the second half alone the spread is that of 50 steps."""
    space = Space(x=Continuous())
    drawn = sample(lambda p: 0 * p["x"], space, Walk(), num_chains=2, num_steps=100,
                   init={"x": torch.zeros(2)}, generator=seeded())  # fmt: skip
    late = torch.stack([torch.arange(51.0, 101), torch.zeros(50)], dim=1)
    assert drawn.diagnostics.r_hat == pytest.approx(split_r_hat(late), rel=1e-6)
    assert drawn.diagnostics.accept_rate == {"Walk": 0.5}
