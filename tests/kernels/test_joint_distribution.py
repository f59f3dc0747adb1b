"""Specification of the joint-distribution tests: every planted bug of the conditional path is caught, no right path is.

The path is that of a user: values, `sample` with `given`, values. Each planted bug is the right path with one thing bent:
in a kernel, in the draws, in the space that clamps and encodes, in the log-density, or around the call.

Legend: N rows, S configurations, V discrete variables, D real entries, K classes.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, sample
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Info, Kernel, Langevin, LogDensity, evaluate
from jointebm.randomness.draws import Generator, accept, choose, normal, uniform
from jointebm.spaces.space import Mask, Position
from jointebm.spaces.transforms import Logit
from jointebm.testing import Transition, Verdict, conditional_path, geweke_test, rank_test, sequential_test
from support.oracles import FaultyGibbs, FaultyGibbsWithGradients, FaultyMALA

ALPHA = 1e-5  # false-alarm rate of every test below that does not say otherwise


# A target on every kind of block from which everything can be drawn exactly.


class Mixture:
    """p(c) of every configuration c of the labels; reals mean_c + scale_c * v with v ~ N(0, R), R a correlation matrix.

    Between the corners of the one-hot cube f is bent by tilt * y (1 - y), which is nothing at a configuration, so that
    the gradient is a poor guide and proposals have to be put right by the acceptance.
    """

    def __init__(self, space: Space, seed: int, strength: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        num, width = space.num_configurations, sum(math.prod(space[name].variable_shape) for name in space.continuous)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.space = space
        self.log_probs = (0.8 * strength * draw(num)).log_softmax(dim=0)  # (S,)
        self.means, self.scales = 0.6 * strength * draw(num, width), (0.4 * draw(num, width)).exp()  # (S, D)
        self.correlation = torch.eye(width).double().where(torch.eye(width) > 0, torch.tensor(0.6).double())
        self.tilt = {name: 2.0 * draw(*space[name].position_shape) for name in space.discrete}
        self.configurations = space.configurations(dtype=torch.float64)

    def real(self, position: Position) -> Tensor:
        """Real entries side by side, (N, D)."""
        return torch.cat([position[name].reshape(len(position[name]), -1) for name in self.space.continuous], dim=1)

    def log_normal(self, x: Tensor, known: Tensor) -> Tensor:
        """Log-density, up to a constant, of the entries known in each row, (N, D), in each configuration, (N, S)."""
        v = (x[:, None] - self.means) / self.scales * known[:, None]  # (N, S, D)
        squares = torch.einsum("nsd,nde,nse->ns", v, self._precision(known), v)
        return -0.5 * squares - known @ self.scales.log().T

    def _precision(self, known: Tensor) -> Tensor:
        """Inverse of the correlation of the known entries of each row, (N, D, D); the identity in the others."""
        return (known[:, :, None] * self.correlation * known[:, None] + (1 - known).diag_embed()).inverse()

    def __call__(self, position: Position) -> Tensor:
        x = self.real(position)
        f = self.log_probs + self.log_normal(x, torch.ones_like(x))  # (N, S)
        bent = [(self.tilt[n] * position[n] * (1 - position[n])).reshape(len(f), -1).sum(1) for n in self.tilt]
        return self.at(position, f) + torch.stack(bent).sum(dim=0)

    def at(self, position: Position, table: Tensor) -> Tensor:
        """The entry of each row of a table (N, S) that belongs to its configuration, (N,)."""
        for column in self._classes(position):  # one variable after the other, so the gradient exists everywhere
            table = (table.reshape(len(table), column.shape[1], -1) * column[:, :, None]).sum(dim=1)
        return table[:, 0]

    def _classes(self, position: Position) -> list[Tensor]:
        """One (N, K) per discrete variable, in the order of `Space.configurations`."""
        columns = []
        for name in self.space.discrete:
            flat = position[name].reshape(len(position[name]), -1)
            if isinstance(self.space[name], Binary):
                columns += [torch.stack([1 - bit, bit], dim=1) for bit in flat.T]
            else:
                columns += flat.split(list(self.space.num_classes(name)), dim=1)
        return columns

    def pull(self, position: Position) -> Tensor:
        """What the misleading part of the gradient pulls to."""
        return torch.stack([(self.tilt[n] * position[n]).reshape(len(position[n]), -1).sum(1) for n in self.tilt]).sum(
            0
        )

    @property
    def statistics(self) -> dict[str, Callable[[Position], Tensor]]:
        """f, the pull, the first entries, their squares and product, and the first and last column of labels."""
        return {
            "f": self,
            "pull": self.pull,
            "x0": lambda p: self.real(p)[:, 0],
            "x1": lambda p: self.real(p)[:, 1],
            "last real": lambda p: self.real(p)[:, -1],
            "x0^2": lambda p: self.real(p)[:, 0].square(),
            "last real^2": lambda p: self.real(p)[:, -1].square(),
            "x0 x1": lambda p: self.real(p)[:, 0] * self.real(p)[:, 1],
            **{f"first {n}": lambda p, n=n: p[n].reshape(len(p[n]), -1)[:, 0] for n in self.space.discrete},
            **{f"last {n}": lambda p, n=n: p[n].reshape(len(p[n]), -1)[:, -1] for n in self.space.discrete},
        }

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Exact draws of everything."""
        like = {name: value[:1].expand(num, *value.shape[1:]) for name, value in self.configurations.items()}
        like |= {n: torch.zeros(num, *self.space[n].variable_shape).double() for n in self.space.continuous}
        return self.redraw(like, {}, generator)

    def redraw(self, position: Position, free: Mask, generator: Generator) -> dict[str, Tensor]:
        """Exact draws of what is not free, given what is."""
        num = len(next(iter(position.values())))
        off = torch.tensor(False)
        known = {n: free.get(n, off).expand(num, *block.variable_shape) for n, block in self.space.items()}
        x, known_x = self.real(position), torch.cat([known[n].reshape(num, -1) for n in self.space.continuous], dim=1)
        known_x = known_x.double()
        log_weights = self.log_probs + self.log_normal(x, known_x)  # (N, S)
        for name, every in self.configurations.items():
            differs = (position[name][:, None] != every) & self.space[name].expand(known[name])[:, None]
            log_weights = log_weights.masked_fill(differs.reshape(num, len(every), -1).any(dim=2), -torch.inf)
        c = choose(log_weights, generator)
        drawn = {name: every[c] for name, every in self.configurations.items()}
        v = normal(x, generator) @ torch.linalg.cholesky(self.correlation).T
        # Matheron's rule: a draw of everything, moved by what the known entries are off.
        off_by = ((x - self.means[c]) / self.scales[c] - v) * known_x
        v = v + torch.einsum("de,nef,nf->nd", self.correlation, self._precision(known_x) * known_x[:, :, None], off_by)
        x = self.means[c] + self.scales[c] * v
        widths = [math.prod(self.space[name].variable_shape) for name in self.space.continuous]
        for name, part in zip(self.space.continuous, x.split(widths, dim=1), strict=True):
            drawn[name] = part.reshape(num, *self.space[name].variable_shape)
        return {n: torch.where(b.expand(known[n]), position[n], drawn[n]) for n, b in self.space.items()}


