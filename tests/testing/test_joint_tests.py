"""Specification of `rank_test`, `geweke_test`, `sequential_test` and their target: exact p-values, stated false alarms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import MALA, Cycle, Gibbs
from jointebm.randomness.draws import Generator, choose, normal
from jointebm.spaces.space import Mask, Position
from jointebm.spaces.transforms import Logit
from jointebm.testing import (
    MixedTarget,
    Transition,
    conditional_path,
    geweke_test,
    rank_test,
    sequential_test,
    target_probs,
)

# MixedTarget

SPACE = Space(x=Continuous(2), y=Categorical(4), bit=Binary(), group=Categorical((2, 3)), share=Continuous((), Logit()))
TARGET = MixedTarget(SPACE)


def test_exact_redraws_leave_exact_draws_as_they_are() -> None:
    """A transition that is itself an exact redraw, against draws of everything; false-alarm rate 1e-5."""

    def exact(position: Position, free: Mask, generator: Generator) -> Position:
        num, nothing = len(position["x"]), torch.tensor(False)
        known = {name: ~free.get(name, nothing).expand(num, *block.variable_shape) for name, block in SPACE.items()}
        return TARGET.redraw(position, known, generator)

    true = torch.tensor(True)
    options: Any = {
        "patterns": [
            {"x": torch.tensor([True, False]), "y": true},
            {"group": torch.tensor([False, True]), "share": true},
        ],
        "statistics": TARGET.statistics,
        "num_draws": 4000,
        "generator": torch.Generator().manual_seed(0),
    }
    assert not geweke_test(exact, TARGET, SPACE, TARGET.draw, TARGET.redraw, **options).rejected
    assert not rank_test(exact, TARGET, SPACE, TARGET.draw, **options).rejected


@pytest.mark.parametrize("space", [Space(x=Continuous((2, 2))), Space(y=Categorical(3), bits=Binary(2))], ids=str)
def test_a_target_may_lack_labels_or_reals(space: Space) -> None:
    target, generator = MixedTarget(space, seed=3), torch.Generator().manual_seed(0)
    draws = target.draw(4000, generator)
    if space.discrete:
        counts = space.configuration_index(draws).bincount(minlength=space.num_configurations)
        probs = target_probs(target, space.configurations(dtype=torch.float64))
        assert bool(((counts / 4000 - probs).abs() < 5 * (probs * (1 - probs) / 4000).sqrt()).all())
    else:
        error = draws["x"].flatten(1).mean(dim=0) - target.means[0]
        assert bool((error.abs() < 5 * target.scales[0] / 4000**0.5).all())
    half = {name: torch.rand(4000, *space[name].variable_shape, generator=generator) < 0.5 for name in space}
    again = target.redraw(draws, half, generator)
    for name, block in space.items():
        known = block.expand(half[name]).expand_as(draws[name])
        assert torch.equal(again[name][known], draws[name][known])
    for statistic in target.statistics.values():
        assert statistic(again).shape == (4000,)


# conditional_path


def test_what_does_not_move_keeps_its_bits() -> None:
    """The logit and its inverse do not round-trip; clamped and rejected entries come back as they were."""
    position = TARGET.draw(200, torch.Generator().manual_seed(0))
    free = {"x": torch.tensor(True), "share": torch.tensor(True)}
    moved = conditional_path(TARGET, SPACE, MALA("x", 50.0))(position, free, torch.Generator().manual_seed(0))
    assert all(torch.equal(moved[name], position[name]) for name in SPACE if name != "x")
    assert int((moved["x"] == position["x"]).all(dim=1).sum()) > 150


# rank_test

LINE = Space(x=Continuous())
THREE = Space(y=Categorical(3))


def normals(num: int, generator: Generator) -> dict[str, Tensor]:
    return {"x": normal(torch.zeros(num), generator)}


def classes(num: int, generator: Generator) -> dict[str, Tensor]:
    return {"y": torch.eye(3)[choose(torch.zeros(num, 3), generator)]}


def flat(position: Position) -> Tensor:
    return 0 * next(iter(position.values())).reshape(len(next(iter(position.values()))), -1).sum(dim=1)


def half_square(position: Position) -> Tensor:
    return -0.5 * position["x"].square()


def upward(position: Position, free: Mask, generator: Generator) -> Position:  # noqa: ARG001
    return {"x": position["x"] + 1}


def nothing(position: Position, free: Mask, generator: Generator) -> Position:  # noqa: ARG001
    """Moves, or redraws, nothing."""
    return position


def label(position: Position) -> Tensor:
    return position["y"] @ torch.arange(3.0)


def turning(by: int) -> Transition:
    return lambda position, free, generator: {"y": position["y"].roll(by, dims=1)}  # noqa: ARG005


def test_the_p_value_of_ranks_is_that_of_binomial_counts() -> None:
    """Every start is the lowest of its three states: 2 (1/3)^5 for five of five, times three sets of ranks."""
    verdict = rank_test(
        upward,
        flat,
        LINE,
        normals,
        num_steps=2,
        statistics={"x": lambda p: p["x"]},
        num_draws=5,
        num_stages=1,
        alpha=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    assert verdict.p_values == pytest.approx((3 * 2 / 3**5,), rel=1e-12)
    assert verdict.rejected
    assert verdict.worst == "x"


def test_statistics_are_paid_for() -> None:
    options: Any = {"num_steps": 1, "num_draws": 8, "num_stages": 1}
    names = {"x": lambda p: p["x"], "0": flat}
    one, two = (
        rank_test(upward, flat, LINE, normals, statistics=chosen, generator=torch.Generator().manual_seed(0), **options)
        for chosen in ({"x": names["x"]}, names)
    )
    assert two.p_values[0] == pytest.approx(2 * one.p_values[0], rel=1e-12)
    assert two.worst == "x"


def test_an_irreversible_transition_needs_its_reversal() -> None:
    """Turning through three equally likely classes leaves them so, but only turning back undoes it; rate 1e-5."""
    options: Any = {"statistics": {"label": label}, "generator": torch.Generator().manual_seed(0)}
    assert rank_test(turning(1), flat, THREE, classes, **options).rejected
    assert not rank_test(turning(1), flat, THREE, classes, reverse=turning(-1), **options).rejected
    assert not geweke_test(
        turning(1), flat, THREE, classes, nothing, generator=torch.Generator().manual_seed(0)
    ).rejected


@pytest.mark.parametrize("test", ["ranks", "geweke"])
def test_false_alarms_are_as_rare_as_stated(test: str) -> None:
    """300 tests of a right kernel at alpha = 0.05: more than 32 alarms have probability below 1e-4 if each has 0.05.

    A discrete statistic with many ties and a continuous one, in two stages.
    """
    space = Space(y=Categorical(3), x=Continuous())

    def f(position: Position) -> Tensor:
        return -0.5 * position["x"].square()

    def draw(num: int, generator: Generator) -> dict[str, Tensor]:
        return {**classes(num, generator), **normals(num, generator)}

    kernel = Cycle((Gibbs(space), MALA("x", 1.5), Gibbs(space)))
    alarms = 0
    for seed in range(300):
        options: Any = {"alpha": 0.05, "num_draws": 60, "num_stages": 2, "growth": 2}
        options |= {
            "statistics": {"label": label, "x": lambda p: p["x"]},
            "generator": torch.Generator().manual_seed(seed),
        }
        move = conditional_path(f, space, kernel)
        alarms += (
            rank_test(move, f, space, draw, num_steps=2, **options).rejected
            if test == "ranks"
            else geweke_test(move, f, space, draw, nothing, num_sweeps=1, **options).rejected
        )
    assert sum(math.comb(300, k) * 0.05**k * 0.95 ** (300 - k) for k in range(33, 301)) < 1e-4
    assert alarms <= 32


def test_moving_a_clamped_entry_is_an_error_that_names_the_row() -> None:
    held: Any = [{"x": torch.tensor(True)}, {"x": torch.tensor(False)}]
    with pytest.raises(AssertionError, match=r"moved a clamped entry of block 'x', in row 1 \(500 of 1000 rows\)"):
        rank_test(upward, flat, LINE, normals, patterns=held, generator=torch.Generator())


def test_the_default_statistics_are_those_of_the_invariance_test() -> None:
    verdict = rank_test(upward, half_square, LINE, normals, generator=torch.Generator().manual_seed(0))
    assert verdict.rejected
    assert verdict.worst in ("f", "x[0]", "x[0]^2")


# sequential_test


def test_the_stages_share_the_false_alarm_rate() -> None:
    """A p-value that never settles runs through all stages; each rejects with probability alpha / k at most."""
    k, alpha = 5, 1e-3
    gamma = (alpha / k) ** (1 / k)
    verdict = sequential_test(
        lambda num: (gamma, str(num)), num_draws=10, alpha=alpha, num_stages=k, growth=3
    )  # gamma is the last limit, so the last stage rejects
    assert verdict.rejected
    assert verdict.num_draws == 10 + 4 * 30
    assert [limit * gamma**stage for stage, limit in enumerate(verdict.limits)] == pytest.approx([alpha / k] * k)
    assert verdict.limits[-1] == pytest.approx(gamma)


@pytest.mark.parametrize(("p_value", "rejected"), [(0.5, False), (1e-4, True), (1e-3, True)])
def test_a_clear_answer_ends_the_test(p_value: float, rejected: bool) -> None:
    verdict = sequential_test(lambda _: (p_value, "x"), num_draws=7, alpha=0.01, num_stages=2, growth=1)
    assert verdict == (rejected, "x", (p_value,), (0.005,), 7, 0.01)


# Options


@pytest.mark.parametrize("options", [{"num_draws": 0}, {"alpha": 1.0}, {"num_stages": 0}, {"growth": 0}])
def test_impossible_stages_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="needs num_draws, num_stages and growth >= 1 and 0 < alpha < 1"):
        rank_test(upward, flat, LINE, normals, generator=torch.Generator(), **options)


@pytest.mark.parametrize("options", [{"num_steps": 0}, {"statistics": {}}])
def test_a_rank_test_needs_steps_and_statistics(options: Any) -> None:
    with pytest.raises(ValueError, match="rank_test: needs num_steps >= 1 and a statistic"):
        rank_test(upward, flat, LINE, normals, generator=torch.Generator(), **options)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [([], "needs at least one"), ([{"z": torch.tensor(True)}], "no block 'z'; this space has 'x'")],
)
def test_patterns_must_name_blocks(chosen: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_test(upward, flat, LINE, normals, patterns=chosen, generator=torch.Generator())


def test_a_statistic_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="statistic 'root' is not a number"):
        rank_test(
            upward, flat, LINE, normals, statistics={"root": lambda p: p["x"].sqrt()}, generator=torch.Generator()
        )
