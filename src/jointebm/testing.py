"""Exact and statistical tests of a kernel, for anyone who writes one.

In a small discrete space nothing has to be sampled: `transition_matrix` runs the kernel's own `step` along every
outcome of its draws and returns P, so that detailed balance and stationarity hold to rounding or not at all. Where
variables are continuous, `invariance_test` puts exact draws in and asks, at a stated false-alarm rate, whether exact
draws come out.

Legend: S configurations, N draws, M outcomes of one draw.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.draws import Generator, uniform
from jointebm.kernels import Chain, Kernel, LogDensity, evaluate, settle
from jointebm.spaces import Mask, Position, Space, Values

__all__ = [
    "Invariance",
    "Transitions",
    "detailed_balance_residual",
    "invariance_test",
    "stationarity_residual",
    "target_probs",
    "transition_matrix",
]

Statistic = Callable[[Position], Tensor]


class Transitions(NamedTuple):
    """One step of a kernel, in full.

    Args:
        matrix: probability of going from configuration i (row) to j (column), shape (S, S), float64.
        position: the configurations in the order of the matrix, per block (S, *position_shape), float64; continuous
            blocks stand at their given value.
    """

    matrix: Tensor
    position: dict[str, Tensor]


class Invariance(NamedTuple):
    """What `invariance_test` found.

    Args:
        p_value: of all statistics together, in [0, 1]: at most a share a of right kernels gets a p-value below a.
        rejected: whether p_value <= alpha.
        worst: name of the statistic that changed most.
        alpha: the false-alarm rate that was asked for.
    """

    p_value: float
    rejected: bool
    worst: str
    alpha: float


def transition_matrix(
    kernel: Kernel, log_density: LogDensity, space: Space, given: Values | None = None, *, free: Mask | None = None
) -> Transitions:
    """Computes the transition matrix of one step, by running it along every outcome of its draws.

    P_ij = sum over the outcomes that lead from i to j of their probability

    All configurations are one float64 batch. A scripted stream takes the place of the generator: it answers `choose`
    with each index and `accept` with yes and no, depth first, and multiplies up what each outcome was worth in each
    row. The cost is one step per sequence of outcomes, so a cycle of many moves takes long.

    On arrival each path is checked: clamped entries are bit for bit the same, the position is a configuration, and the
    chain's f and score are those of where it now is. A kernel that breaks this can have a perfect matrix and go wrong
    at the second step.

    Args:
        kernel: draws with `choose` and `accept` only, one draw per chain at a time.
        log_density: f, shape (N,), computed in float64; call `.double()` on a module first.
        space: the blocks. Every continuous block must be given.
        given: values held still, the same for all chains, in the forms of `Space.clamp`; -1 is free. Only the S
            configurations that agree with them are kept. Labels may also have a leading axis over all configurations,
            to clamp other variables in each row; they must then be the row's own.
        free: further masks (S, *variable_shape), or what broadcasts to it, of what may move; clamped entries keep their
            row's own value. A block that it leaves out is clamped. None is everything. Where the mask of a row is that
            of every row it can reach (it is the same for all, or depends on clamped entries only), the matrix
            decomposes and leaves the target invariant; otherwise its rows are right, but belong to different chains.

    Returns:
        `Transitions`: (matrix, position).

    Raises:
        ValueError: a continuous block is not given in full, or the kernel draws normals or uniforms of its own.
        AssertionError: the kernel is wrong: it moves a clamped entry, leaves the space, returns a stale f or score, or
            its probabilities do not sum to one. The message names the row.

    Example:
        >>> from jointebm import Categorical, kernels
        >>> space = Space(y=Categorical(3))
        >>> def log_density(position): return position["y"] @ position["y"].new_tensor([1.0, 2.0, 5.0]).log()
        >>> matrix, position = transition_matrix(kernels.Gibbs(space), log_density, space)
        >>> matrix
        tensor([[0.1250, 0.2500, 0.6250],
                [0.1250, 0.2500, 0.6250],
                [0.1250, 0.2500, 0.6250]], dtype=torch.float64)
        >>> matrix, position = transition_matrix(kernels.GibbsWithGradients(space), log_density, space)
        >>> detailed_balance_residual(matrix, target_probs(log_density, position)) < 1e-12
        True
    """
    configurations = _configurations(space, given)
    free = _combined(space, configurations.free, free)
    start = evaluate(log_density, configurations.position, with_score=kernel.uses_score)
    if start.f.dtype != torch.float64:
        raise ValueError(
            f"transition_matrix: the log-density returned {start.f.dtype} at float64 positions; exactness needs "
            "float64. Call .double() on a module, or make tensors inside the function with position[...].new_tensor"
        )
    num_rows = len(start.f)
    matrix, rows = start.f.new_zeros(num_rows, num_rows), torch.arange(num_rows)
    pending: list[tuple[int, ...]] = [()]
    while pending:
        path = _Path(pending.pop(), num_rows)
        chain, _ = kernel.step(log_density, start, free=free, generator=path)
        possible = path.probs > 0  # the other rows may hold anything
        arrived = configurations.number[space.configuration_index(chain.position).clamp(min=0)]
        _check_arrival(kernel, space, start, free, chain, arrived, possible)
        matrix.index_put_((rows[possible], arrived[possible]), path.probs[possible], accumulate=True)
        pending += path.branches
    _check(kernel, (matrix.sum(dim=1) - 1).abs() > 1e-10, "the probabilities of all outcomes do not sum to one")
    return Transitions(matrix, configurations.position)


def target_probs(log_density: LogDensity, position: Position) -> Tensor:
    """Computes the probabilities that a kernel should leave invariant.

    pi_i = exp(f_i) / sum_j exp(f_j)

    Args:
        log_density: f, shape (N,).
        position: the configurations, as `transition_matrix` returns them.

    Returns:
        Probabilities, shape (S,).

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bit=Binary())
        >>> target_probs(lambda position: position["bit"] * 3.0, space.configurations())
        tensor([0.0474, 0.9526])
    """
    with torch.no_grad():
        return log_density(position).softmax(dim=0)


def detailed_balance_residual(matrix: Tensor, probs: Tensor) -> float:
    """Computes how far a chain is from being reversible: max |pi_i P_ij - pi_j P_ji|.

    Zero implies stationarity. A systematic scan or a cycle is stationary without it.

    Args:
        matrix: P, shape (S, S).
        probs: pi, shape (S,).

    Example:
        >>> turning = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
        >>> probs = torch.full((3,), 1 / 3)
        >>> round(detailed_balance_residual(turning, probs), 4), stationarity_residual(turning, probs)
        (0.3333, 0.0)
    """
    flow = probs[:, None] * matrix
    return float((flow - flow.T).abs().max())


def stationarity_residual(matrix: Tensor, probs: Tensor) -> float:
    """Computes how far a step moves the target: max |pi P - pi|.

    Args:
        matrix: P, shape (S, S).
        probs: pi, shape (S,).

    Example:
        >>> stationarity_residual(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([0.25, 0.75]))
        0.25
    """
    return float((probs @ matrix - probs).abs().max())


def invariance_test(
    kernel: Kernel,
    log_density: LogDensity,
    space: Space,
    exact_draws: Position,
    *,
    num_steps: int,
    statistics: Mapping[str, Statistic] | None = None,
    generator: Generator,
    alpha: float = 1e-3,
    free: Mask | None = None,
) -> Invariance:
    """Tests whether a kernel leaves its target invariant: exact draws that go in must come out as exact draws.

    Half of the draws, picked at random, make `num_steps` steps; the other half does not. If the kernel is right, the
    two are independent samples of one distribution. Each statistic compares them by the two-sample Kolmogorov-Smirnov
    test with its exact p-value,

    P(D >= k / n) = 2 sum_{j >= 1} (-1)^(j - 1) C(2 n, n - j k) / C(2 n, n)    for two halves of n draws,

    and the smallest p-value times the number of statistics (Bonferroni) is compared with alpha. A right kernel is
    rejected with probability at most alpha, for any number of draws; less for discrete statistics, where ties make the
    test conservative. A wrong one passes if no statistic sees the difference, so the test says nothing about mixing: a
    kernel that never moves passes.

    Args:
        kernel: what is tested.
        log_density: f, shape (N,).
        space: the blocks.
        exact_draws: N independent draws of the target. Clamped entries are kept, so draws of the joint are right also
            with a mask.
        num_steps: steps >= 1; an error of the kernel adds up over them.
        statistics: named functions from a position to shape (N,). None is f, every continuous entry and its square, and
            the indicator of every class.
        generator: source of all draws.
        alpha: false-alarm rate of the whole test, in (0, 1).
        free: what may move; None is everything.

    Returns:
        `Invariance`.

    Raises:
        ValueError: so few draws that the test could never reject.
        FloatingPointError: a statistic is not a number.

    References:
        Gnedenko & Korolyuk 1951 (the exact p-value).

    Example:
        >>> from jointebm import Continuous, kernels
        >>> space, generator = Space(x=Continuous()), torch.Generator().manual_seed(0)
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> draws = {"x": torch.randn(4000, generator=generator)}
        >>> adjusted, unadjusted = kernels.MALA(block="x", step_size=1.2), kernels.Langevin(block="x", step_size=1.2)
        >>> invariance_test(adjusted, log_density, space, draws, num_steps=5, generator=generator).rejected
        False
        >>> invariance_test(unadjusted, log_density, space, draws, num_steps=5, generator=generator).rejected
        True
    """
    if statistics is None:
        statistics = _default_statistics(log_density, space)
    num_pairs = len(next(iter(exact_draws.values()))) // 2
    if num_steps < 1 or not statistics or not 0 < alpha < 1:
        raise ValueError(
            f"invariance_test: needs num_steps >= 1, a statistic and 0 < alpha < 1, got {num_steps}, "
            f"{len(statistics)} and {alpha}"
        )
    if num_pairs < 1 or len(statistics) * _p_value(num_pairs, num_pairs) > alpha:
        raise ValueError(
            f"invariance_test: {num_pairs} pairs of draws and {len(statistics)} statistics can never reach alpha = "
            f"{alpha}. Pass more exact draws"
        )
    like = next(iter(exact_draws.values()))
    order = uniform(like.new_empty(2 * num_pairs), generator).argsort()  # nothing depends on how the draws were sorted
    still = {name: value[order[:num_pairs]] for name, value in exact_draws.items()}
    moving = {name: value[order[num_pairs:]] for name, value in exact_draws.items()}
    if free is None:
        free = {name: torch.ones((), dtype=torch.bool, device=like.device) for name in space}
    space.require(free)
    shapes = {name: (len(like), *space[name].variable_shape) for name in free}
    settled = settle({name: mask.expand(shapes[name])[order[num_pairs:]] for name, mask in free.items()})
    chain = evaluate(log_density, moving, with_score=kernel.uses_score)
    for _ in range(num_steps):
        chain, _ = kernel.step(log_density, chain, free=settled, generator=generator)
    with torch.no_grad():
        p_values = {
            name: _p_value(num_pairs, _largest_gap(name, statistic(still), statistic(chain.position)))
            for name, statistic in statistics.items()
        }
    worst = min(p_values, key=lambda name: p_values[name])
    p_value = min(1.0, len(p_values) * p_values[worst])
    return Invariance(p_value, p_value <= alpha, worst, alpha)


class _Path:
    """A stream that takes given outcomes, then the first possible one at each further draw.

    Args:
        outcomes: what to take at the first draws.
        num_rows: number of chains S.

    Attributes:
        probs: each row's probability of what was taken so far, shape (S,).
        branches: the sequences of outcomes that were possible and not taken.
    """

    def __init__(self, outcomes: tuple[int, ...], num_rows: int) -> None:
        self.probs = torch.ones(num_rows, dtype=torch.float64)
        self.branches: list[tuple[int, ...]] = []
        self._outcomes = list(outcomes)
        self._num_taken = 0

    def choose(self, log_weights: Tensor) -> Tensor:
        self._check_rows("choose", log_weights)
        # A row of weights that are all zero may be anything, as nobody uses it; so it is uniform, and sums to one.
        nothing = (log_weights == -torch.inf).all(dim=1, keepdim=True)
        probs = log_weights.double().masked_fill(nothing, 0).softmax(dim=1)
        bad = (self.probs > 0) & probs.isnan().any(dim=1)
        if bool(bad.any()):
            raise FloatingPointError(
                f"transition_matrix: the weights given to choose are not numbers in row {_first(bad)}. Check f and its "
                "score at that configuration"
            )
        return torch.full((len(probs),), self._take(probs))

    def accept(self, log_ratio: Tensor) -> Tensor:
        self._check_rows("accept", log_ratio)
        log_prob = log_ratio.double().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).clamp(max=0)
        outcome = self._take(torch.stack([-log_prob.expm1(), log_prob.exp()], dim=1))
        return torch.full((len(log_prob),), bool(outcome))

    def normal(self, like: Tensor) -> Tensor:
        raise ValueError(f"transition_matrix: the kernel draws normals of shape {tuple(like.shape)}. {_WAY_OUT}")

    def uniform(self, like: Tensor) -> Tensor:
        raise ValueError(f"transition_matrix: the kernel draws uniforms of shape {tuple(like.shape)}. {_WAY_OUT}")

    def _check_rows(self, name: str, tensor: Tensor) -> None:
        if len(tensor) != len(self.probs):
            raise ValueError(
                f"transition_matrix: the kernel calls {name} with {len(tensor)} rows for {len(self.probs)} chains; an "
                "outcome must belong to one chain. Draw once per chain and call, in a loop over variables if need be"
            )

    def _take(self, probs: Tensor) -> int:
        """Takes the next outcome; probs (S, M) are those of this draw alone."""
        joint = torch.where(self.probs[:, None] > 0, self.probs[:, None] * probs, 0)  # (S, M)
        if self._num_taken == len(self._outcomes):
            possible = (joint > 0).any(dim=0).nonzero().flatten().tolist()
            self.branches += [(*self._outcomes, other) for other in possible[1:]]
            self._outcomes.append(possible[0])
        outcome = self._outcomes[self._num_taken]
        self._num_taken += 1
        self.probs = joint[:, outcome]
        return outcome


_WAY_OUT = (
    "Infinitely many outcomes cannot be enumerated: draw discrete moves with `choose` and `accept` of jointebm.draws, "
    "give the continuous blocks, or use `invariance_test`"
)


class _Configurations(NamedTuple):
    """The configurations that agree with what is given.

    Args:
        position: per block, shape (S, *position_shape).
        free: per block, shape (S, *variable_shape).
        number: the place of each configuration of the space among these, -1 where it has none.
    """

    position: dict[str, Tensor]
    free: dict[str, Tensor]
    number: Tensor


def _configurations(space: Space, given: Values | None) -> _Configurations:
    if not space.discrete:
        raise ValueError(f"transition_matrix: there is no discrete block in {space}. Use invariance_test")
    given, total = dict(given or {}), space.num_configurations
    space.require(given)
    per_row = [name for name, values in given.items() if _has_rows(values, space[name].variable_shape)]
    own = space.configurations(dtype=torch.float64)
    reals = {name: torch.zeros(total, *space[name].position_shape, dtype=torch.float64) for name in space.continuous}
    position, free = space.clamp(given, num_chains=total, generator=torch.Generator(), init={**own, **reals})
    for name in space.continuous:
        if name in per_row or bool(free[name].any()):
            raise ValueError(
                f"block {name!r} ({space[name].kind}): transition_matrix holds a continuous block at one value for all "
                f"configurations, given in full, such as given={{{name!r}: ...}} of shape {space[name].variable_shape}"
            )
    agrees = {name: _every(position[name] == own[name]) for name in own}
    for name in per_row:
        if not bool(agrees[name].all()):
            raise ValueError(
                f"block {name!r} ({space[name].kind}): given one row per configuration, but row "
                f"{_first(~agrees[name])} is not in the configuration of that number. Pass masks as free= instead"
            )
    kept = torch.stack(list(agrees.values())).all(dim=0)
    number = torch.where(kept, kept.cumsum(dim=0) - 1, -1)
    return _Configurations({n: p[kept] for n, p in position.items()}, {n: m[kept] for n, m in free.items()}, number)


def _has_rows(values: Any, variable_shape: tuple[int, ...]) -> bool:
    shape = np.shape(values)
    return len(shape) > len(variable_shape) and shape[0] > 1


def _combined(space: Space, free: Mask, further: Mask | None) -> dict[str, Tensor]:
    """What both masks leave free."""
    if further is None:
        return dict(free)
    space.require(further)
    clamped = torch.zeros((), dtype=torch.bool)
    return {name: mask & further.get(name, clamped).broadcast_to(mask.shape) for name, mask in free.items()}


def _check_arrival(
    kernel: Kernel, space: Space, start: Chain, free: Mask, chain: Chain, arrived: Tensor, possible: Tensor
) -> None:
    """Raises unless every possible row stands, with f and score, at the configuration that it says it arrived at."""
    for name in space:
        held = (chain.position[name] == start.position[name]) | space[name].expand(free[name])
        _check(kernel, possible & ~_every(held), f"moved a clamped entry of block {name!r}")
        legal = _every(chain.position[name] == start.position[name][arrived])
        _check(kernel, possible & ~legal, f"left the space: block {name!r} is no configuration")
    _check(kernel, possible & ~_close(chain.f, start.f[arrived]), "returned an f that is not that of its position")
    if chain.score is not None and start.score is not None:
        for name in space:
            right = _every(_close(chain.score[name], start.score[name][arrived]))
            _check(kernel, possible & ~right, f"returned a score of block {name!r} that is not that of its position")


def _check(kernel: Kernel, wrong: Tensor, what: str) -> None:
    if bool(wrong.any()):
        raise AssertionError(f"{type(kernel).__name__}: {what}, in row {_first(wrong)} of {len(wrong)}")


def _close(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True)


def _every(holds: Tensor) -> Tensor:
    """Whether something holds for all entries of a row, shape (S,)."""
    return holds.reshape(len(holds), -1).all(dim=1)


def _first(wrong: Tensor) -> int:
    return int(wrong.nonzero()[0])


def _default_statistics(log_density: LogDensity, space: Space) -> dict[str, Statistic]:
    """f, every continuous entry and its square, and the indicator of every class."""
    statistics: dict[str, Statistic] = {"f": log_density}
    for name, block in space.items():
        for column in range(math.prod(block.position_shape)):
            statistics[f"{name}[{column}]"] = partial(_entry, name, column, 1)
            if not block.discrete:
                statistics[f"{name}[{column}]^2"] = partial(_entry, name, column, 2)
    return statistics


def _entry(block: str, column: int, power: int, position: Position) -> Tensor:
    """One entry of a flattened block, raised to a power, shape (N,)."""
    value = position[block]
    return value.reshape(len(value), -1)[:, column] ** power


def _largest_gap(name: str, a: Tensor, b: Tensor) -> int:
    """The Kolmogorov-Smirnov distance of two samples of n draws, in units of 1 / n."""
    if bool(a.isnan().any() | b.isnan().any()):
        raise FloatingPointError(f"invariance_test: statistic {name!r} is not a number at some draw")
    values = torch.cat([a, b])
    below = [torch.searchsorted(sample.sort().values, values, right=True) for sample in (a, b)]
    return int((below[0] - below[1]).abs().max())


def _p_value(num_pairs: int, gap: int) -> float:
    """P(D >= gap / n) for two independent samples of n draws of one continuous distribution (Gnedenko & Korolyuk)."""
    if gap == 0:
        return 1.0
    reach = torch.arange(gap, num_pairs + 1, gap, dtype=torch.float64)  # j k of the formula
    log_terms = 2 * torch.tensor(num_pairs + 1.0, dtype=torch.float64).lgamma() - (
        (num_pairs - reach + 1).lgamma() + (num_pairs + reach + 1).lgamma()
    )
    terms = log_terms.exp()
    return min(1.0, 2 * float(terms[::2].sum() - terms[1::2].sum()))