SPACE = Space(
    x=Continuous(2),
    y=Categorical(4),
    bit=Binary(),
    group=Categorical((2, 3)),
    share=Continuous((), Logit()),
)
TARGET = Mixture(SPACE, 0)
# Fewer variables and a closer tie between reals and labels: where most bugs of a kernel show with the fewest draws.
SMALL = Mixture(Space(x=Continuous(2), group=Categorical((2, 3)), bit=Binary()), 1)


def mask(*entries: bool) -> Tensor:
    return torch.tensor(entries) if len(entries) > 1 else torch.tensor(entries[0])


def patterns(target: Mixture) -> list[dict[str, Tensor]]:
    """What is free: labels, reals, everything, and parts of blocks."""
    space = target.space
    return [
        {name: mask(True) for name in space.discrete},
        {name: mask(True) for name in space.continuous},
        {name: mask(True) for name in space},
        {"x": mask(True, False), "group": mask(False, True), "bit": mask(True)},
        {"x": mask(False, True), "group": mask(True, False)} | {n: mask(True) for n in space if n in ("y", "share")},
    ]


NUM_PATTERNS = len(patterns(TARGET))

# Right paths, and the tests of any path.

GWG, GIBBS, SYSTEMATIC = GibbsWithGradients(SPACE), Gibbs(SPACE), Gibbs(SPACE, scan="systematic")
SMALL_GWG, SMALL_GIBBS = GibbsWithGradients(SMALL.space), Gibbs(SMALL.space)
MOVE_X, MOVE_SHARE = MALA("x", 1.2), MALA("share", 1.2)


