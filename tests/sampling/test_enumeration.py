"""Specification of the exact answers: enumeration, in pieces and as a table."""

import math

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import Cycle, Gibbs, GibbsWithGradients, Kernel, LogDensity, evaluate
from jointebm.sampling.enumeration import enumerate_log_density, evaluate_configurations, log_partition, marginalize
from jointebm.sampling.tabulated import Tabulated
from jointebm.spaces.space import Position
from support.oracles import RandomLogDensity

SPACE = Space(bits=Binary(2), x=Continuous(2), y=Categorical(3), group=Categorical((2, 3)))
DISCRETE = Space(**{name: SPACE[name] for name in SPACE.discrete})  # 72 configurations
LOG_DENSITY = RandomLogDensity(SPACE, seed=0)


def rows(num: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return SPACE.clamp(None, num_chains=num, generator=generator, dtype=torch.float64)[0]


def by_hand(log_density: LogDensity, position: Position) -> Tensor:
    """f of every row at every configuration, one at a time, shape (N, S)."""
    configurations = DISCRETE.configurations(dtype=torch.float64)
    f = [
        [
            float(log_density({"x": position["x"][[row]]} | {name: configurations[name][[s]] for name in DISCRETE}))
            for s in range(DISCRETE.num_configurations)
        ]
        for row in range(len(position["x"]))
    ]
    return torch.tensor(f, dtype=torch.float64)


class Largest:
    """A log-density that notes the largest number of rows it was asked for."""

    def __init__(self, log_density: LogDensity) -> None:
        self.log_density, self.num_rows = log_density, 0

    def __call__(self, position: Position) -> Tensor:
        f = self.log_density(position)
        self.num_rows = max(self.num_rows, len(f))
        return f


def test_every_row_is_combined_with_every_configuration() -> None:
    position = rows(4)
    f = evaluate_configurations(LOG_DENSITY, position, DISCRETE.configurations(dtype=torch.float64))
    torch.testing.assert_close(f, by_hand(LOG_DENSITY, position), rtol=0, atol=1e-12)


@pytest.mark.parametrize("max_evaluations", [1, 4, 5, 40, 287, 288, 10**6])
def test_enumeration_in_pieces_equals_one_piece(max_evaluations: int) -> None:
    position, counted = rows(4), Largest(LOG_DENSITY)
    pieces = list(enumerate_log_density(counted, DISCRETE, position, max_evaluations=max_evaluations))
    f = torch.cat([f for _, f in pieces], dim=1)
    configurations = {name: torch.cat([piece[name] for piece, _ in pieces]) for name in DISCRETE}
    expected = DISCRETE.configurations(dtype=torch.float64)
    torch.testing.assert_close(f, by_hand(LOG_DENSITY, position), rtol=0, atol=1e-12)
    assert all(torch.equal(configurations[name], expected[name]) for name in DISCRETE)
    assert counted.num_rows <= max(max_evaluations, 4)  # at least one configuration of all rows at once


def test_enumeration_keeps_no_graph() -> None:
    weight = torch.ones(3, requires_grad=True)
    (_, f), *_ = enumerate_log_density(
        lambda position: position["y"] @ weight, Space(y=Categorical(3)), {"x": torch.zeros(2)}
    )
    assert not f.requires_grad


@pytest.mark.parametrize("max_evaluations", [1, 7, 71, 72, 10**6])
def test_log_partition_is_the_log_of_the_sum_over_all_configurations(max_evaluations: int) -> None:
    f, counted = RandomLogDensity(DISCRETE, seed=1), Largest(RandomLogDensity(DISCRETE, seed=1))
    terms = f(DISCRETE.configurations(dtype=torch.float64)).tolist()
    log_z = log_partition(counted, DISCRETE, max_evaluations=max_evaluations, dtype=torch.float64)
    assert float(log_z) == pytest.approx(math.log(sum(map(math.exp, terms))), abs=1e-12)
    assert counted.num_rows == min(max_evaluations, 72)


def test_log_partition_of_independent_bits_has_a_closed_form_and_does_not_overflow() -> None:
    space, slope = Space(bits=Binary(12)), 500.0
    log_z = log_partition(lambda position: slope * position["bits"].sum(dim=1), space, max_evaluations=1000)
    assert float(log_z) == pytest.approx(12 * slope, rel=1e-6)  # 12 log(1 + e^500)


def test_log_partition_refuses_continuous_blocks() -> None:
    with pytest.raises(ValueError, match=r"log_partition: blocks \('x',\) are continuous; log Z is an integral"):
        log_partition(LOG_DENSITY, SPACE)


# The table.


@pytest.mark.parametrize("max_evaluations", [1, 7, 100, 65_536])
def test_marginalize_sums_every_configuration_out_however_it_is_cut(max_evaluations: int) -> None:
    position = rows(5)
    f = by_hand(LOG_DENSITY, position)
    result = marginalize(LOG_DENSITY, DISCRETE, {"x": position["x"]}, max_evaluations=max_evaluations)
    torch.testing.assert_close(result.log_density, f.exp().sum(dim=1).log(), rtol=0, atol=1e-10)
    best = f.softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(result.log_confidence.exp(), best, rtol=0, atol=1e-10)


def test_marginalize_says_in_which_row_the_log_density_is_not_finite() -> None:
    def broken(position: Position) -> Tensor:
        return LOG_DENSITY(position) / (position["x"][:, 0] < 5)

    position = rows(4)
    position["x"][2] = 9.0
    with pytest.raises(FloatingPointError, match=r"is -?(inf|nan) in row 2"):
        marginalize(broken, DISCRETE, {"x": position["x"]}, max_evaluations=72)


def test_the_table_holds_f_and_the_score_of_every_row_and_configuration() -> None:
    position, num_chains = rows(3), 72
    table = Tabulated(LOG_DENSITY, DISCRETE, {"x": position["x"]})
    configurations = DISCRETE.configurations(dtype=torch.float64)
    shuffled = torch.randperm(72, generator=torch.Generator().manual_seed(0))
    y = {name: torch.cat([value[shuffled]] * 3) for name, value in configurations.items()}
    chain = evaluate(table, y)
    direct = evaluate(LOG_DENSITY, {"x": position["x"].repeat_interleave(num_chains, dim=0), **y})
    assert chain.score is not None and direct.score is not None
    torch.testing.assert_close(chain.f, direct.f, rtol=0, atol=1e-12)
    for name in DISCRETE:
        torch.testing.assert_close(chain.score[name], direct.score[name], rtol=0, atol=1e-12)


KERNELS: dict[str, Kernel] = {
    "gibbs-with-gradients": GibbsWithGradients(DISCRETE),
    "gibbs": Gibbs(DISCRETE),
    "systematic gibbs": Gibbs(DISCRETE, scan="systematic"),
    "cycle": Cycle((Gibbs(DISCRETE), GibbsWithGradients(DISCRETE), GibbsWithGradients(DISCRETE, ("y",)))),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_chain_on_the_table_is_the_chain_on_the_log_density_itself(kernel: Kernel) -> None:
    position, num_chains = rows(5), 8
    start = rows(5 * num_chains, seed=1) | {"x": position["x"].repeat_interleave(num_chains, dim=0)}
    generator = torch.Generator().manual_seed(2)
    shapes = {name: (5 * num_chains, *block.variable_shape) for name, block in DISCRETE.items()}
    free = {name: torch.rand(shape, generator=generator) < 0.8 for name, shape in shapes.items()}
    table = Tabulated(LOG_DENSITY, DISCRETE, {"x": position["x"]})
    on_table = evaluate(table, {name: start[name] for name in DISCRETE}, with_score=kernel.uses_score)
    direct = evaluate(LOG_DENSITY, start, with_score=kernel.uses_score)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    for _ in range(60):
        on_table, info = kernel.step(table, on_table, free=free, generator=generators[0])
        direct, direct_info = kernel.step(LOG_DENSITY, direct, free=free, generator=generators[1])
        assert all(torch.equal(on_table.position[name], direct.position[name]) for name in DISCRETE)
        torch.testing.assert_close(on_table.f, direct.f, rtol=0, atol=1e-10)
        torch.testing.assert_close(info, direct_info, rtol=0, atol=1e-10)
    assert any(not torch.equal(on_table.position[name], start[name]) for name in DISCRETE)


def test_the_table_spends_one_evaluation_per_configuration_and_then_none() -> None:
    calls: list[int] = []

    def counted(position: Position) -> Tensor:
        calls.append(len(position["x"]))
        return LOG_DENSITY(position)

    table = Tabulated(counted, DISCRETE, {"x": rows(3)["x"]})
    assert calls == [3] * 72
    chain = evaluate(table, {name: value[:30] for name, value in DISCRETE.configurations(dtype=torch.float64).items()})
    free = {name: torch.tensor(True) for name in DISCRETE}
    for _ in range(5):
        chain, _ = GibbsWithGradients(DISCRETE).step(table, chain, free=free, generator=torch.Generator())
    assert len(calls) == 72
