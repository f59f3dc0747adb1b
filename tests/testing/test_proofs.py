"""Specification of `jointebm.testing`: exact matrices, and false alarms at the stated rate."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Info, Kernel, Langevin, LogDensity, evaluate
from jointebm.randomness.draws import Generator, accept, choose, normal, uniform
from jointebm.spaces.space import Mask, Position
from jointebm.testing import (
    detailed_balance_residual,
    invariance_test,
    stationarity_residual,
    target_probs,
    transition_matrix,
)
from support.mutants import mutant
from support.oracles import MIXED, RandomLogDensity

THREE = Space(y=Categorical(3))


@dataclass(frozen=True)
class Written(Kernel):
    """A kernel whose step is a function from a chain and a generator to a new position."""

    move: Callable[[Chain, Generator], Position]

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        del free
        f = torch.ones_like(chain.f)
        moved = evaluate(log_density, {**chain.position, **self.move(chain, generator)}, with_score=False)
        return moved, Info(f, f.bool())


def flat(position: Position) -> Tensor:
    return 0 * next(iter(position.values())).reshape(len(next(iter(position.values()))), -1).sum(dim=1)


def one_hot(index: Tensor) -> dict[str, Tensor]:
    return {"y": torch.eye(3, dtype=torch.float64)[index]}


# transition_matrix


def test_every_outcome_of_every_draw_is_walked_with_its_probability() -> None:
    """Two choices and an acceptance in a row, by hand: stay with 1 - a, else go to class (first + second) mod 3."""
    first, second, a = [0.2, 0.3, 0.5], [0.6, 0.4], 0.7

    def move(chain: Chain, generator: Generator) -> Position:
        rows = torch.ones(len(chain.f), 1, dtype=torch.float64)
        i = choose(rows * torch.tensor(first, dtype=torch.float64).log(), generator)
        accepted = accept(rows[:, 0] * math.log(a), generator)
        j = choose(rows * torch.tensor(second, dtype=torch.float64).log(), generator)
        return {"y": torch.where(accepted[:, None], one_hot((i + j) % 3)["y"], chain.position["y"])}

    matrix, _ = transition_matrix(Written(move), flat, THREE)
    to = [sum(first[i] * second[j] for i in range(3) for j in range(2) if (i + j) % 3 == k) for k in range(3)]
    expected = [[a * to[k] + (1 - a) * (k == row) for k in range(3)] for row in range(3)]
    torch.testing.assert_close(matrix, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)


def test_the_number_of_outcomes_may_depend_on_what_was_drawn_before() -> None:
    def move(chain: Chain, generator: Generator) -> Position:
        tails = choose(torch.zeros(len(chain.f), 2), generator)
        if bool((tails == 0).all()):
            return chain.position
        return one_hot(choose(torch.zeros(len(chain.f), 3), generator))

    matrix, _ = transition_matrix(Written(move), flat, THREE)
    expected = torch.full((3, 3), 1 / 6, dtype=torch.float64) + torch.eye(3) / 2
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-14)


def test_rows_are_walked_with_their_own_probabilities() -> None:
    weights = torch.tensor([[0.0, -torch.inf, 1.0], [2.0, 0.0, 0.0], [-torch.inf, 0.0, -torch.inf]]).double()
    matrix, _ = transition_matrix(Written(lambda _, generator: one_hot(choose(weights, generator))), flat, THREE)
    torch.testing.assert_close(matrix, weights.softmax(dim=1), rtol=0, atol=1e-15)


def test_given_labels_keep_the_configurations_that_agree_with_them() -> None:
    space, f = MIXED.space, RandomLogDensity(MIXED.space, 0)
    given = {"bits": [1, -1], "y": 2}
    matrix, position = transition_matrix(GibbsWithGradients(space), f, space, given)
    values = space.decode(position)
    assert matrix.shape == (12, 12)
    assert set(values["y"].tolist()) == {2}
    assert set(values["bits"][:, 0].tolist()) == {1}
    assert detailed_balance_residual(matrix, target_probs(f, position)) <= 1e-12
    free = {"bits": torch.tensor([False, True]), "group": torch.tensor(True)}
    whole, every = transition_matrix(GibbsWithGradients(space), f, space, free=free)
    kept = (space.decode(every)["y"] == 2) & (every["bits"][:, 0] == 1)
    torch.testing.assert_close(matrix, whole[kept][:, kept], rtol=0, atol=1e-14)
    assert not bool(whole[kept][:, ~kept].any())


def test_masks_clamp_other_variables_in_each_row_and_given_values_do_not() -> None:
    space = Space(y=Categorical((2, 3)))
    f = RandomLogDensity(space, 0)
    labels = space.decode(space.configurations(dtype=torch.float64))["y"]
    free = torch.stack([torch.zeros(6, dtype=torch.bool), labels[:, 0] == 1], dim=1)
    by_mask, _ = transition_matrix(Gibbs(space), f, space, free={"y": free})
    assert torch.equal(by_mask[:3], torch.eye(6, dtype=torch.float64)[:3])
    assert not bool(by_mask[3:].eq(1).any())
    with pytest.raises(ValueError, match=r"takes one given value for all configurations, .*\. Pass masks as free="):
        transition_matrix(Gibbs(space), f, space, {"y": labels})


def test_given_and_free_add_up() -> None:
    space, f = MIXED.space, RandomLogDensity(MIXED.space, 0)
    matrix, position = transition_matrix(Gibbs(space), f, space, {"y": 1}, free={"bits": torch.tensor(True)})
    both, _ = transition_matrix(Gibbs(space), f, space, {"y": 1}, free={n: torch.tensor(n != "group") for n in space})
    assert torch.equal(matrix, both)
    assert detailed_balance_residual(matrix, target_probs(f, position)) <= 1e-12


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "holds a continuous block at one"),
        ({"x": [0.0, float("nan")]}, "holds a continuous block at one"),
        ({"x": [[0.0, 0.0]] * 3}, "takes one given value"),
    ],
)
def test_a_continuous_block_must_be_given_in_full_and_once(given: Any, words: str) -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    with pytest.raises(ValueError, match=rf"block 'x' \(Continuous\): transition_matrix {words}"):
        transition_matrix(Gibbs(space), RandomLogDensity(space, 0), space, given)


NOT_NUMBERS = torch.zeros(3, 3).index_fill(0, torch.tensor([2]), torch.nan)
LABELLED, LINE_LABELLED = Space(y=Categorical(3), bit=Binary()), Space(x=Continuous(), y=Categorical(3))
CAUGHT: list[tuple[Callable[[Chain, Generator], Position], str]] = [
    (lambda c, g: {"y": normal(c.position["y"], g)}, r"draws normals of shape \(3, 3\)\. .*`choose`.*invariance_test"),
    (lambda c, g: {"y": uniform(c.position["y"], g)}, r"draws uniforms of shape \(3, 3\)"),
    (lambda c, g: one_hot(choose(c.position["y"].repeat(2, 1), g)[:3]), "calls choose with 6 rows for 3 chains"),
    (lambda _, g: one_hot(choose(NOT_NUMBERS, g)), "not numbers in row 2"),
    (lambda c, _: {"y": torch.ones_like(c.position["y"])}, "left the space: block 'y' is no config.*, in row 0 of 3"),
]


@pytest.mark.parametrize(("move", "message"), CAUGHT)
def test_a_wrong_kernel_is_caught(move: Callable[[Chain, Generator], Position], message: str) -> None:
    with pytest.raises((ValueError, FloatingPointError, AssertionError), match=message):
        transition_matrix(Written(move), flat, THREE)


def test_a_kernel_that_moves_what_is_held_is_caught() -> None:
    turn = Written(lambda chain, _: {"y": chain.position["y"].roll(1, dims=1)})
    with pytest.raises(AssertionError, match="moved a clamped entry of block 'y', in row 0 of 2"):
        transition_matrix(turn, flat, LABELLED, {"y": 1})
    free = {"y": torch.tensor([True] * 4 + [False] * 2)}
    with pytest.raises(AssertionError, match="moved a clamped entry of block 'y', in row 4 of 6"):
        transition_matrix(turn, flat, LABELLED, free=free)
    nudge = Written(lambda chain, _: {"x": chain.position["x"] + 1e-12})
    with pytest.raises(AssertionError, match="moved a clamped entry of block 'x'"):
        transition_matrix(nudge, flat, LINE_LABELLED, {"x": 0.5})


def test_an_unsuitable_question_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"no discrete block in .* Use invariance_test"):
        transition_matrix(MALA("x", 1.0), flat, Space(x=Continuous()), {"x": 0.0})
    with pytest.raises(ValueError, match=r"returned torch.float32 at float64 positions.*Call .double\(\)"):
        transition_matrix(Gibbs(THREE), lambda p: p["y"][:, 0].float(), THREE)


def test_a_row_without_any_weight_may_be_drawn_as_long_as_it_is_not_used() -> None:
    weights = torch.zeros(3, 3).double()
    weights[1] = -torch.inf

    def move(chain: Chain, generator: Generator) -> Position:
        new = one_hot(choose(weights, generator))["y"]
        new[1] = chain.position["y"][1]
        return {"y": new}

    matrix, _ = transition_matrix(Written(move), flat, THREE)
    torch.testing.assert_close(matrix[1], torch.tensor([0.0, 1.0, 0.0]).double(), rtol=0, atol=1e-15)


def test_a_ratio_that_is_not_a_number_is_never_accepted() -> None:
    kernel = Written(
        lambda chain, generator: {
            "y": torch.where(
                accept(torch.full_like(chain.f, torch.nan), generator)[:, None],
                0 * chain.position["y"],
                chain.position["y"],
            )
        }
    )
    assert torch.equal(transition_matrix(kernel, flat, THREE).matrix, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("fault", ["stale f", "stale score"])
def test_a_chain_that_does_not_know_where_it_is_is_caught(fault: str) -> None:
    f = RandomLogDensity(MIXED.space, 0)
    with pytest.raises(AssertionError, match="that is not that of its position, in row"):
        transition_matrix(mutant(GibbsWithGradients, fault)(MIXED.space), f, MIXED.space)


def test_a_kernel_that_keeps_secrets_between_steps_is_caught() -> None:
    calls = itertools.count()

    def move(chain: Chain, generator: Generator) -> Position:
        weights = torch.zeros(3, 3).double()
        weights[1, 0] = 1.0 if next(calls) else 2.0  # the first path was walked at other odds than the second
        del chain
        return one_hot(choose(weights, generator))

    with pytest.raises(AssertionError, match="probabilities of all outcomes do not sum to one, in row 1 of 3"):
        transition_matrix(Written(move), flat, THREE)


def test_residuals_are_the_largest_violation() -> None:
    matrix = torch.tensor([[0.9, 0.1, 0.0], [0.3, 0.5, 0.2], [0.0, 0.5, 0.5]])
    probs = torch.tensor([0.6, 0.2, 0.2])
    assert detailed_balance_residual(matrix, probs) == pytest.approx(0.06)
    assert stationarity_residual(matrix, probs) == pytest.approx(0.06)
    assert target_probs(lambda p: p["y"], {"y": torch.tensor([1.0, 2.0, 5.0]).log()}).tolist() == pytest.approx(
        [0.125, 0.25, 0.625]
    )


# invariance_test

LINE = Space(x=Continuous())


@dataclass(frozen=True)
class ShiftFirst(Kernel):
    """Moves the first few chains by one."""

    num: int

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        del free, generator
        x = chain.position["x"].clone()
        x[: self.num] += 1
        return evaluate(log_density, {"x": x}, with_score=False), None


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 4, 5, 6])
def test_the_p_value_is_that_of_all_orderings_of_two_samples(gap: int) -> None:
    """Six draws against six: of the C(12, 6) orderings, those with a distance of at least gap / 6."""
    n = 6
    as_large = 0
    for chosen in itertools.combinations(range(2 * n), n):
        path = itertools.accumulate(1 if i in chosen else -1 for i in range(2 * n))
        as_large += max(abs(height) for height in path) >= gap
    result = invariance_test(
        ShiftFirst(gap),
        flat,
        LINE,
        {"x": torch.zeros(2 * n)},
        num_steps=1,
        statistics={"x": lambda p: p["x"]},
        generator=torch.Generator(),
        alpha=0.1,
    )
    assert result.p_value == pytest.approx(as_large / math.comb(2 * n, n), rel=1e-9)
    assert result.rejected == (as_large / math.comb(2 * n, n) <= 0.1)


def test_false_alarms_are_as_rare_as_stated() -> None:
    """400 tests of a right kernel at alpha = 0.05: more than 40 alarms have probability below 1e-4 if each has 0.05."""
    alarms = 0
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        draws = {"x": torch.randn(200, generator=generator)}
        result = invariance_test(
            MALA("x", 1.0),
            lambda p: -0.5 * p["x"].square(),
            LINE,
            draws,
            num_steps=1,
            statistics={"x": lambda p: p["x"]},
            generator=generator,
            alpha=0.05,
        )
        alarms += result.rejected
    tail = sum(math.comb(400, k) * 0.05**k * 0.95 ** (400 - k) for k in range(41, 401))
    assert tail < 1e-4
    assert alarms <= 40


def test_the_order_of_the_exact_draws_does_not_matter() -> None:
    """Sorted draws, which a split down the middle would mistake for two distributions; false-alarm rate 1e-3."""
    generator = torch.Generator().manual_seed(0)
    draws = {"x": torch.randn(2000, generator=generator).sort().values}
    kernel = MALA("x", 1.0)
    assert not invariance_test(
        kernel, lambda p: -0.5 * p["x"].square(), LINE, draws, num_steps=1, generator=generator
    ).rejected


def test_the_worst_statistic_is_named_and_the_number_of_statistics_paid_for() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = {"x": torch.randn(2000, 2, generator=generator)}
    space = Space(x=Continuous(2))
    kernel = Cycle((Langevin("x", 1.5),))

    def run(**statistics: Callable[[Position], Tensor]) -> Any:
        return invariance_test(
            kernel,
            lambda p: -0.5 * p["x"][:, 1].square() - 0.5 * p["x"][:, 0].square(),
            space,
            draws,
            num_steps=3,
            statistics=statistics,
            generator=torch.Generator().manual_seed(1),
        )

    alone = run(size=lambda p: p["x"].square().sum(dim=1))
    both = run(size=lambda p: p["x"].square().sum(dim=1), sign=lambda p: p["x"][:, 0])
    assert alone.rejected
    assert both.worst == "size"
    assert both.p_value == pytest.approx(2 * alone.p_value, rel=1e-12, abs=0)
    assert alone.p_value > 0


def test_the_default_statistics_see_every_block() -> None:
    """A kernel that only bends one class, one bit or one entry is found without being told where."""
    space, num = Space(x=Continuous(2), y=Categorical(3), bits=Binary(2)), 4000
    generator = torch.Generator().manual_seed(0)
    draws, _ = space.clamp(None, num_chains=num, generator=generator)
    wrong = {
        "x[1]": lambda chain, _: {"x": chain.position["x"] + torch.tensor([0.0, 0.5])},
        "y[2]": lambda chain, _: {"y": torch.eye(3)[:1].expand(len(chain.f), 3)},
        "bits[0]": lambda chain, _: {"bits": chain.position["bits"] * torch.tensor([0.0, 1.0])},
    }
    for move in wrong.values():
        assert invariance_test(Written(move), flat, space, draws, num_steps=1, generator=generator).rejected


def test_the_mask_reaches_the_kernel_row_by_row() -> None:
    """Rows are shuffled before the split; their masks must follow them."""
    held = torch.arange(1000) % 2 == 0
    draws = {"x": held.float() * 100}

    @dataclass(frozen=True)
    class Check:
        uses_score = False

        def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> Any:
            del log_density, generator
            assert torch.equal(free["x"], chain.position["x"] == 0)
            return chain, None

    invariance_test(Check(), flat, LINE, draws, num_steps=1, generator=torch.Generator(), free={"x": ~held})


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 pairs of draws and 3 statistics can never reach alpha = 0\.001"):
        invariance_test(MALA("x", 1.0), flat, LINE, {"x": torch.zeros(8)}, num_steps=1, generator=torch.Generator())


@pytest.mark.parametrize(
    "options", [{"num_steps": 0}, {"num_steps": 1, "alpha": 0}, {"num_steps": 1, "statistics": {}}]
)
def test_impossible_options_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="needs num_steps >= 1, a statistic and 0 < alpha < 1"):
        invariance_test(MALA("x", 1.0), flat, LINE, {"x": torch.zeros(80)}, generator=torch.Generator(), **options)


def test_a_statistic_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="statistic 'root' is not a number"):
        invariance_test(
            MALA("x", 1.0),
            lambda p: -0.5 * p["x"].square(),
            LINE,
            {"x": torch.randn(200, generator=torch.Generator().manual_seed(0))},
            num_steps=1,
            statistics={"root": lambda p: p["x"].sqrt()},
            generator=torch.Generator(),
        )
