"""Specification of convergence diagnostics: a second implementation with loops, known answers, and what they see."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, kernels, sample_trajectory
from jointebm.sampling import convergence_of, effective_draws
from jointebm.spaces.space import Position


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def autoregressive(rho: float, length: int, num: int, seed: int = 0) -> Tensor:
    noise = random(length, num, seed=seed)
    states = [noise[0] / math.sqrt(1 - rho**2)]
    for step in noise[1:]:
        states.append(rho * states[-1] + step)
    return torch.stack(states)


def slow_effective_draws(chains: list[list[float]]) -> float:
    """The formulas of the reference, number by number."""
    num, length = len(chains), len(chains[0])
    means = [math.fsum(chain) / length for chain in chains]
    gamma = [
        [math.fsum((c[i] - m) * (c[i + t] - m) for i in range(length - t)) / length for t in range(length)]
        for c, m in zip(chains, means, strict=True)
    ]
    variances = [g[0] * length / (length - 1) for g in gamma]
    within = math.fsum(variances) / num
    grand = math.fsum(means) / num
    between_over_length = math.fsum((m - grand) ** 2 for m in means) / (num - 1)
    pooled = within * (length - 1) / length + between_over_length
    rho = [1.0]
    for t in range(1, length):
        rho.append(1 - (within - math.fsum(g[t] for g in gamma) / num * length / (length - 1)) / pooled)
    pairs = []
    for t in range(0, length - 1, 2):
        if rho[t] + rho[t + 1] < 0:
            break
        pairs.append(min([rho[t] + rho[t + 1], *pairs[-1:]]))
    return num * length / max(-1 + 2 * math.fsum(pairs), 1 / math.log10(num * length))


def slow_ranks(values: list[float]) -> list[float]:
    """Phi^-1 of average ranks."""
    ranks = [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]
    return [NormalDist().inv_cdf((rank - 3 / 8) / (len(values) + 1 / 4)) for rank in ranks]


def slow_r_hat(chains: list[list[float]]) -> float:
    flat = slow_ranks([value for chain in chains for value in chain])
    length = len(chains[0])
    ranked = torch.tensor(flat, dtype=torch.float64).reshape(len(chains), length)
    within, between = ranked.var(dim=1).mean(), ranked.mean(dim=1).var()
    return float(((length - 1) / length + between / within).sqrt())


@pytest.mark.parametrize("kind", ["independent", "slow", "ties", "chains apart"])
def test_agrees_with_the_formulas_number_by_number(kind: str) -> None:
    states = autoregressive(0.8 if kind == "slow" else 0.0, 31, 3)
    states = states.round() if kind == "ties" else states
    states = states + torch.arange(3) if kind == "chains apart" else states
    found = convergence_of(states)
    halves = [*states[:15].T.tolist(), *states[-15:].T.tolist()]
    flat = [value for chain in halves for value in chain]
    median = sorted(flat)[(len(flat) - 1) // 2]
    folded = [[abs(value - median) for value in chain] for chain in halves]
    assert found.r_hat == pytest.approx(max(slow_r_hat(halves), slow_r_hat(folded)), rel=1e-9)
    ranked = slow_ranks(flat)
    chains = [ranked[start : start + 15] for start in range(0, len(ranked), 15)]
    assert found.ess_bulk == pytest.approx(slow_effective_draws(chains), rel=1e-9)
    tails = []
    for share in (0.05, 0.95):
        limit = float(torch.quantile(states.flatten(), share))
        tails.append(slow_effective_draws([[float(value <= limit) for value in chain] for chain in halves]))
    assert found.ess_tail == pytest.approx(min(tails), rel=1e-9)
    error = float(states.std()) / math.sqrt(slow_effective_draws(halves))
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.mean == pytest.approx(float(states.mean()))


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9])
def test_finds_the_effective_draws_of_an_autoregressive_chain(rho: float) -> None:
    """(1 - rho) / (1 + rho) per draw; 20 chains of 5,000 states know it to a few percent (seeded)."""
    states = autoregressive(rho, 5000, 20)
    share = (1 - rho) / (1 + rho)
    assert effective_draws(states) / states.numel() == pytest.approx(share, rel=0.08)
    assert convergence_of(states).ess_bulk / states.numel() == pytest.approx(share, rel=0.1)


def test_the_standard_error_is_that_of_means_of_repeated_runs() -> None:
    """200 runs: the standard deviation of their means is known to 5%; four standard errors of it."""
    runs = autoregressive(0.7, 400, 800, seed=3).reshape(400, 200, 4)
    found = [convergence_of(runs[:, number]) for number in range(200)]
    spread = float(torch.tensor([each.mean for each in found]).std())
    typical = float(torch.tensor([each.standard_error for each in found]).mean())
    assert typical == pytest.approx(spread, rel=0.2)


def test_sees_chains_that_differ_in_place_scale_or_half() -> None:
    states = random(400, 4)
    assert convergence_of(states).r_hat < 1.02
    assert convergence_of(states + torch.tensor([0.0, 0.0, 0.0, 2.0])).r_hat > 1.2
    assert convergence_of(states * torch.tensor([1.0, 1.0, 1.0, 5.0])).r_hat > 1.1  # by distances from the median
    assert convergence_of(states + torch.linspace(0, 3, 400)[:, None]).r_hat > 1.2
    heavy = torch.tan(random(400, 4, seed=1).erf() * math.pi / 2)  # close to Cauchy: no variance to divide by
    assert convergence_of(heavy).r_hat < 1.05


def test_a_quantity_that_never_changes_has_no_diagnosis() -> None:
    found = convergence_of(torch.full((20, 3), 2.5))
    assert found[:2] == (2.5, 0.0) and all(math.isnan(value) for value in found[2:])
    stuck = convergence_of(torch.arange(3.0).expand(20, 3))
    assert stuck.r_hat == math.inf


@pytest.mark.parametrize("states", [torch.zeros(7, 3), torch.zeros(20), torch.full((20, 3), torch.nan)])
def test_refuses_what_cannot_be_diagnosed(states: Tensor) -> None:
    with pytest.raises(ValueError, match="convergence_of: needs finite states"):
        convergence_of(states)


def test_a_trajectory_diagnoses_every_real_and_class() -> None:
    space = Space(x=Continuous(2), y=Categorical((2, 3)), bit=Binary())

    def f(position: Position) -> Tensor:
        return -0.5 * position["x"].square().sum(dim=1) + position["bit"]

    kernel = kernels.Cycle((kernels.Gibbs(space), kernels.MALA("x", 1.2)))
    generator = torch.Generator().manual_seed(0)
    trajectory = sample_trajectory(f, space, kernel, num_chains=6, num_steps=300, generator=generator)
    found = trajectory.convergence()
    assert list(found) == ["f", "x[0]", "x[1]", "y[0]", "y[1]=0", "y[1]=1", "y[1]=2", "bit"]
    assert found["y[1]=2"] == convergence_of((trajectory.values["y"][:, :, 1] == 2).double())
    assert abs(found["bit"].mean - 1 / (1 + math.exp(-1))) < 5 * found["bit"].standard_error
    assert found["x[0]"].r_hat < 1.1
