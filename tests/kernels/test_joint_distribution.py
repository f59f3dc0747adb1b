"""Every planted bug of the conditional path is caught, no right path is.

The path is that of a user: values, `sample` with `given`, values. Each planted bug is the right path with one thing changed:
in the source of a kernel or of the space that clamps and encodes, or in the log-density.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Info, Kernel, Langevin, LogDensity, evaluate
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position
from jointebm.spaces.transforms import Logit
from jointebm.testing import MixedTarget, Transition, Verdict, conditional_path, geweke_test, rank_test
from support.mutants import FAULTS, StateDependentCycle, altered, mutant

ALPHA = 1e-5  # false-alarm rate of every test below that does not say otherwise

SPACE = Space(x=Continuous(2), y=Categorical(4), bit=Binary(), group=Categorical((2, 3)), share=Continuous((), Logit()))
TARGET = MixedTarget(SPACE, seed=0)
# Fewer variables and a closer tie between reals and labels: where most bugs of a kernel show with the fewest draws.
SMALL = MixedTarget(Space(x=Continuous(2), group=Categorical((2, 3)), bit=Binary()), seed=1)
GWG, MOVE_X, MOVE_SHARE = GibbsWithGradients(SPACE), MALA("x", 1.2), MALA("share", 1.2)
SMALL_GWG, SMALL_GIBBS = GibbsWithGradients(SMALL.space), Gibbs(SMALL.space)


def mask(*entries: bool) -> Tensor:
    return torch.tensor(entries) if len(entries) > 1 else torch.tensor(entries[0])


def patterns(space: Space) -> list[dict[str, Tensor]]:
    """What is free: labels, reals, everything, and parts of blocks."""
    others = {name: mask(True) for name in space if name in ("y", "share")}
    return [
        {name: mask(True) for name in space.discrete},
        {name: mask(True) for name in space.continuous},
        {name: mask(True) for name in space},
        {"x": mask(True, False), "group": mask(False, True), "bit": mask(True)},
        {"x": mask(False, True), "group": mask(True, False), **others},
    ]


LABELS, REALS, ALL = ([pattern] for pattern in patterns(SMALL.space)[:3])
HALF = [{"x": mask(True, False)}]


class Subject(NamedTuple):
    """A conditional path, its reversal (None is itself), its target, and what is free."""

    forward: Transition
    reverse: Transition | None
    target: MixedTarget
    free: Sequence[Mask]


def path(
    *kernels: Kernel,
    target: MixedTarget = TARGET,
    space: Space | None = None,
    log_density: LogDensity | None = None,
    free: Sequence[Mask] | None = None,
) -> Subject:
    """A cycle of reversible kernels, and the same in the opposite order; the log-density is the target's own."""
    forward, reverse = (
        conditional_path(log_density or target, space or target.space, Cycle(order), num_steps=2)
        for order in (kernels, kernels[::-1])
    )
    return Subject(forward, reverse if len(kernels) > 1 else None, target, free or patterns(target.space))


def small(*kernels: Kernel, free: Sequence[Mask] | None = None, log_density: LogDensity | None = None) -> Subject:
    return path(*kernels, target=SMALL, free=free, log_density=log_density)


def by_ranks(tested: Subject, seed: int = 0, **options: Any) -> Verdict:
    return rank_test(
        tested.forward,
        tested.target,
        tested.target.space,
        tested.target.draw,
        reverse=tested.reverse,
        patterns=tested.free,
        statistics=tested.target.statistics,
        generator=torch.Generator().manual_seed(seed),
        **{"alpha": ALPHA, **options},
    )


def by_geweke(tested: Subject, seed: int = 0, **options: Any) -> Verdict:
    return geweke_test(
        tested.forward,
        tested.target,
        tested.target.space,
        tested.target.draw,
        tested.target.redraw,
        patterns=tested.free,
        statistics=tested.target.statistics,
        generator=torch.Generator().manual_seed(seed),
        **{"alpha": ALPHA, **options},
    )