class Subject(NamedTuple):
    """A conditional path, its reversal (None is itself), its target, and what is free (None: all kinds)."""

    forward: Transition
    reverse: Transition | None = None
    target: Mixture = TARGET
    free: Sequence[Mask] | None = None


def path(
    *kernels: Kernel,
    target: Mixture = TARGET,
    log_density: LogDensity | None = None,
    num_steps: int = 2,
    free: Sequence[Mask] | None = None,
) -> Subject:
    """A cycle of reversible kernels, and the same in the opposite order; the log-density is the target's own."""

    def run(order: Sequence[Kernel]) -> Transition:
        kernel = Cycle(tuple(order))
        return conditional_path(log_density or target, target.space, kernel, num_steps=num_steps)

    return Subject(run(kernels), run(kernels[::-1]) if len(kernels) > 1 else None, target, free)


RIGHT = {
    "Gibbs-with-Gradients": path(GWG),
    "Gibbs": path(GIBBS),
    "MALA": path(MOVE_X),
    "Algorithm 1 with MALA": path(GWG, MOVE_X, MOVE_SHARE),
    "every kernel": path(GWG, MOVE_X, GIBBS, MOVE_SHARE),
    "every kernel there and back": Subject(
        path(GIBBS, MOVE_X, GWG, MOVE_SHARE, GWG, MOVE_X, GIBBS, num_steps=1).forward
    ),
    "copies without a fault": path(
        FaultyGibbsWithGradients(SPACE), FaultyMALA("x", 1.2), FaultyGibbs(SPACE), MOVE_SHARE, num_steps=1
    ),
}


def by_ranks(tested: Subject, seed: int = 0, **options: Any) -> Verdict:
    return rank_test(
        tested.forward,
        tested.target,
        tested.target.space,
        tested.target.draw,
        reverse=tested.reverse,
        patterns=tested.free or patterns(tested.target),
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
        patterns=tested.free or patterns(tested.target),
        statistics=tested.target.statistics,
        generator=torch.Generator().manual_seed(seed),
        **{"alpha": ALPHA, **options},
    )


def caught(test: Callable[..., Verdict], tested: Subject, **options: Any) -> bool:
    """Whether a test rejects a path, or sees it move what is held, which no right path does."""
    try:
        return test(tested, **options).rejected
    except AssertionError as error:
        assert "moved a held entry" in str(error)  # noqa: PT017
        return True


# Planted bugs.


@dataclass(frozen=True)
class Bent(Kernel):
    """A kernel whose stream of draws, log-density or result is bent."""

    kernel: Kernel
    stream: Callable[[Generator], Generator] = lambda generator: generator
    after: Callable[[LogDensity, Chain, Chain, Generator], Position] | None = None

    @property
    def uses_score(self) -> bool:
        return self.kernel.uses_score

    @property
    def adjusted(self) -> bool:
        return self.kernel.adjusted

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        moved, info = self.kernel.step(log_density, chain, free=free, generator=self.stream(generator))
        if self.after is not None:
            position = self.after(log_density, chain, moved, generator)
            position = {n: torch.where(_free(n, free), value, moved.position[n]) for n, value in position.items()}
            moved = evaluate(log_density, position, with_score=self.uses_score)
        return moved, info


def _free(name: str, free: Mask) -> Tensor:
    """The mask of a block of the small space, over the entries of its position."""
    return SMALL.space[name].expand(free[name]) if name in free else mask(False)


