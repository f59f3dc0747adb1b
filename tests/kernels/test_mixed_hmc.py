"""Specification of `MixedHMC`: trajectories that lead back with minus the log-ratio, and the target left invariant."""

import math

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import HMC, Gibbs, MixedHMC, evaluate
from jointebm.kernels.mixed_hmc import MixedState
from jointebm.randomness.draws import choose
from jointebm.testing import MixedTarget, invariance_test, transition_matrix
from support.mutants import altered
from support.oracles import RandomLogDensity, Script, labels_of

SPACE = Space(x=Continuous(2), y=Categorical((2, 3)), bit=Binary(), one=Categorical(1))
NUM_VARIABLES = 4


class Recorded:
    """A stream of a generator that notes its choices: their log-weights and outcomes."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.choices = generator, list[tuple[Tensor, Tensor]]()

    def choose(self, log_weights: Tensor) -> Tensor:
        self.choices.append((log_weights, choose(log_weights, self.generator)))
        return self.choices[-1][1]


def kernel(kind: type[MixedHMC] = MixedHMC) -> MixedHMC:
    return kind(SPACE, HMC("x", 0.3, num_leapfrog=2), 5)


def started(space: Space = SPACE, num: int = 200) -> tuple[RandomLogDensity, MixedState]:
    f, generator = RandomLogDensity(space, 0), torch.Generator().manual_seed(0)
    position, _ = space.clamp(None, num_chains=num, generator=generator, dtype=torch.float64)
    momentum = torch.randn(num, 2, generator=generator, dtype=torch.float64)
    stock = -torch.rand(num, NUM_VARIABLES, generator=generator, dtype=torch.float64).log()
    chain = evaluate(f, position)
    return f, MixedState(chain, momentum, stock, torch.zeros_like(chain.f))


def error_of_the_way_back(kind: type[MixedHMC], *, clamped: bool) -> float:
    """Variables in the opposite order, momenta reversed, and the labels that were left proposed again.

    The largest deviation of the end of that way from the start, and of the sum of both log-ratios from 0.
    """
    (f, start), tested, generator = started(), kernel(kind), torch.Generator().manual_seed(1)
    num = len(start.chain.f)
    mask = torch.rand(num, 2, generator=generator) < 0.5 if clamped else torch.ones(num, 2, dtype=torch.bool)
    free = torch.ones(num, NUM_VARIABLES, dtype=torch.bool)
    free[:, 2] = not clamped
    start = start._replace(momentum=torch.where(mask, start.momentum, 0))
    stream, rows, counts = Recorded(generator), torch.arange(num), torch.tensor([2, 3, 2, 1])
    end = tested.trajectory(f, start, mask, free, stream)  # type: ignore[arg-type]

    after, back = labels_of(SPACE, end.chain.position), []
    for (_, variable), (log_weights, new) in zip(stream.choices[-2::-2], stream.choices[::-2], strict=True):
        possible = torch.arange(3) < counts[variable][:, None]
        before = ((log_weights == -torch.inf) & possible).int().argmax(dim=1)  # the present label is never proposed
        changed = after[rows, variable] != before
        back += [variable, torch.where(changed, before, new)]
        after[rows, variable] = before
    assert torch.equal(after, labels_of(SPACE, start.chain.position))
    there = end._replace(momentum=-end.momentum, log_ratio=torch.zeros_like(end.log_ratio))
    again = tested.trajectory(f, there, mask, free, Script(choices=back))
    pairs = [(again.chain.position[name], start.chain.position[name]) for name in SPACE]
    pairs += [(again.momentum, -start.momentum), (again.stock, start.stock), (again.log_ratio, -end.log_ratio)]
    assert float(end.log_ratio.abs().max()) > 0.01 or kind is not MixedHMC
    moved = labels_of(SPACE, end.chain.position) != labels_of(SPACE, start.chain.position)
    assert 0.2 < float(moved.any(dim=1).double().mean()) < 1
    return max(float((one - other).abs().max()) for one, other in pairs)


def error_of_the_energy(kind: type[MixedHMC]) -> float:
    """Bits have one other class, so their moves conserve -f + kinetic energies; leapfrog errors are all that changes it."""
    space = Space(x=Continuous(2), bits=Binary(NUM_VARIABLES))
    f, start = started(space)
    ones = [torch.ones(200, 2, dtype=torch.bool), torch.ones(200, NUM_VARIABLES, dtype=torch.bool)]
    tested = kind(space, HMC("x", 0.4, num_leapfrog=2), 6)
    end = tested.trajectory(f, start, *ones, torch.Generator().manual_seed(0))
    if bool((end.stock < 0).any()):
        return math.inf
    energies = [
        -f(state.chain.position) + 0.5 * state.momentum.square().sum(dim=1) + state.stock.sum(dim=1)
        for state in (start, end)
    ]
    return float((end.log_ratio - (energies[0] - energies[1])).abs().max())


@pytest.mark.parametrize("clamped", [False, True])
def test_the_trajectory_back_leads_to_the_start_with_minus_the_log_ratio(clamped: bool) -> None:
    assert error_of_the_way_back(MixedHMC, clamped=clamped) < 1e-8


def test_label_moves_conserve_energy() -> None:
    assert error_of_the_energy(MixedHMC) < 1e-9


def test_one_label_move_with_x_clamped_is_metropolised_gibbs() -> None:
    """P(change to k) = p_k / (1 - p_now) min(1, (1 - p_now) / (1 - p_k)), by the stock that a move needs."""
    space = Space(x=Continuous(), y=Categorical(4))
    f = RandomLogDensity(space, 0)
    y = torch.eye(4, dtype=torch.float64)
    chain = evaluate(f, {"x": torch.full((4,), 0.3, dtype=torch.float64), "y": y})
    p = f(chain.position).softmax(dim=0)
    gibbs, _ = transition_matrix(Gibbs(space), f, space, {"x": 0.3})
    torch.testing.assert_close(gibbs[0], p, rtol=0, atol=1e-12)
    tested = MixedHMC(space, HMC("x", 0.1, num_leapfrog=1), 1)
    held, free = torch.zeros(4, dtype=torch.bool), torch.ones(4, 1, dtype=torch.bool)
    for new in range(4):
        needed = ((1 - p[new]) / (1 - p)).log().clamp(min=0)
        for factor, moves in ((1 + 1e-9, True), (1 - 1e-9, False)):
            stock = (needed * factor + (1e-12 if moves else -1e-12))[:, None]
            script = Script(choices=[torch.zeros(4, dtype=torch.int64), torch.full((4,), new)])
            state = MixedState(chain, torch.zeros(4, dtype=torch.float64), stock, torch.zeros(4, dtype=torch.float64))
            end = tested.trajectory(f, state, held, free, script)
            others = torch.arange(4) != new
            arrived = labels_of(space, end.chain.position)[:, 0] == new
            assert bool((arrived == moves)[others & (moves | (needed > 0))].all())
            log_q = script.log_weights[1].log_softmax(dim=1)[:, new].exp()
            torch.testing.assert_close(log_q[others], (p[new] / (1 - p))[others], rtol=1e-10, atol=1e-12)


TARGET = MixedTarget(Space(x=Continuous(2), group=Categorical((2, 3)), bit=Binary()), seed=1)


def rejected(kind: type[MixedHMC], *, clamped: bool) -> bool:
    """False-alarm rate 1e-4."""
    generator = torch.Generator().manual_seed(0)
    tested = kind(TARGET.space, HMC("x", 0.5, num_leapfrog=2), 4)
    free = None
    if clamped:
        free = {"x": torch.tensor([True, False]), "group": torch.tensor([False, True])}
    return invariance_test(
        tested,
        TARGET,
        TARGET.space,
        TARGET.draw(12000, generator),
        num_steps=6,
        statistics=TARGET.statistics,
        generator=generator,
        alpha=1e-4,
        free=free,
    ).rejected


@pytest.mark.slow
@pytest.mark.parametrize("clamped", [False, True])
def test_leaves_a_mixed_density_invariant(clamped: bool) -> None:
    assert not rejected(MixedHMC, clamped=clamped)


FAULTS = {
    "labels change whatever they cost": {" & (stock > cost)": ""},
    "labels pay nothing": {"torch.where(changed, stock - cost, stock)": "stock"},
    "proposal ratio missing": {
        "f.masked_fill(classes == new[:, None], -torch.inf).logsumexp(dim=1) - others.logsumexp(dim=1)": "0 * chain.f"
    },
    "leapfrog errors forgotten": {"state.log_ratio + gained)": "state.log_ratio)"},
    "kinetic energy of the wrong sign": {
        "kinetic_energy(state.momentum) - kinetic_energy(momentum)": "kinetic_energy(momentum) - "
        "kinetic_energy(state.momentum)"
    },
    "stock too large": {"-torch.log1p(-uniform(": "-2 * torch.log1p(-uniform("},
    "score of the old labels": {
        "    left = torch.where(": "    chain = chain._replace(score=state.chain.score)\n    left = torch.where("
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    kind = altered(MixedHMC, FAULTS[fault])
    exact = error_of_the_way_back(kind, clamped=False) > 1e-6 or error_of_the_energy(kind) > 1e-6
    assert exact or rejected(kind, clamped=False)


def test_clamped_entries_keep_their_bits_and_what_is_clamped_entirely_does_not_move() -> None:
    f, start = started(num=50)
    chain = start.chain
    generator = torch.Generator().manual_seed(0)
    free = {"x": torch.tensor([True, False]), "bit": torch.tensor(True)}
    end, info = kernel().step(f, chain, free=free, generator=generator)
    assert bool(info.accepted.any())
    assert torch.equal(end.position["y"], chain.position["y"])
    assert torch.equal(end.position["x"][:, 1], chain.position["x"][:, 1])
    assert not torch.equal(end.position["bit"], chain.position["bit"])
    torch.testing.assert_close(end.f, f(end.position))
    same, _ = kernel().step(f, chain, free={}, generator=generator)
    assert same is chain


def test_refuses_what_has_no_joint_density() -> None:
    with pytest.raises(ValueError, match=r"needs a temperature of 1, .* got 0\.5 and 4"):
        MixedHMC(SPACE, HMC("x", 0.1, 0.5))
    with pytest.raises(ValueError, match=r"got 1\.0 and 0"):
        MixedHMC(SPACE, HMC("x", 0.1), 0)
    with pytest.raises(ValueError, match="'y'"):
        MixedHMC(SPACE, HMC("y", 0.1))
    assert math.isfinite(kernel().rescaled(2).hmc.step_size)  # type: ignore[arg-type]
