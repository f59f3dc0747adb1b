"""What the library is held against: enumerations, closed forms, and kernels with one thing wrong.

Everything here is written a second time and the slow way, from the paper's equations, with Python loops where that is
clearer. `MUTANTS` are the proof that the tests can fail: each is a right kernel with one term removed or bent.

Legend: S configurations, N chains, V variables, M columns, K classes, D entries of all blocks side by side.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import MALA, Chain, Gibbs, GibbsWithGradients, Info, Kernel, LogDensity, evaluate, scored
from jointebm.kernels.columns import Columns, columns_of
from jointebm.randomness.draws import Generator, accept, choose, normal
from jointebm.spaces.space import Mask, Position, Values

# Small spaces and targets.


@dataclass(frozen=True)
class SmallSpace:
    """A space small enough to enumerate, with values for its continuous blocks."""

    name: str
    space: Space
    given: Values | None = None

    def __str__(self) -> str:
        return self.name


SMALL_SPACES = [
    SmallSpace("one-bit", Space(bit=Binary())),
    SmallSpace("bits", Space(bits=Binary(3))),
    SmallSpace("shaped-bits", Space(bits=Binary((2, 2)))),
    SmallSpace("two-classes", Space(y=Categorical(2))),
    SmallSpace("three-classes", Space(y=Categorical(3))),
    SmallSpace("four-classes", Space(y=Categorical(4))),
    SmallSpace("five-classes", Space(y=Categorical(5))),
    SmallSpace("shaped-categorical", Space(y=Categorical(3, 2))),
    SmallSpace("matrix-of-categoricals", Space(y=Categorical(2, (2, 2)))),
    SmallSpace("ragged", Space(y=Categorical((2, 3, 4)))),
    SmallSpace("one-class-in-a-group", Space(y=Categorical((1, 3, 2)))),
    SmallSpace("one-class-block", Space(constant=Categorical(1), bit=Binary(), y=Categorical(3))),
    SmallSpace("mixed", Space(bits=Binary(2), y=Categorical(3), group=Categorical((2, 3)))),
    SmallSpace(
        "continuous-between",
        Space(bits=Binary(2), x=Continuous(2), y=Categorical(3), z=Continuous()),
        {"x": [0.3, -1.2], "z": 0.7},
    ),
]
MIXED = next(small for small in SMALL_SPACES if small.name == "mixed")


class RandomLogDensity:
    """f(z) = z^T A z / 2 + b^T z + c^T tanh(W z + d), z all blocks side by side: not linear, so Eq. 5 is inexact."""

    def __init__(self, space: Space, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        width = sum(math.prod(block.position_shape) for block in space.values())

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        half = 0.4 * draw(width, width)
        self.names, self.quadratic, self.linear = tuple(space), half + half.T, draw(width)
        self.weight, self.bias, self.amplitude = draw(3, width), draw(3), 2 * draw(3)

    def __call__(self, position: Position) -> Tensor:
        z = torch.cat([position[name].reshape(len(position[name]), -1) for name in self.names], dim=1)  # (N, D)
        bent = torch.tanh(z @ self.weight.T + self.bias) @ self.amplitude
        return (z @ self.quadratic * z).sum(dim=1) / 2 + z @ self.linear + bent


def labels_of(space: Space, position: Position) -> Tensor:
    """Labels of all discrete variables side by side, shape (N, V)."""
    values = space.decode({name: position[name] for name in space.discrete})
    return torch.cat([values[name].reshape(len(values[name]), -1) for name in space.discrete], dim=1)


def variables_of(space: Space, mask: Mask, num_rows: int) -> Tensor:
    """A mask over all discrete variables side by side, shape (N, V); absent blocks are clamped."""
    shapes = {name: (num_rows, *space[name].variable_shape) for name in space.discrete}
    parts = [mask.get(name, torch.tensor(False)).expand(shape).reshape(num_rows, -1) for name, shape in shapes.items()]
    return torch.cat(parts, dim=1)


def clamp_patterns(space: Space, position: Position) -> dict[str, dict[str, Tensor]]:
    """Masks that leave the target invariant: each row's mask is that of all rows it can reach.

    "by-first-variable" differs from row to row: the first variable is clamped and its label says what else may move,
    which is everything, every other variable or nothing.
    """
    num_rows, labels = len(next(iter(position.values()))), labels_of(space, position)
    num_variables = labels.shape[1]
    odd = torch.arange(num_variables) % 2 == 1
    others = torch.arange(num_variables) > 0
    what = torch.stack([others, odd, torch.zeros_like(odd)])[labels[:, 0].clamp(max=2)]  # (N, V)
    everything = torch.ones(num_rows, num_variables, dtype=torch.bool)
    patterns = {
        "all-free": split_variables(space, everything),
        "every-other-variable": split_variables(space, everything & ~odd),
        "by-first-variable": split_variables(space, what),
        "first-block-only": {space.discrete[0]: torch.tensor(True)},
    }
    return {name: mask for name, mask in patterns.items() if any(part.any() for part in mask.values())}


def split_variables(space: Space, joined: Tensor) -> dict[str, Tensor]:
    """A mask (N, V) over all discrete variables, per block (N, *variable_shape)."""
    counts = [space[name].num_variables for name in space.discrete]
    parts = torch.split(joined, counts, dim=1)
    return {
        name: part.reshape(-1, *space[name].variable_shape) for name, part in zip(space.discrete, parts, strict=True)
    }


# Transition matrices by enumeration.


def gradient_rows(log_density: LogDensity, space: Space, position: Position) -> tuple[list[list[float]], list[float]]:
    """Score of the discrete blocks, flattened, and f, as lists of numbers."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in position.items()}
    f = log_density(leaves)
    scores = torch.autograd.grad(f.sum(), [leaves[name] for name in space.discrete])
    return torch.cat([score.reshape(len(f), -1) for score in scores], dim=1).tolist(), f.tolist()