class BentStream(NamedTuple):
    """Draws that pass through functions first."""

    generator: Generator
    bend_normal: Callable[[Tensor], Tensor] = lambda noise: noise
    bend_weights: Callable[[Tensor], Tensor] = lambda log_weights: log_weights
    bend_choice: Callable[[Tensor], Tensor] = lambda index: index
    bend_ratio: Callable[[Tensor], Tensor] = lambda log_ratio: log_ratio

    def normal(self, like: Tensor) -> Tensor:
        return self.bend_normal(normal(like, self.generator))

    def uniform(self, like: Tensor) -> Tensor:
        return uniform(like, self.generator)

    def choose(self, log_weights: Tensor) -> Tensor:
        return self.bend_choice(choose(self.bend_weights(log_weights), self.generator))

    def accept(self, log_ratio: Tensor) -> Tensor:
        return accept(self.bend_ratio(log_ratio), self.generator)


def drawing(kernel: Kernel, **bends: Callable[[Tensor], Tensor]) -> Bent:
    return Bent(kernel, stream=lambda generator: BentStream(generator, **bends))


def first_excluded(log_weights: Tensor) -> Tensor:
    """The first candidate is never chosen, if there is another one."""
    others = log_weights.clone()
    others[:, 0] = -torch.inf
    return torch.where((others > -torch.inf).any(dim=1, keepdim=True), others, log_weights)


