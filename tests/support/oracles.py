"""Independent references for tests: enumerations, closed forms, streams and counters.

Everything here is written the slow way from the paper's equations, with Python loops where that is clearer.

Legend: S configurations, N chains, V variables, M columns, K classes, D entries of all blocks side by side.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import Chain, Kernel, LogDensity
from jointebm.randomness.draws import Generator, choose, normal
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
    """Transition matrix of Gibbs-with-Gradients by its definition, for a mask that all rows reached share, (S, S)."""
    _, f = gradient_rows(log_density, space, position)
    matrix = []
    q = gwg_proposal(log_density, space, position, free)
    for i in range(len(f)):
        row = [0.0] * len(f)
        for j in range(len(f)):
            if q[i][j]:
                row[j] = q[i][j] * min(1.0, math.exp(f[j] - f[i]) * q[j][i] / q[i][j])
        row[i] = 1 - sum(row)
        matrix.append(row)
    return torch.tensor(matrix, dtype=torch.float64)


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