def gwg_proposal(log_density: LogDensity, space: Space, position: Position, free: Mask) -> list[list[float]]:
    """q(y'|y) of Eqs. 4-5 for all pairs: y' differs from y in exactly one free variable."""
    y = torch.cat([position[name].reshape(len(position[name]), -1) for name in space.discrete], dim=1).tolist()
    labels = labels_of(space, position).tolist()
    may_move = variables_of(space, free, len(y)).tolist()
    score, _ = gradient_rows(log_density, space, position)
    q = [[0.0] * len(y) for _ in y]
    for i in range(len(y)):
        for j in range(len(y)):
            changed = [v for v in range(len(labels[i])) if labels[i][v] != labels[j][v]]
            if len(changed) == 1 and may_move[i][changed[0]]:
                gain = sum((y[j][m] - y[i][m]) * score[i][m] for m in range(len(y[i])))  # Eq. 5
                q[i][j] = math.exp(gain / 2)  # Eq. 4
        total = sum(q[i])
        if total:
            q[i] = [weight / total for weight in q[i]]
    return q


def gwg_matrix(log_density: LogDensity, space: Space, position: Position, free: Mask) -> Tensor:
    """Transition matrix of Gibbs-with-Gradients by its definition, shape (S, S)."""
    _, f = gradient_rows(log_density, space, position)
    matrix = []
    masks = {name: mask.expand(len(f), *space[name].variable_shape) for name, mask in free.items()}
    forward = gwg_proposal(log_density, space, position, free)
    for i in range(len(f)):
        # The chain that starts in row i keeps the mask of row i, on the way back too.
        own = {name: mask[i].expand(mask.shape) for name, mask in masks.items()}
        backward = forward if same_rows(masks) else gwg_proposal(log_density, space, position, own)
        row = [0.0] * len(f)
        for j in range(len(f)):
            if forward[i][j]:
                row[j] = forward[i][j] * min(1.0, math.exp(f[j] - f[i]) * backward[j][i] / forward[i][j])
        row[i] = 1 - sum(row)
        matrix.append(row)
    return torch.tensor(matrix, dtype=torch.float64)