def caught(test: Callable[..., Verdict], tested: Subject, **options: Any) -> bool:
    """Whether a test rejects a path, or sees it move or lose what is given, which no right path does."""
    try:
        return test(tested, **options).rejected
    except (AssertionError, FloatingPointError) as error:
        assert re.search(r"moved a clamped entry|not finite in row \d+ at the start", str(error))  # noqa: PT017
        return True


RIGHT = {
    "Gibbs-with-Gradients": path(GWG),
    "Gibbs": path(Gibbs(SPACE)),
    "MALA": path(MOVE_X),
    "Algorithm 1 with MALA": path(GWG, MOVE_X, MOVE_SHARE),
    "every kernel": path(GWG, MOVE_X, Gibbs(SPACE), MOVE_SHARE),
    "every kernel there and back": path(GWG, MOVE_X, Gibbs(SPACE), MOVE_SHARE, Gibbs(SPACE), MOVE_X, GWG)._replace(
        reverse=None
    ),
}

# Planted bugs.


@dataclass(frozen=True)
class UntilAccepted(Kernel):
    """Proposes until it accepts, at most ten times: Gandy and Scott's own example of a bug."""

    kernel: Kernel
    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        moved, info = self.kernel.step(log_density, chain, free=free, generator=generator)
        for _ in range(9):
            again, outcome = self.kernel.step(log_density, chain, free=free, generator=generator)
            moved = moved.where(info.accepted, again)  # type: ignore[union-attr]
            info = Info(info.accept_prob, info.accepted | outcome.accepted)  # type: ignore[union-attr]
        return moved, info


@dataclass(frozen=True)
class AtOnce(Kernel):
    """Moves blocks by two kernels, both from where the chain was before."""

    first: Kernel
    second: Kernel
    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        one, info = self.first.step(log_density, chain, free=free, generator=generator)
        two, _ = self.second.step(log_density, chain, free=free, generator=generator)
        return evaluate(log_density, {**one.position, "x": two.position["x"]}), info


def of_values(position: Position) -> Tensor:
    """The log-density over values: the log-derivative of the logit's inverse is left in."""
    value = position["share"].sigmoid()
    return TARGET(position) - (value * (1 - value)).log()


def unnormalised(position: Position) -> Tensor:
    """The normals without their scale, which depends on the labels."""
    return SMALL(position) + SMALL.at(position, SMALL.scales.log().sum(dim=1).expand(len(position["x"]), -1))


def gwg(fault: str, free: Sequence[Mask] = LABELS) -> Subject:
    return small(mutant(GibbsWithGradients, fault)(SMALL.space), free=free)


def gibbs(fault: str) -> Subject:
    return small(mutant(Gibbs, fault)(SMALL.space))


def mala(fault: str, free: Sequence[Mask] | None = None) -> Subject:
    return small(mutant(MALA, fault)("x", 1.2, 0.7 if "temperature" in fault else 1.0), free=free)


def in_gibbs(right: str, wrong: str) -> Subject:
    return small(altered(Gibbs, {right: wrong})(SMALL.space))


def in_mala(right: str, wrong: str, free: Sequence[Mask] | None = None) -> Subject:
    return small(altered(MALA, {right: wrong})("x", 1.2), free=free)


def in_space(right: str, wrong: str) -> Subject:
    return path(GWG, MOVE_X, MOVE_SHARE, space=altered(Space, {right: wrong})(**SPACE))


def in_log_density(log_density: LogDensity) -> Subject:
    return path(GWG, MOVE_X, MOVE_SHARE, log_density=log_density)


CHOICE, NOISE, ACCEPT = "choose(f, generator)", "normal(x, generator)", "metropolis(log_ratio, "
GIVEN, FREE = "values[name] = tensor.broadcast_to(shape)", "{name: ~mask for name, mask in observed.items()}"
PLACED = "torch.where(block.expand(observed[name]), encoded[name], init[name])"
BETTER = "(log_ratio > 0) if movable is None else movable & (log_ratio > 0)"
DRAWN = "block.draw(block.uniform_noise().double(), num_chains, generator)"
DECODED = "return {name: self[name].decode(position[name]) for name in self if name in position}"
READ = f"found = {DECODED[7:]}; "

