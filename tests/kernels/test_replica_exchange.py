"""Specification of `ReplicaExchange`: all rungs stay invariant together, and the last one is the target."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, sample
from jointebm.kernels import (
    MALA,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Jump,
    Kernel,
    Lazy,
    LogDensity,
    ReplicaExchange,
    evaluate,
    parts_of,
    without_laziness,
)
from jointebm.randomness.row_streams import RowStream
from jointebm.spaces.space import Mask, Position
from jointebm.testing import Invariance, invariance_test, stationarity_residual, target_probs, transition_matrix
from support.exact_references import Components, TwoTables, gaussians, random_reference
from support.faulty_exchange import FAULTS, FaultyExchange, Still
from support.oracles import Counted, Passes, RandomLogDensity

BIT, BITS = Space(bit=Binary()), Space(bits=Binary(2))


def exchange_of(space: Space, rungs: tuple[float, ...], kernel: Kernel | None = None) -> ReplicaExchange:
    return ReplicaExchange(random_reference(space, 1), rungs, kernel or Gibbs(space))


def residual(
    exchange: Kernel, space: Space, target: LogDensity, free: Mask | None = None, given: dict | None = None
) -> float:
    matrix, position = transition_matrix(exchange, target, space, given, free=free)
    return stationarity_residual(matrix, target_probs(target, position))


@pytest.mark.parametrize(
    ("space", "rungs"),
    [
        (BIT, (0, 1)),
        (BIT, (0, 0.2, 0.6, 1)),
        (BITS, (0, 1)),
        (Space(y=Categorical(3)), (0, 0.4, 1)),
        (Space(y=Categorical((2, 3))), (0, 1)),
        (Space(y=Categorical(2), bit=Binary()), (0, 1)),
    ],
    ids=str,
)
def test_leaves_the_target_of_all_replicas_invariant(space: Space, rungs: tuple[float, ...]) -> None:
    for kernel in (Still(), Gibbs(space)):
        exchange, f = exchange_of(space, rungs, kernel), RandomLogDensity(space, 0)
        assert residual(exchange, exchange.space, exchange.target(f)) <= 1e-12


def test_its_last_replica_has_the_law_of_the_log_density() -> None:
    """After infinitely many steps: the marginal of the last bit under the invariant law of the matrix."""
    exchange, f = exchange_of(BIT, (0, 0.3, 1)), RandomLogDensity(BIT, 0)
    matrix, position = transition_matrix(exchange, exchange.target(f), exchange.space)
    law = torch.linalg.matrix_power(matrix, 200)[0]
    cold = exchange.cold(position)["bit"]
    exact = f({"bit": torch.tensor([0.0, 1.0], dtype=torch.float64)}).softmax(dim=0)
    torch.testing.assert_close(law[cold == 1].sum(), exact[1], rtol=0, atol=1e-12)


def patterns(num: int) -> Iterator[Tensor]:
    yield from (torch.tensor(bits) for bits in product([False, True], repeat=num))


@pytest.mark.slow
def test_every_pattern_of_free_entries_leaves_the_target_invariant() -> None:
    """Also patterns that differ between replicas, which then swap only where both agree on what is clamped."""
    exchange, f = exchange_of(BITS, (0, 1)), RandomLogDensity(BITS, 0)
    for mask in patterns(4):
        assert residual(exchange, exchange.space, exchange.target(f), {"bits": mask.reshape(2, 2)}) <= 1e-12
    exchange, f = exchange_of(BIT, (0, 0.3, 1)), RandomLogDensity(BIT, 0)
    for mask in patterns(3):
        assert residual(exchange, exchange.space, exchange.target(f), {"bit": mask}) <= 1e-12


def test_a_pattern_per_row_and_a_clamped_real() -> None:
    space = Space(bits=Binary(2), x=Continuous())
    exchange, f = exchange_of(space, (0, 1)), RandomLogDensity(space, 0)
    mask = torch.arange(16)[:, None, None] // 8 == torch.tensor([[0, 1], [0, 2]])  # by the first bit, which is clamped
    mask[:, 0, 0] = mask[:, 1, 0] = False
    for x in ([0.3, 0.3], [0.3, -1.0]):  # equal in both replicas, or not
        assert residual(exchange, exchange.space, exchange.target(f), {"bits": mask}, {"x": x}) <= 1e-12


@pytest.mark.parametrize("kernel", ["gwg", "jump", "lazy cycle"])
def test_other_kernels_move_the_replicas(kernel: str) -> None:
    q = random_reference(BIT, 1)
    kinds: dict[str, Kernel] = {
        "gwg": GibbsWithGradients(BIT),
        "jump": Jump(q),
        "lazy cycle": Cycle((Lazy(Gibbs(BIT), 0.5), Jump(q))),
    }
    rungs = (0, 1) if kernel == "lazy cycle" else (0, 0.4, 1)
    exchange, f = ReplicaExchange(q, rungs, kinds[kernel]), RandomLogDensity(BIT, 0)
    assert residual(exchange, exchange.space, exchange.target(f)) <= 1e-12


def test_a_reference_whose_conditionals_do_not_agree_with_its_density_does_no_harm() -> None:
    q, f = TwoTables(random_reference(BITS, 2), random_reference(BITS, 3)), RandomLogDensity(BITS, 0)
    exchange = ReplicaExchange(q, (0, 1), Still())
    free = {"bits": torch.tensor([[True, False], [True, False]])}
    assert residual(exchange, exchange.space, exchange.target(f), free) <= 1e-12


# Faults.


def passes_exact_tests(fault: str | None) -> bool:
    """Of three bits, with nothing clamped and with one of them; also without a kernel, which would cover up for swaps."""
    f = RandomLogDensity(BIT, 0)
    for own in (Still(), Gibbs(BIT)):
        exchange = exchange_of(BIT, (0, 0.3, 1), own)
        kernel: Kernel = exchange if fault is None else FaultyExchange(exchange, fault)
        for mask in ([True, True, True], [True, False, True], [False, True, True]):
            try:
                if residual(kernel, exchange.space, exchange.target(f), {"bit": torch.tensor(mask)}) > 1e-12:
                    return False
            except AssertionError:
                return False
    return True


def test_the_copy_that_mutants_are_made_from_is_right() -> None:
    assert passes_exact_tests(None)
    assert passes_exact_tests("")


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    assert not passes_exact_tests(fault)


def test_the_copy_has_the_same_matrix() -> None:
    """Without a kernel, so that swaps that do not happen show."""
    exchange, f = exchange_of(BIT, (0, 0.3, 1), Still()), RandomLogDensity(BIT, 0)
    matrices = [
        transition_matrix(kernel, exchange.target(f), exchange.space).matrix
        for kernel in (exchange, FaultyExchange(exchange))
    ]
    torch.testing.assert_close(*matrices, rtol=0, atol=1e-12)


# Continuous blocks.

LINE, RUNGS = Space(x=Continuous(2)), (0, 0.1, 0.4, 1)


def narrow(position: Position) -> Tensor:
    """N(2, .5^2) in both entries, not normalised."""
    return -0.5 * ((position["x"] - 2) / 0.5).square().sum(dim=1) + 5


def gaussian_replicas(num: int, generator: torch.Generator) -> tuple[Components, dict[str, Tensor]]:
    """q = N(0, 3^2), and exact draws of all rungs: each is a Gaussian whose precision is the mean of both."""
    q = gaussians(LINE, [1.0], [[0.0, 0.0]], 3.0)
    draws = []
    for b in RUNGS:
        precision = (1 - b) / 9 + b / 0.25
        noise = torch.randn(num, 2, generator=generator, dtype=torch.float64)
        draws.append(b * 2 / 0.25 / precision + noise / precision**0.5)
    return q, {"x": torch.stack(draws, dim=1)}


@pytest.mark.parametrize("clamped", [False, True])
def test_leaves_gaussians_invariant(clamped: bool) -> None:
    """False-alarm rate 1e-4. With `clamped`, the first entry of half of the rows is held."""
    generator = torch.Generator().manual_seed(0)
    q, draws = gaussian_replicas(6000, generator)
    free = None
    if clamped:
        held = torch.arange(6000) % 2 == 0
        draws["x"][held, :, 0] = draws["x"][held, -1:, 0]  # one value in all replicas, so that they can swap
        free = {"x": ~(held[:, None, None] & torch.tensor([True, False])).expand(-1, len(RUNGS), -1)}
    exchange = ReplicaExchange(q, RUNGS, MALA("x", 0.7))

    def test(kernel: Kernel) -> Invariance:
        return invariance_test(
            kernel,
            exchange.target(narrow),
            exchange.space,
            draws,
            num_steps=6,
            statistics={f"x[{r}, {i}]": lambda p, r=r, i=i: p["x"][:, r, i] for r in range(4) for i in range(2)},  # type: ignore[misc]
            generator=generator,
            alpha=1e-4,
            free=free,
        )

    assert not test(exchange).rejected, test(exchange)
    assert test(FaultyExchange(exchange, "swap ratio missing")).rejected
    assert test(FaultyExchange(exchange, "rungs upside down")).rejected


def test_finds_the_weight_of_a_mode_in_which_no_chain_starts() -> None:
    """Field case: weights .2 and .8, 8 apart in both entries; q is one wide Gaussian. 1,000 chains: standard error .013."""

    def f(position: Position) -> Tensor:
        x = position["x"]
        one, other = -0.5 * x.square().sum(dim=1), -0.5 * (x - 8).square().sum(dim=1)
        return torch.logaddexp(one + torch.tensor(0.2).log(), other + torch.tensor(0.8).log())

    q, generator = gaussians(LINE, [1.0], [[4.0, 4.0]], 6.0), torch.Generator().manual_seed(0)
    exchange = ReplicaExchange(q, (0, 0.02, 0.08, 0.3, 1), MALA("x", 1.0))
    start = {"x": torch.randn(1000, 2, generator=generator, dtype=torch.float64)}
    samples = sample(
        exchange.target(f),
        exchange.space,
        exchange,
        num_chains=1000,
        num_steps=60,
        init=exchange.replicate(start),
        generator=generator,
    )
    assert abs(float((exchange.cold(samples.values)["x"][:, 0] > 4).double().mean()) - 0.8) < 4 * 0.0127
    assert len(samples.accept_rate) == 5 and min(samples.accept_rate[:4]) > 0.2


# The interface.


def test_replicates_and_takes_apart_every_kind_of_block() -> None:
    space = Space(x=Continuous((2, 3)), bit=Binary(), y=Categorical(3), group=Categorical((2, 4)))
    exchange, generator = exchange_of(space, (0, 0.5, 1)), torch.Generator().manual_seed(0)
    rows = random_reference(space, 0).draw(5, generator)
    chains = exchange.replicate(rows)
    values = exchange.space.decode(chains)  # legal positions of the larger space
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        "x": (5, 3, 2, 3),
        "bit": (5, 3),
        "y": (5, 3),
        "group": (5, 6),
    }
    for name in space:
        assert torch.equal(exchange.cold(chains)[name], rows[name])
        assert torch.equal(exchange.cold(values)[name], space.decode(rows)[name])
        assert torch.equal(exchange.rows(chains)[name], rows[name].repeat_interleave(3, dim=0))


def test_f_is_the_sum_over_rungs_also_where_an_end_is_minus_infinity() -> None:
    exchange = exchange_of(BIT, (0, 0.25, 1))
    q, never = exchange.reference, lambda p: torch.where(p["bit"] > 0, -torch.inf, 1.0)
    position = {"bit": torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)}
    off, on = (float(q.log_prob({"bit": torch.tensor([bit], dtype=torch.float64)})) for bit in (0, 1))
    f = exchange.target(never)(position)
    torch.testing.assert_close(f, torch.tensor([on + 0.75 * off + 0.25 + 1, -torch.inf], dtype=torch.float64))


@pytest.mark.parametrize("with_score", [False, True])
def test_costs_one_evaluation_more_than_the_kernel(with_score: bool) -> None:
    kernel: Kernel = GibbsWithGradients(BITS) if with_score else Gibbs(BITS)
    exchange = exchange_of(BITS, (0, 0.5, 1), kernel)
    counted, generator = Counted(RandomLogDensity(BITS, 0), Passes()), torch.Generator().manual_seed(0)
    target = exchange.target(counted)
    chain = evaluate(target, exchange.replicate(exchange.reference.draw(4, generator)), with_score=False)
    counted.passes.take()
    free = {"bits": torch.tensor(True)}
    chain, _ = exchange.step(target, chain, free=free, generator=generator)
    assert counted.passes.take() == (2, 2 * with_score)
    torch.testing.assert_close(chain.f, target(chain.position))


def test_reports_each_pair_and_each_kernel() -> None:
    exchange = exchange_of(BITS, (0, 0.5, 0.9, 1), Cycle((Lazy(Gibbs(BITS), 0.5), Jump(random_reference(BITS, 1)))))
    target = exchange.target(RandomLogDensity(BITS, 0))
    generator = torch.Generator().manual_seed(0)
    start = exchange.replicate(exchange.reference.draw(7, generator))
    samples = sample(target, exchange.space, exchange, num_chains=7, num_steps=3, init=start, generator=generator)
    assert len(samples.accept_rate) == len(parts_of(exchange)) == 5
    assert without_laziness(exchange) == replace(exchange, kernel=without_laziness(exchange.kernel))
    with pytest.raises(TypeError):
        Lazy(exchange, 0.5)


def test_a_row_of_a_stream_does_not_depend_on_its_batch() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    exchange = exchange_of(space, (0, 0.3, 1), Cycle((Gibbs(space), MALA("x", 0.5))))
    target, start = exchange.target(RandomLogDensity(space, 0)), exchange.reference.draw(6, torch.Generator())
    whole, part = (
        exchange.step(
            target,
            evaluate(target, exchange.replicate({n: v[rows] for n, v in start.items()}), with_score=False),
            free={name: torch.tensor(True) for name in space},
            generator=RowStream(torch.arange(6)[rows], seed=0),
        )[0]
        for rows in (slice(0, 6), slice(2, 5))
    )
    for name in space:
        torch.testing.assert_close(part.position[name], whole.position[name][2:5])


def test_names_what_does_not_fit() -> None:
    exchange = exchange_of(BIT, (0, 1))
    for rungs in ((0, 0.5), (0.5, 1), (0, 1, 1), (1,)):
        with pytest.raises(ValueError, match="strictly increase from 0 to 1"):
            exchange_of(BIT, rungs)
    with pytest.raises(ValueError, match=r"pass exchange\.space"):
        exchange.require(BIT)
    with pytest.raises(ValueError, match="no continuous block 'x'"):
        exchange_of(BIT, (0, 1), MALA("x", 0.1))
    chain = evaluate(RandomLogDensity(BIT, 0), {"bit": torch.zeros(2, dtype=torch.float64)})
    with pytest.raises(TypeError, match=r"pass exchange\.target"):
        exchange.step(RandomLogDensity(BIT, 0), chain, free={}, generator=torch.Generator())