def same_rows(masks: Mask) -> bool:
    """Whether all rows have one mask."""
    return all(bool((mask == mask[:1]).all()) for mask in masks.values())


def gibbs_matrices(log_density: LogDensity, space: Space, position: Position, free: Mask) -> list[Tensor]:
    """For each variable, the matrix that draws it from its conditional where it is free, shape (S, S)."""
    labels = labels_of(space, position).tolist()
    may_move = variables_of(space, free, len(labels)).tolist()
    f = log_density(position).tolist()
    matrices = []
    for v in range(len(labels[0])):
        matrix = [[0.0] * len(f) for _ in f]
        for i, own in enumerate(labels):
            reachable = [j for j, other in enumerate(labels) if own[:v] + own[v + 1 :] == other[:v] + other[v + 1 :]]
            total = sum(math.exp(f[j]) for j in reachable)
            for j in reachable:
                matrix[i][j] = math.exp(f[j]) / total if may_move[i][v] else float(i == j)
        matrices.append(torch.tensor(matrix, dtype=torch.float64))
    return matrices


def random_scan_matrix(log_density: LogDensity, space: Space, position: Position, free: Mask) -> Tensor:
    """Transition matrix of random-scan Gibbs: the mean over each row's free variables."""
    matrices = torch.stack(gibbs_matrices(log_density, space, position, free))  # (V, S, S)
    may_move = variables_of(space, free, matrices.shape[1]).T.to(matrices.dtype)  # (V, S)
    mean = (may_move[:, :, None] * matrices).sum(dim=0) / may_move.sum(dim=0).clamp(min=1)[:, None]
    return torch.where(may_move.any(dim=0)[:, None], mean, torch.eye(len(mean), dtype=torch.float64))


def connected(matrix: Tensor) -> Tensor:
    """Whether j can be reached from i in any number of steps, shape (S, S), bool."""
    reach = (matrix > 0) | torch.eye(len(matrix), dtype=torch.bool)
    for _ in range(len(matrix).bit_length()):
        reach = (reach.double() @ reach.double()) > 0
    return reach


# Closed forms.


class GaussianMixture(NamedTuple):
    """p(y = k) = weights_k, x | y = k ~ N(means_k, scale^2): a joint density whose every marginal is known."""

    weights: Tensor
    means: Tensor
    scale: float

    @property
    def space(self) -> Space:
        return Space(x=Continuous(), y=Categorical(len(self.weights)))

    def log_density(self, position: Position) -> Tensor:
        x, y = position["x"], position["y"]
        return y @ self.weights.log() - 0.5 * ((x - y @ self.means) / self.scale).square()

    def draws(self, num: int, generator: torch.Generator) -> dict[str, Tensor]:
        labels = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        noise = torch.randn(num, generator=generator, dtype=self.means.dtype)
        return {"x": self.means[labels] + self.scale * noise, "y": torch.eye(len(self.weights)).to(noise)[labels]}