class BentSpace(Space):
    """The space of the target with one method bent."""

    def __init__(
        self,
        clamp: Callable[..., Any] | None = None,
        encode: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        decode: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        super().__init__(**SPACE)
        self.bend_clamp, self.bend_encode, self.bend_decode = clamp, encode, decode

    def clamp(self, given: Any, **options: Any) -> Any:
        if self.bend_encode is not None:
            given = self.bend_encode(dict(given))
        if self.bend_clamp is not None:
            return self.bend_clamp(given, **options)
        return SPACE.clamp(given, **options)

    def decode(self, position: Position) -> dict[str, Tensor]:
        values = SPACE.decode(position)
        return values if self.bend_decode is None else self.bend_decode(values)


def in_space(**bends: Any) -> Subject:
    """The right path but for the space of `sample`."""
    space = BentSpace(**bends)

    def run(kernels: Sequence[Kernel]) -> Transition:
        return around(lambda given, init, generator: _sample(space, kernels, given, init, generator))

    return Subject(run((GWG, MOVE_X, MOVE_SHARE)), run((MOVE_SHARE, MOVE_X, GWG)))


def _sample(space: Space, kernels: Sequence[Kernel], given: Any, init: Any, generator: Generator) -> dict[str, Tensor]:
    num_chains = len(init["x"])
    kernel = Cycle(tuple(kernels))
    return sample(
        TARGET, space, kernel, num_chains=num_chains, num_steps=2, given=given, init=init, generator=generator
    ).values


def around(call: Callable[[dict[str, Tensor], dict[str, Tensor], Generator], dict[str, Tensor]]) -> Transition:
    """A path written out by hand, as `conditional_path` has it, but held entries keep their bits if close."""

    def transition(position: Position, free: Mask, generator: Generator) -> dict[str, Tensor]:
        full = {n: free.get(n, mask(False)).expand(len(position["x"]), *b.variable_shape) for n, b in SPACE.items()}
        values = SPACE.decode(position)
        given = {n: torch.where(full[n], -1 if b.discrete else torch.nan, values[n]) for n, b in SPACE.items()}
        moved, _ = SPACE.encode(call(given, dict(position), generator), dtype=torch.float64)
        return {n: torch.where((moved[n] - position[n]).abs() < 1e-9, position[n], moved[n]) for n in SPACE}

    return transition


def rolled(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every chain gets the given values of its neighbour with the same pattern."""
    return {name: value.roll(NUM_PATTERNS, dims=0) for name, value in given.items()}


def first_for_all(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every chain gets the given values of the first chain with the same pattern."""
    return {n: value[torch.arange(len(value)) % NUM_PATTERNS] for n, value in given.items()}


def next_class(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**given, "y": torch.where(given["y"] >= 0, (given["y"] + 1) % 4, given["y"])}


def zero_is_missing(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**given, "y": torch.where(given["y"] == 0, -1, given["y"])}


def groups_swapped(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The two variables of the ragged group are read in the wrong order."""
    first, second = values["group"].unbind(dim=1)
    return {**values, "group": torch.stack([second.clamp(max=1), first], dim=1)}


def mask_inverted(given: Any, **options: Any) -> Any:
    position, free = SPACE.clamp(given, **options)
    return position, {name: ~value for name, value in free.items()}


def mask_lost(given: Any, **options: Any) -> Any:
    position, free = SPACE.clamp(given, **options)
    return position, {name: torch.ones_like(value) for name, value in free.items()}


def block_mask(given: Any, **options: Any) -> Any:
    """A block moves as a whole as soon as any of its variables is free."""
    position, free = SPACE.clamp(given, **options)
    return position, {n: v | v.reshape(len(v), -1).any(1).reshape(-1, *[1] * (v.ndim - 1)) for n, v in free.items()}


def init_lost(given: Any, *, init: Any, **options: Any) -> Any:
    return SPACE.clamp(given, **{**options, "dtype": init["x"].dtype})


def given_lost(given: Any, *, init: Any, **options: Any) -> Any:
    """What is given says what may move, but noise stands in its place."""
    _, free = SPACE.clamp(given, init=init, **options)
    noise, _ = SPACE.clamp(None, **{**options, "dtype": init["x"].dtype})
    return noise, free


def of_values(position: Position) -> Tensor:
    """The log-density over values: that over positions minus the log-derivative of the logit's inverse, left in."""
    value = position["share"].sigmoid()
    return TARGET(position) - (value * (1 - value)).log()


def unnormalised(position: Position) -> Tensor:
    """The normals without their scale, which depends on the labels."""
    return SMALL(position) + SMALL.at(position, SMALL.scales.log().sum(dim=1).expand(len(position["x"]), -1))


def tempered(position: Position) -> Tensor:
    return TARGET(position) / 1.5


def uphill(log_density: LogDensity, before: Chain, after: Chain, generator: Generator) -> Position:  # noqa: ARG001
    """The better of the two states."""
    keep = before.f > after.f
    return {
        n: torch.where(keep.reshape(-1, *[1] * (v.ndim - 1)), before.position[n], v) for n, v in after.position.items()
    }


def coarse(log_density: LogDensity, before: Chain, after: Chain, generator: Generator) -> Position:  # noqa: ARG001
    """Reals are stored with steps of 1/4."""
    return {**after.position, "x": (after.position["x"] * 4).floor() / 4}


def clipped(log_density: LogDensity, before: Chain, after: Chain, generator: Generator) -> Position:  # noqa: ARG001
    """Reals are kept in [-1.5, 1.5]."""
    return {**after.position, "x": after.position["x"].clamp(-1.5, 1.5)}


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
        position = {**one.position, "x": two.position["x"]}
        return evaluate(log_density, position), info


@dataclass(frozen=True)
class StaleScore(Kernel):
    """Keeps the score of where the chain was after labels have moved."""

    kernel: Kernel
    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        moved, info = self.kernel.step(log_density, chain, free=free, generator=generator)
        return moved._replace(score=chain.score), info


@dataclass(frozen=True)
class StaleF(Kernel):
    """Keeps the f of where the chain was."""

    kernel: Kernel
    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        moved, info = self.kernel.step(log_density, chain, free=free, generator=generator)
        return moved._replace(f=chain.f), info


LABELS, REALS, ALL, HALF = [patterns(SMALL)[0]], [patterns(SMALL)[1]], [patterns(SMALL)[2]], [{"x": mask(True, False)}]


def small(*kernels: Kernel, free: Sequence[Mask] | None = None, log_density: LogDensity | None = None) -> Subject:
    return path(*kernels, target=SMALL, free=free, log_density=log_density)


def gwg(fault: str, free: Sequence[Mask] = LABELS) -> Subject:
    return small(FaultyGibbsWithGradients(SMALL.space, fault), free=free)


def gibbs(fault: str) -> Subject:
    return small(FaultyGibbs(SMALL.space, fault))


def mala(fault: str, free: Sequence[Mask] | None = None) -> Subject:
    return small(FaultyMALA("x", 1.2, 0.7 if "temperature" in fault else 1.0, fault), free=free)


def in_log_density(log_density: LogDensity) -> Subject:
    return path(GWG, MOVE_X, MOVE_SHARE, log_density=log_density)


BUGS: dict[str, Subject] = {
    # Discrete proposals and acceptances
    "GWG: acceptance without the reverse proposal": gwg("reverse proposal missing"),
    "GWG: acceptance without any proposal": gwg("proposal ratio missing"),
    "GWG: proposal ratio upside down": gwg("proposal ratio inverted"),
    "GWG: last class never proposed": gwg("last class never proposed"),
    "GWG: old score on the way back": gwg("stale score in the reverse"),
    "GWG: gradient halved only on the way out": gwg("gradient halved only in the forward"),
    "GWG: sign of the binary gain on the way back": gwg("binary gain has the wrong sign in the reverse"),
    "GWG: held labels move": gwg("clamp ignored", free=patterns(SMALL)),
    "GWG: difference of f upside down": gwg("f ratio sign flipped"),
    "GWG: difference of f missing": gwg("f ratio missing"),
    "GWG: temperature applied twice": gwg("temperature applied twice"),
    "GWG: f of the neighbouring row": gwg("accepts with the f of another row"),
    "GWG: f of the previous step": gwg("stale f"),
    "Gibbs: current class left out": gibbs("current class excluded"),
    "Gibbs: softmax at temperature 2": gibbs("softmax at temperature 2"),
    "Gibbs: last class never drawn": gibbs("last class never drawn"),
    "Gibbs: which variable moves depends on the labels": gibbs("scan depends on the state"),
    "Gibbs: held labels move": gibbs("clamp ignored"),
    "Gibbs: first class never drawn": small(drawing(SMALL_GIBBS, bend_weights=first_excluded)),
    "Gibbs: class drawn without its weight": small(
        drawing(SMALL_GIBBS, bend_weights=lambda w: torch.where(w.isfinite(), 0.0, w))
    ),
    "Gibbs: class numbers off by one": small(drawing(SMALL_GIBBS, bend_choice=lambda index: (index - 1).clamp(min=0))),
    # Langevin moves
    "MALA: acceptance without the proposals": mala("proposal ratio missing"),
    "MALA: drift doubled on the way out": mala("drift doubled"),
    "MALA: old score on the way back": mala("stale score in the reverse"),
    "MALA: difference of f upside down": mala("f ratio sign flipped"),
    "MALA: temperature applied twice": mala("temperature applied twice"),
    "MALA: held entries count in the proposal": mala("clamped entries in the proposal ratio", free=HALF),
    "MALA: held entries move": mala("clamp ignored"),
    "MALA: a temperature of its own": small(MALA("x", 1.2, 0.5)),
    "MALA: noise halved": small(drawing(MOVE_X, bend_normal=lambda noise: noise / 2)),
    "MALA: one noise for two entries": small(
        drawing(MOVE_X, bend_normal=lambda noise: noise[:, :1].expand(-1, 2)), free=REALS
    ),
    "MALA: one noise for all rows": small(drawing(MOVE_X, bend_normal=lambda noise: noise[:1].expand(len(noise), 2))),
    "MALA: noise without a sign": small(drawing(MOVE_X, bend_normal=torch.abs)),
    "MALA: everything accepted": small(drawing(MOVE_X, bend_ratio=torch.zeros_like)),
    "MALA: ratio squared": small(drawing(MOVE_X, bend_ratio=lambda log_ratio: 2 * log_ratio)),
    "MALA: accepts by the ratio of the neighbouring row": small(
        drawing(MOVE_X, bend_ratio=lambda log_ratio: log_ratio.roll(1))
    ),
    "GWG: proposes until it accepts": small(UntilAccepted(SMALL_GWG), free=LABELS),
    "Langevin: unadjusted, large steps": small(Langevin("x", 1.2)),
    # Between kernels
    "cycle: f goes stale when labels move": small(StaleF(SMALL_GWG), MOVE_X, free=ALL),
    "cycle: reals and labels move at once": small(AtOnce(SMALL_GIBBS, MOVE_X), free=ALL),
    "cycle: keeps the better state": small(Bent(SMALL_GWG, after=uphill)),
    "cycle: reals are rounded down": small(Bent(MOVE_X, after=coarse)),
    "cycle: reals are clipped": small(Bent(MOVE_X, after=clipped)),
    # Values, given and start
    "given: of the neighbouring chain": in_space(encode=rolled),
    "given: that of the first chain for all": in_space(encode=first_for_all),
    "given: classes off by one": in_space(encode=next_class),
    "given: class 0 taken for missing": in_space(encode=zero_is_missing),
    "given: noise in its place": in_space(clamp=given_lost),
    "given: mask inverted": in_space(clamp=mask_inverted),
    "given: mask lost": in_space(clamp=mask_lost),
    "given: mask of a whole block": in_space(clamp=block_mask),
    "start: from noise at every call": in_space(clamp=init_lost),
    "values: variables of a ragged group mixed up": in_space(decode=groups_swapped),
    "values: two classes decoded as one": in_space(decode=lambda v: {**v, "y": v["y"].clamp(max=2)}),
    "values: logit decoded without its margin, then clipped": in_space(
        decode=lambda v: {**v, "share": v["share"].clamp(0.2, 0.8)}
    ),
    # The log-density
    "f: density of values, not of positions": in_log_density(of_values),
    "f: normalisation that depends on the labels left out": small(SMALL_GIBBS, free=LABELS, log_density=unnormalised),
    "f: at temperature 1.5": in_log_density(tempered),
    "f: label weights left out": in_log_density(lambda p: TARGET(p) - p["y"] @ p["y"].new_tensor([1.0, 0, 0, -1.0])),
}
# Too small for the draws of the quick suite.
SMALL_BUGS = {
    "GWG: current class masked only on the way back": gwg("current class masked only in the reverse"),
    "GWG: score of the previous step": gwg("stale score"),
    "cycle: score goes stale when labels move": small(StaleScore(SMALL_GWG), MOVE_X, free=ALL),
}
# Exact draws on stage 1 of the rank test: a few bugs need more than the others.
NUM_DRAWS = {
    "GWG: acceptance without any proposal": 4000,
    "GWG: gradient halved only on the way out": 6000,
    "GWG: sign of the binary gain on the way back": 4000,
    "MALA: acceptance without the proposals": 6000,
    "cycle: f goes stale when labels move": 4000,
}
# Also shown by Geweke's test, within its first two stages.
BY_GEWEKE = [
    "GWG: acceptance without the reverse proposal",
    "GWG: last class never proposed",
    "GWG: difference of f upside down",
    "GWG: difference of f missing",
    "GWG: held labels move",
    "Gibbs: last class never drawn",
    "Gibbs: which variable moves depends on the labels",
    "Gibbs: first class never drawn",
    "Gibbs: class drawn without its weight",
    "MALA: difference of f upside down",
    "MALA: noise halved",
    "MALA: one noise for two entries",
    "MALA: one noise for all rows",
    "MALA: noise without a sign",
    "MALA: everything accepted",
    "MALA: held entries move",
    "Langevin: unadjusted, large steps",
    "cycle: keeps the better state",
    "cycle: reals are clipped",
    "given: of the neighbouring chain",
    "given: mask lost",
    "start: from noise at every call",
    "values: two classes decoded as one",
    "f: density of values, not of positions",
    "f: normalisation that depends on the labels left out",
    "f: label weights left out",
]


# The tests of the path. False-alarm rate of each test of a right path: 1e-5.


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("test", [by_ranks, by_geweke])
def test_a_right_path_passes(test: Callable[..., Verdict], name: str) -> None:
    verdict = test(RIGHT[name], num_draws=1000)
    assert not verdict.rejected, verdict


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught_by_ranks(name: str) -> None:
    assert caught(by_ranks, BUGS[name], num_draws=NUM_DRAWS.get(name, 2000), num_steps=4)


@pytest.mark.parametrize("name", BY_GEWEKE)
def test_a_planted_bug_is_caught_by_geweke(name: str) -> None:
    assert caught(by_geweke, BUGS[name], num_draws=2000)


def test_there_are_bugs_in_every_part_of_the_path() -> None:
    parts = {name.partition(":")[0] for name in BUGS}
    assert parts == {"GWG", "Gibbs", "MALA", "Langevin", "cycle", "given", "start", "values", "f"}
    assert len(BUGS) >= 50
    assert len(set(BY_GEWEKE)) >= 25


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


# The target of these tests.


def test_exact_redraws_leave_exact_draws_as_they_are() -> None:
    """A transition that is itself an exact redraw, against draws of everything; false-alarm rate 1e-5."""

    def exact(position: Position, free: Mask, generator: Generator) -> Position:
        held = {n: ~free.get(n, mask(False)).expand(len(position["x"]), *b.variable_shape) for n, b in SPACE.items()}
        return TARGET.redraw(position, held, generator)

    assert not by_geweke(Subject(exact), num_draws=4000).rejected
    assert not by_ranks(Subject(exact), num_draws=4000).rejected


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


def test_a_transition_that_never_moves_passes() -> None:
    """Neither test says anything about mixing, as the docstrings say: all ranks are ties, broken at random; rate 1e-5."""

    generator = torch.Generator().manual_seed(0)
    assert not rank_test(nothing, half_square, LINE, normals, generator=generator).rejected
    assert not geweke_test(nothing, half_square, LINE, normals, nothing, generator=generator).rejected


def test_moving_what_is_held_is_an_error_that_names_the_row() -> None:
    held: Any = [{"x": mask(True)}, {"x": mask(False)}]
    with pytest.raises(AssertionError, match=r"moved a held entry of block 'x', in row 1 \(500 of 1000 rows\)"):
        rank_test(upward, flat, LINE, normals, patterns=held, generator=torch.Generator())


def test_the_default_statistics_are_those_of_the_invariance_test() -> None:
    verdict = rank_test(upward, half_square, LINE, normals, generator=torch.Generator().manual_seed(0))
    assert verdict.rejected
    assert verdict.worst in ("f", "x[0]", "x[0]^2")


# conditional_path


def test_what_does_not_move_keeps_its_bits() -> None:
    """Through the logit and back is not the identity in floating point; held and rejected entries come back as they were."""
    position = TARGET.draw(200, torch.Generator().manual_seed(0))
    moved = conditional_path(TARGET, SPACE, MALA("x", 50.0))(
        position, {"x": mask(True), "share": mask(True)}, torch.Generator().manual_seed(0)
    )
    assert all(torch.equal(moved[name], position[name]) for name in SPACE if name != "x")
    rejected = (moved["x"] == position["x"]).all(dim=1)
    assert int(rejected.sum()) > 150


# sequential_test


def test_the_stages_share_the_false_alarm_rate() -> None:
    """A p-value that always goes on runs through all stages; each rejects with probability alpha / k at most."""
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
    ("chosen", "message"), [([], "needs at least one"), ([{"z": mask(True)}], "no block 'z'; this space has 'x'")]
)
def test_patterns_must_name_blocks(chosen: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_test(upward, flat, LINE, normals, patterns=chosen, generator=torch.Generator())


def test_a_statistic_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="statistic 'root' is not a number"):
        rank_test(
            upward, flat, LINE, normals, statistics={"root": lambda p: p["x"].sqrt()}, generator=torch.Generator()
        )


def test_the_page_on_testing_runs_as_it_stands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {"__name__": "testing"}
    exec(compile(block, "testing.md", "exec"), found)  # noqa: S102
    assert (found["ranks"].rejected, found["geweke"].rejected) == (False, False)
    assert len(found["ranks"].p_values) >= 1 and len(found["geweke"].p_values) >= 1  # both came to a verdict
