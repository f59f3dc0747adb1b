"""Transition matrices of a kernel's own code, and the equations that they satisfy.

In a small discrete space nothing has to be sampled: `transition_matrix` runs the kernel's own `step` along every outcome of
its draws and returns P, so detailed balance and stationarity hold to rounding or not at all.

Legend: S configurations, M outcomes of one draw.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.kernels import Chain, Kernel, LogDensity, evaluate
from jointebm.spaces.space import Mask, Position, Space, Values

__all__ = [
    "TransitionMatrix",
    "detailed_balance_residual",
    "stationarity_residual",
    "target_probs",
    "transition_matrix",
]


class TransitionMatrix(NamedTuple):
    """The probabilities of one step of a kernel.

    Args:
        matrix: probability of going from configuration i (row) to j (column), shape (S, S), float64.
        position: the configurations in the order of the matrix, per block (S, *position_shape), float64; continuous
            blocks have their given value.

    Example:
        >>> from jointebm import Binary, kernels
        >>> space = Space(y=Binary())
        >>> matrix, position = transition_matrix(kernels.Gibbs(space), lambda position: 0 * position["y"], space)
        >>> matrix.tolist(), position["y"].tolist()
        ([[0.5, 0.5], [0.5, 0.5]], [0.0, 1.0])
    """

    matrix: Tensor
    position: dict[str, Tensor]


def transition_matrix(
    kernel: Kernel, log_density: LogDensity, space: Space, given: Values | None = None, *, free: Mask | None = None
) -> TransitionMatrix:
    """Computes the transition matrix of one step, by running it along every outcome of its draws.

    P_ij = sum over the outcomes that lead from i to j of their probability

    All configurations are one float64 batch. A scripted stream takes the place of the generator: it answers `choose`
    with each index and `accept` with yes and no, depth first, and multiplies the probabilities of the outcomes in each row.
    The cost is one step per sequence of outcomes, so a cycle of many moves takes long.

    The end of each path is checked: clamped entries have the same bits, the position is a configuration, and f and score
    are those of the position. A kernel that breaks this can have a perfect matrix and go wrong at the second step.

    Args:
        kernel: draws with `choose` and `accept` only, one draw per chain at a time.
        log_density: f, shape (N,), computed in float64; call `.double()` on a module first.
        space: the blocks. Every continuous block must be given.
        given: clamped values, the same for all chains, in the forms of `Space.clamp`; -1 is free. Only the S
            configurations that agree with them are kept.
        free: further masks (S, *variable_shape), or what broadcasts to it, of what may move; clamped entries keep their
            row's own value. A block that it leaves out is clamped. None is everything. Where the mask of a row is that
            of every row it can reach (it is the same for all, or depends on clamped entries only), the matrix
            decomposes and leaves the target invariant; otherwise its rows are right, but belong to different chains.

    Returns:
        `TransitionMatrix`: (matrix, position).

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
    return TransitionMatrix(matrix, configurations.position)


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
    """Computes the largest violation of detailed balance: max |pi_i P_ij - pi_j P_ji|.

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
    """Computes the largest violation of stationarity: max |pi P - pi|.

    Args:
        matrix: P, shape (S, S).
        probs: pi, shape (S,).

    Example:
        >>> stationarity_residual(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([0.25, 0.75]))
        0.25
    """
    return float((probs @ matrix - probs).abs().max())


class _Path:
    """A stream that takes given outcomes, then the first possible one at each further draw."""

    def __init__(self, outcomes: tuple[int, ...], num_rows: int) -> None:
        self.probs = torch.ones(num_rows, dtype=torch.float64)  # of what was taken so far, in each row
        self.branches: list[tuple[int, ...]] = []  # sequences of outcomes that were possible and not taken
        self._outcomes = list(outcomes)
        self._num_taken = 0

    def choose(self, log_weights: Tensor) -> Tensor:
        self._check_rows("choose", log_weights)
        if log_weights.ndim == 3:  # choices of a row that are independent of one another, one after the other
            return torch.stack([self.choose(each) for each in log_weights.unbind(dim=2)], dim=1)
        # A row without any weight is never used; it is taken as uniform, so that it sums to one.
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
        raise _endless("normals", like)

    def uniform(self, like: Tensor) -> Tensor:
        raise _endless("uniforms", like)

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


def _endless(draws: str, like: Tensor) -> ValueError:
    return ValueError(
        f"transition_matrix: the kernel draws {draws} of shape {tuple(like.shape)}. Infinitely many outcomes cannot be "
        "enumerated: draw discrete moves with `choose` and `accept` of jointebm.randomness.draws, give the continuous "
        "blocks, or use `invariance_test`"
    )


class _Configurations(NamedTuple):
    """The configurations that agree with what is given."""

    position: dict[str, Tensor]  # per block, (S, *position_shape)
    free: dict[str, Tensor]  # per block, (S, *variable_shape)
    number: Tensor  # the place of each configuration of the space among these, -1 where it has none


def _configurations(space: Space, given: Values | None) -> _Configurations:
    if not space.discrete:
        raise ValueError(f"transition_matrix: there is no discrete block in {space}. Use invariance_test")
    given, total = dict(given or {}), space.num_configurations
    space.require(given)
    for name, values in given.items():
        if np.ndim(values) > len(space[name].variable_shape) and len(values) > 1:
            raise ValueError(
                f"block {name!r} ({space[name].kind}): transition_matrix takes one given value for all configurations, of "
                f"shape {space[name].variable_shape}. Pass masks as free= instead"
            )
    own = space.configurations(dtype=torch.float64)
    reals = {name: torch.zeros(total, *space[name].position_shape, dtype=torch.float64) for name in space.continuous}
    position, free = space.clamp(given, num_chains=total, generator=torch.Generator(), init={**own, **reals})
    for name in space.continuous:
        if bool(free[name].any()):
            raise ValueError(
                f"block {name!r} ({space[name].kind}): transition_matrix holds a continuous block at one value for all "
                f"configurations, given in full, such as given={{{name!r}: ...}} of shape {space[name].variable_shape}"
            )
    kept = torch.stack([_every(position[name] == own[name]) for name in own]).all(dim=0)
    number = torch.where(kept, kept.cumsum(dim=0) - 1, -1)
    return _Configurations({n: p[kept] for n, p in position.items()}, {n: m[kept] for n, m in free.items()}, number)


def _combined(space: Space, free: Mask, further: Mask | None) -> dict[str, Tensor]:
    """The entries that both masks leave free."""
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