# Too small for the draws of the quick suite, or for any test that draws.
NOT_SEEN = ("current class masked only in the reverse", "stale score", "clamp ignored in the reverse")
BUGS: dict[str, Subject] = {
    **{f"GWG: {fault}": gwg(fault) for fault in FAULTS[GibbsWithGradients] if fault not in NOT_SEEN},
    "GWG: clamp ignored": gwg("clamp ignored", free=patterns(SMALL.space)),
    "GWG: proposes until it accepts": small(UntilAccepted(SMALL_GWG), free=LABELS),
    "GWG: keeps the better state": small(
        altered(GibbsWithGradients, {"(log_ratio, movable, ": f"(log_ratio, {BETTER}, "})(SMALL.space)
    ),
    **{f"Gibbs: {fault}": gibbs(fault) for fault in FAULTS[Gibbs] if "stale" not in fault},
    "Gibbs: first class never drawn": in_gibbs(CHOICE, "choose(f[:, 1:], generator) + 1"),
    "Gibbs: class drawn without its weight": in_gibbs(CHOICE, "choose(torch.where(f == -torch.inf, f, 0), generator)"),
    "Gibbs: class numbers off by one": in_gibbs(CHOICE, "(choose(f, generator) - 1).clamp(min=0)"),
    **{f"MALA: {fault}": mala(fault) for fault in FAULTS[MALA] if "ignored in the f ratio" not in fault},
    "MALA: clamped entries in the proposal ratio": mala("clamped entries in the proposal ratio", free=HALF),
    "MALA: a temperature of its own": small(MALA("x", 1.2, 0.5)),
    "MALA: noise halved": in_mala(NOISE, f"{NOISE} / 2"),
    "MALA: one noise for two entries": in_mala(NOISE, f"{NOISE}[:, :1]", free=REALS),
    "MALA: one noise for all rows": in_mala(NOISE, f"{NOISE}[:1]"),
    "MALA: noise without a sign": in_mala(NOISE, f"{NOISE}.abs()"),
    "MALA: everything accepted": in_mala(ACCEPT, "metropolis(0 * log_ratio, "),
    "MALA: ratio squared": in_mala(ACCEPT, "metropolis(2 * log_ratio, "),
    "MALA: accepts by the ratio of the neighbouring row": in_mala(ACCEPT, "metropolis(log_ratio.roll(1), "),
    "MALA: reals are rounded down": in_mala(
        "return proposal.where(info.accepted, chain),",
        "x = proposal.where(info.accepted, chain).position['x']; "
        "return evaluate(log_density, {**chain.position, 'x': torch.where(mask, (x * 4).floor() / 4, x)}),",
    ),
    "MALA: reals are clipped": in_mala("(mask, moved, x)", "(mask, moved.clamp(-1.5, 1.5), x)"),
    "Langevin: unadjusted, large steps": small(Langevin("x", 1.2)),
    "cycle: order depends on the state": small(StateDependentCycle(SMALL_GIBBS, MOVE_X, threshold=-3.0)),
    "cycle: f goes stale when labels move": small(mutant(GibbsWithGradients, "stale f")(SMALL.space), MOVE_X, free=ALL),
    "cycle: reals and labels move at once": small(AtOnce(SMALL_GIBBS, MOVE_X), free=ALL),
    "given: of the neighbouring chain": in_space(GIVEN, f"{GIVEN}.roll(5, dims=0)"),
    "given: that of the first chain for all": in_space(GIVEN, f"{GIVEN}[torch.arange(num_chains) % 5]"),
    "given: classes off by one": in_space(
        GIVEN,
        f"{GIVEN}\n                if name == 'y': values[name] = torch.where(tensor >= 0, (tensor + 1) % 4, tensor)",
    ),
    "given: class 0 taken for missing": in_space(
        GIVEN, f"{GIVEN}\n                if name == 'y': values[name] = torch.where(tensor == 0, -1, tensor)"
    ),
    "given: noise in its place": in_space(PLACED, DRAWN),
    "given: mask inverted": in_space(FREE, FREE.replace("~", "")),
    "given: mask lost": in_space(FREE, FREE.replace("~mask", "mask | True")),
    "given: mask of a whole block": in_space(
        FREE,
        FREE.replace(
            "~mask", "(~mask).reshape(num_chains, -1).any(dim=1).reshape(-1, *[1] * (mask.ndim - 1)).expand_as(mask)"
        ),
    ),
    "start: from noise at every call": in_space(PLACED, PLACED.replace("init[name]", DRAWN)),
    "values: variables of a ragged group mixed up": in_space(
        DECODED,
        READ
        + "found['group'] = torch.stack([found['group'][:, 1].clamp(max=1), found['group'][:, 0]], 1); return found",
    ),
    "values: two classes decoded as one": in_space(
        DECODED, READ + "found['y'] = found['y'].clamp(max=2); return found"
    ),
    "values: shares clipped": in_space(DECODED, READ + "found['share'] = found['share'].clamp(0.3, 0.7); return found"),
    "f: density of values, not of positions": in_log_density(of_values),
    "f: normalisation that depends on the labels left out": small(SMALL_GIBBS, free=LABELS, log_density=unnormalised),
    "f: at temperature 1.5": in_log_density(lambda position: TARGET(position) / 1.5),
    "f: label weights left out": in_log_density(lambda p: TARGET(p) - p["y"] @ p["y"].new_tensor([1.0, 0, 0, -1.0])),
}
# Too small for the draws of the quick suite.
SMALL_BUGS = {
    "GWG: current class masked only in the reverse": gwg("current class masked only in the reverse"),
    "GWG: stale score": gwg("stale score"),
    "cycle: score goes stale when labels move": small(
        mutant(GibbsWithGradients, "stale score")(SMALL.space), MOVE_X, free=ALL
    ),
}
# Exact draws on stage 1 of the rank test: a few bugs need more than the others.
NUM_DRAWS = {
    "GWG: proposal ratio missing": 4000,
    "GWG: gradient halved only in the forward": 6000,
    "GWG: binary gain has the wrong sign in the reverse": 4000,
    "MALA: proposal ratio missing": 6000,
    "cycle: f goes stale when labels move": 4000,
}
# Some of each kind are also caught by Geweke's test, within its first two stages.
BY_GEWEKE = [
    "GWG: reverse proposal missing",
    "GWG: clamp ignored",
    "Gibbs: scan depends on the state",
    "MALA: f ratio sign flipped",
    "MALA: one noise for all rows",
    "Langevin: unadjusted, large steps",
    "given: mask lost",
    "start: from noise at every call",
    "values: two classes decoded as one",
    "f: density of values, not of positions",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("test", [by_ranks, by_geweke])
def test_a_right_path_passes(test: Callable[..., Verdict], name: str) -> None:
    verdict = test(RIGHT[name], num_draws=1000)
    assert not verdict.rejected, verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught_by_ranks(name: str) -> None:
    assert caught(by_ranks, BUGS[name], num_draws=NUM_DRAWS.get(name, 2000), num_steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_GEWEKE)
def test_a_planted_bug_is_caught_by_geweke(name: str) -> None:
    assert caught(by_geweke, BUGS[name], num_draws=2000)


@pytest.mark.soak
def test_no_false_alarm_over_200_seeds() -> None:
    """Both tests of the right paths in turn: 400 verdicts at 1e-5, so one alarm has probability 0.004.

    Their first p-values say more: each is at most 0.05 with probability at most 0.05, and more than 26 of 200 that are
    have probability below 1e-5.
    """
    tail = sum(math.comb(200, k) * 0.05**k * 0.95 ** (200 - k) for k in range(27, 201))
    assert tail < 1e-5
    for test in (by_ranks, by_geweke):
        verdicts = [test(list(RIGHT.values())[seed % len(RIGHT)], seed, num_draws=500) for seed in range(200)]
        assert [seed for seed, verdict in enumerate(verdicts) if verdict.rejected] == []
        assert sum(verdict.p_values[0] <= 0.05 for verdict in verdicts) <= 26


@pytest.mark.soak
@pytest.mark.parametrize("name", SMALL_BUGS)
def test_a_small_bug_is_caught_with_many_draws(name: str) -> None:
    assert by_ranks(SMALL_BUGS[name], num_draws=20_000, num_steps=4).rejected