def chi_square_p_value(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for a chi-square variable X."""
    half = torch.tensor([degrees / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


# Streams and counters.


class Script:
    """A stream that answers with prepared normals, choices and acceptances, and notes what it was asked."""

    def __init__(
        self, normals: Iterable[Tensor] = (), choices: Iterable[Tensor] = (), accepts: Iterable[bool] = ()
    ) -> None:
        self._normals, self._choices, self._accepts = iter(normals), iter(choices), iter(accepts)
        self.log_weights: list[Tensor] = []
        self.log_ratios: list[Tensor] = []

    def normal(self, like: Tensor) -> Tensor:
        return next(self._normals).to(like).expand_as(like)

    def uniform(self, like: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("no kernel draws uniforms itself")

    def choose(self, log_weights: Tensor) -> Tensor:
        self.log_weights.append(log_weights)
        return next(self._choices)

    def accept(self, log_ratio: Tensor) -> Tensor:
        self.log_ratios.append(log_ratio)
        return torch.full_like(log_ratio, next(self._accepts), dtype=torch.bool)


@dataclass(frozen=True)
class AcceptAll(Kernel):
    """A kernel that accepts every proposal, so that its matrix is the proposal."""

    kernel: Kernel

    @property
    def uses_score(self) -> bool:
        return self.kernel.uses_score

    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> Any:
        return self.kernel.step(log_density, chain, free=free, generator=_Accepting(generator))


class _Accepting(NamedTuple):
    stream: Any

    def normal(self, like: Tensor) -> Tensor:
        return normal(like, self.stream)

    def uniform(self, like: Tensor) -> Tensor:  # noqa: ARG002
        raise AssertionError("no kernel draws uniforms itself")

    def choose(self, log_weights: Tensor) -> Tensor:
        return choose(log_weights, self.stream)

    def accept(self, log_ratio: Tensor) -> Tensor:
        return torch.ones_like(log_ratio, dtype=torch.bool)


class Passes:
    """Counts the forward passes of a function or module, and the backward passes through what it returned."""

    def __init__(self) -> None:
        self.forward = self.backward = 0

    def __call__(self, *arguments: Any) -> None:
        """A forward hook; the output is the last argument."""
        self.forward += 1
        if arguments[-1].requires_grad:
            arguments[-1].register_hook(self._count_backward)

    def _count_backward(self, _: Tensor) -> None:
        self.backward += 1

    def take(self) -> tuple[int, int]:
        """(forward, backward) since the last call."""
        counts = (self.forward, self.backward)
        self.forward = self.backward = 0
        return counts


def count_passes(module: nn.Module) -> Passes:
    """Counts the passes of a module from now on."""
    passes = Passes()
    module.register_forward_hook(passes)
    return passes


class Counted(NamedTuple):
    """A log-density whose passes are counted."""

    log_density: LogDensity
    passes: Passes

    def __call__(self, position: Position) -> Tensor:
        f = self.log_density(position)
        self.passes(f)
        return f


# Mutants: right kernels with one thing wrong. With fault "" each is the kernel it is a copy of.


@dataclass(frozen=True)
class FaultyGibbsWithGradients(Kernel):
    """Gibbs-with-Gradients, written a second time, with a fault."""

    space: Space
    fault: str = ""

    uses_score = True
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        fault, chain = self.fault, scored(log_density, chain)
        columns = columns_of(self.space, self.space.discrete, chain.f.device)
        y, score = columns.join(chain.position), columns.join(_score(chain))
        may_move = columns.join_free(free, len(y))[:, columns.variable]  # (N, M)
        if fault == "clamp ignored":
            may_move = torch.ones_like(may_move)
        legal = may_move & (columns.is_binary | (y < 0.5))
        if fault == "current class masked only in the reverse":
            legal = may_move
        if fault == "last class never proposed":
            legal = legal & ~_last_class(columns)
        movable = legal.any(dim=1)
        log_q = _log_q(columns, y, score, legal | ~movable[:, None])
        move = choose(log_q, generator)
        position, back = self._apply(columns, y, move)
        proposal = evaluate(log_density, {**chain.position, **columns.split(position)}, previous=chain)

        legal = (torch.ones_like(legal) if fault == "clamp ignored in the reverse" else may_move) & (
            columns.is_binary | (position < 0.5)
        )
        log_q_back = _log_q(
            columns,
            position,
            score if fault == "stale score in the reverse" else columns.join(_score(proposal)),
            legal | ~movable[:, None],
            halving=1 if fault == "gradient halved only in the forward" else 2,
            sign=-1 if fault == "binary gain has the wrong sign in the reverse" else 1,
        )
        log_ratio = self._log_ratio(
            proposal.f.roll(1) if fault == "accepts with the f of another row" else proposal.f,
            chain.f,
            log_q_back.gather(1, back[:, None]).squeeze(1),
            log_q.gather(1, move[:, None]).squeeze(1),
        )
        accepted = accept(log_ratio, generator) & movable
        moved = proposal.where(accepted, chain)
        if fault == "stale f":
            moved = moved._replace(f=chain.f)
        if fault == "stale score":
            moved = moved._replace(score=chain.score)
        return moved, Info(log_ratio.clamp(max=0).exp(), accepted)

    def _log_ratio(self, f_new: Tensor, f_old: Tensor, back: Tensor, forth: Tensor) -> Tensor:
        return {
            "reverse proposal missing": f_new - f_old - forth,
            "proposal ratio missing": f_new - f_old,
            "proposal ratio inverted": f_new - f_old - back + forth,
            "f ratio sign flipped": f_old - f_new + back - forth,
            "f ratio missing": back - forth,
            "temperature applied twice": (f_new - f_old) / 2 + back - forth,
        }.get(self.fault, f_new - f_old + back - forth)

    @staticmethod
    def _apply(columns: Columns, y: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        position, back = y.clone(), move.clone()
        for row, column in enumerate(move.tolist()):
            of_variable = columns.variable == columns.variable[column]
            if columns.is_binary[column]:
                position[row, column] = 1 - y[row, column]
            else:
                back[row] = int((of_variable & (y[row] > 0.5)).nonzero()[0])
                position[row, of_variable] = 0
                position[row, column] = 1
        return position, back


def _score(chain: Chain) -> Mapping[str, Tensor]:
    assert chain.score is not None
    return chain.score


def _log_q(columns: Columns, y: Tensor, score: Tensor, legal: Tensor, *, halving: float = 2, sign: int = 1) -> Tensor:
    lost = torch.zeros_like(y)
    for column in range(y.shape[1]):
        of_variable = columns.variable == columns.variable[column]
        lost[:, column] = (y * score)[:, of_variable].sum(dim=1)
    gains = torch.where(columns.is_binary, sign * (1 - 2 * y) * score, score - lost)
    return (gains / halving).masked_fill(~legal, -torch.inf).log_softmax(dim=1)


def _last_class(columns: Columns) -> Tensor:
    return (columns.class_of_column == columns.num_classes[columns.variable] - 1) & ~columns.is_binary


@dataclass(frozen=True)
class FaultyGibbs(Kernel):
    """Random-scan Gibbs, written a second time over labels, with a fault."""

    space: Space
    fault: str = ""

    @property
    def uses_score(self) -> bool:
        return self.fault == "stale score"

    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        columns = columns_of(self.space, self.space.discrete, chain.f.device)
        labels, num_rows = labels_of(self.space, chain.position), len(chain.f)
        may_move = columns.join_free(free, num_rows)
        if self.fault == "clamp ignored":
            may_move = torch.ones_like(may_move)
        movable, rows = may_move.any(dim=1), torch.arange(num_rows)
        log_weights = torch.zeros_like(labels, dtype=chain.f.dtype)
        if self.fault == "scan depends on the state":
            log_weights = labels.to(chain.f.dtype)
        variable = choose(log_weights.masked_fill(~may_move & movable[:, None], -torch.inf), generator)
        num_classes = columns.num_classes[variable]  # (N,)

        candidates = [self._with_label(chain, labels, variable, k) for k in range(int(columns.num_classes.max()))]
        f = torch.stack([log_density(candidate) for candidate in candidates], dim=1)  # (N, K)
        classes, current = torch.arange(f.shape[1]), labels[rows, variable]
        log_probs = f / 2 if self.fault == "softmax at temperature 2" else f
        if self.fault == "last class never drawn":
            num_classes = num_classes - (num_classes > 1).long()
        log_probs = log_probs.masked_fill(classes >= num_classes[:, None], -torch.inf)
        if self.fault == "current class excluded":
            several = (num_classes > 1)[:, None]
            log_probs = log_probs.masked_fill((classes == current[:, None]) & several, -torch.inf)
        chosen = torch.where(movable, choose(log_probs, generator), current)
        new = labels.clone()
        new[rows, variable] = chosen
        position = self._encoded(chain, new)
        moved_f = torch.where(movable, f[rows, chosen], chain.f)
        info = Info(movable.to(chain.f.dtype), movable)
        score = chain.score if self.fault == "stale score" else None
        return Chain(position, chain.f if self.fault == "stale f" else moved_f, score), info

    def _with_label(self, chain: Chain, labels: Tensor, variable: Tensor, label: int) -> dict[str, Tensor]:
        limit = columns_of(self.space, self.space.discrete, chain.f.device).num_classes[variable] - 1
        new = labels.clone()
        new[torch.arange(len(labels)), variable] = limit.clamp(max=label)
        return self._encoded(chain, new)

    def _encoded(self, chain: Chain, labels: Tensor) -> dict[str, Tensor]:
        counts = [self.space[name].num_variables for name in self.space.discrete]
        parts = zip(self.space.discrete, torch.split(labels, counts, dim=1), strict=True)
        values = {name: part.reshape(-1, *self.space[name].variable_shape) for name, part in parts}
        encoded, _ = self.space.encode(values, dtype=chain.f.dtype)
        return {name: encoded[name] if name in values else chain.position[name] for name in self.space}


@dataclass(frozen=True)
class StateDependentCycle(Kernel):
    """Applies the first kernel where f is large and the second elsewhere: each is right, their mixture is not."""

    first: Kernel
    second: Kernel
    threshold: float = 0.0

    uses_score = True
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        one, info = self.first.step(log_density, chain, free=free, generator=generator)
        two, _ = self.second.step(log_density, chain, free=free, generator=generator)
        return scored(log_density, one).where(chain.f > self.threshold, scored(log_density, two)), info


@dataclass(frozen=True)
class FaultyMALA(Kernel):
    """MALA, written a second time, with a fault."""

    block: str
    step_size: float
    temperature: float = 1.0
    fault: str = ""

    uses_score = True
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        fault, chain = self.fault, scored(log_density, chain)
        x = chain.position[self.block]
        mask, rate = free[self.block].expand_as(x), self.step_size**2 / (2 * self.temperature)
        drift, noise = rate * _score(chain)[self.block], self.step_size * normal(x, generator)
        moved = torch.where(mask, x + (2 * drift if fault == "drift doubled" else drift) + noise, x)
        if fault == "clamp ignored":
            moved = x + drift + noise
        proposal = evaluate(log_density, {**chain.position, self.block: moved}, previous=chain)
        drift_back = drift if fault == "stale score in the reverse" else rate * _score(proposal)[self.block]
        counted = torch.ones_like(mask) if fault == "clamped entries in the proposal ratio" else mask
        back, forth = (
            -0.5 * (((residual / self.step_size) ** 2) * counted).reshape(len(x), -1).sum(dim=1)
            for residual in (x - moved - drift_back, moved - x - drift)
        )
        difference = (proposal.f - chain.f) / self.temperature
        log_ratio = {
            "proposal ratio missing": difference,
            "f ratio sign flipped": -difference + back - forth,
            "temperature applied twice": difference / self.temperature + back - forth,
            "temperature ignored in the f ratio": difference * self.temperature + back - forth,
        }.get(fault, difference + back - forth)
        accepted = accept(log_ratio, generator) & mask.reshape(len(x), -1).any(dim=1)
        return proposal.where(accepted, chain), Info(log_ratio.clamp(max=0).exp(), accepted)


@dataclass(frozen=True)
class FaultyLangevin(Kernel):
    """Langevin dynamics, written a second time, with a fault."""

    block: str
    step_size: float
    temperature: float = 1.0
    fault: str = ""

    uses_score = True
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        chain, fault = scored(log_density, chain), self.fault
        x, score = chain.position[self.block], _score(chain)[self.block]
        rate = self.step_size**2 / (2 * self.temperature)
        rate = {
            "drift not halved": 2 * rate,
            "temperature ignored": self.step_size**2 / 2,
            "temperature applied twice": rate / self.temperature,
            "step size not squared": self.step_size / (2 * self.temperature),
        }.get(fault, rate)
        noise_scale = self.step_size**2 if fault == "noise scaled by the square" else self.step_size
        moved = x + rate * score + noise_scale * normal(x, generator)
        if fault != "clamp ignored":
            moved = torch.where(free[self.block], moved, x)
        info = Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))
        return evaluate(log_density, {**chain.position, self.block: moved}), info


class Mutant(NamedTuple):
    """A wrong kernel, and which test must find it.

    Args:
        name: kernel and fault.
        kernel: makes it for a space (discrete kernels) or for the block `x` (continuous ones).
        found_by: "matrix" (discrete), "invariance" (exact draws) or "closed form" (unadjusted Langevin).
    """

    name: str
    kernel: Callable[[Space], Kernel]
    found_by: Literal["matrix", "invariance", "closed form"]

    def __str__(self) -> str:
        return self.name


_GWG_FAULTS = [
    "reverse proposal missing",
    "proposal ratio missing",
    "proposal ratio inverted",
    "current class masked only in the reverse",
    "last class never proposed",
    "stale score in the reverse",
    "gradient halved only in the forward",
    "binary gain has the wrong sign in the reverse",
    "clamp ignored",
    "clamp ignored in the reverse",
    "f ratio sign flipped",
    "f ratio missing",
    "temperature applied twice",
    "accepts with the f of another row",
    "stale f",
    "stale score",
]
_GIBBS_FAULTS = [
    "current class excluded",
    "softmax at temperature 2",
    "last class never drawn",
    "scan depends on the state",
    "clamp ignored",
    "stale f",
    "stale score",
]
_MALA_FAULTS = [
    "proposal ratio missing",
    "drift doubled",
    "stale score in the reverse",
    "f ratio sign flipped",
    "temperature applied twice",
    "temperature ignored in the f ratio",
    "clamped entries in the proposal ratio",
]
_LANGEVIN_FAULTS = [
    "drift not halved",
    "temperature ignored",
    "temperature applied twice",
    "step size not squared",
    "noise scaled by the square",
    "clamp ignored",
]


def _gwg(fault: str) -> Mutant:
    return Mutant(f"GWG: {fault}", lambda space: FaultyGibbsWithGradients(space, fault), "matrix")


def _gibbs(fault: str) -> Mutant:
    return Mutant(f"Gibbs: {fault}", lambda space: FaultyGibbs(space, fault), "matrix")


def _mala(fault: str) -> Mutant:
    return Mutant(f"MALA: {fault}", lambda _: FaultyMALA("x", 0.8, 0.6, fault), "invariance")


def _langevin(fault: str) -> Mutant:
    return Mutant(f"Langevin: {fault}", lambda _: FaultyLangevin("x", 0.4, 0.6, fault), "closed form")


MUTANTS = [
    *map(_gwg, _GWG_FAULTS),
    *map(_gibbs, _GIBBS_FAULTS),
    Mutant(
        "Cycle: order depends on the state", lambda s: StateDependentCycle(GibbsWithGradients(s), Gibbs(s)), "matrix"
    ),
    *map(_mala, _MALA_FAULTS),
    *map(_langevin, _LANGEVIN_FAULTS),
]

# The right kernels that the copies above are copies of, to show that only the fault makes the difference.
COPIES: list[tuple[Callable[[Space], Kernel], Callable[[Space], Kernel]]] = [
    (FaultyGibbsWithGradients, GibbsWithGradients),
    (FaultyGibbs, Gibbs),
]
MALA_COPY = (FaultyMALA("x", 0.8, 0.6), MALA("x", 0.8, 0.6))
