"""Gandy and Scott's exact rank test: the rank of an exact draw among the states of its own chain is uniform.

Legend: N draws (replicates), L steps, L + 1 states and ranks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Binomial

from jointebm.kernels import LogDensity
from jointebm.kernels.chain import where_rows
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Position, Space
from jointebm.testing.conditional import Transition, check_held, tile
from jointebm.testing.invariance import Statistics, default_statistics
from jointebm.testing.sequential import Verdict, sequential_test

__all__ = ["rank_test"]


def rank_test(
    transition: Transition,
    log_density: LogDensity,
    space: Space,
    draw: Callable[[int, Generator], Position],
    *,
    reverse: Transition | None = None,
    patterns: Sequence[Mask] | None = None,
    num_steps: int = 5,
    statistics: Statistics | None = None,
    num_draws: int = 1000,
    alpha: float = 1e-5,
    num_stages: int = 7,
    growth: int = 4,
    generator: Generator,
) -> Verdict:
    """Tests that a transition is reversible under its target, or has the stated reversal.

    In each of N replicates an exact draw X_M is put at a place M uniform on 0..L; X_(M-1), ..., X_0 are drawn from it by
    `reverse` and X_(M+1), ..., X_L by `transition`. If they are each other's reversal under the target, the chain does
    not tell where it began, and

    rank = #{j : T(X_j) < T(X_M)} + uniform on 0..#{j != M : T(X_j) = T(X_M)}

    is exactly uniform on 0..L, whatever T is and however slowly the chain mixes. Counts of ranks are binomial: those of
    the lowest 1, 2, ..., L ranks, and of as many lowest and highest ones together, each give a two-sided p-value, and
    the smallest times their number over all statistics (Bonferroni) is that of the stage. So the false-alarm rate
    holds at every N. `sequential_test` repeats the stage where the answer is not clear.

    Each chain is compared with its own start, so few draws are needed. A right transition that is not reversible, such as a
    `Cycle` or a systematic scan, needs its `reverse`; otherwise it may be rejected (`geweke_test` needs none). Mixing is not
    tested: a transition that never moves passes.

    Args:
        transition: the transition under test, such as `conditional_path` makes.
        log_density: f, shape (N,), for the statistics; draws are compared with the transition, not with f.
        space: the blocks.
        draw: (num, generator) to that many exact, independent positions.
        reverse: the time reversal of the transition: of a cycle of reversible kernels, the cycle in the opposite order.
            None means that the transition is its own.
        patterns: masks of what is free that broadcast to (*variable_shape); row i has number i modulo their count. A
            block that a pattern leaves out is clamped. None frees everything.
        num_steps: L >= 1, transitions per replicate; with a `reverse`, 2 L are run.
        statistics: named functions T from a position to shape (N,). None is those of `invariance_test`.
        num_draws: replicates N of the first stage.
        alpha: false-alarm rate of the whole test, in (0, 1).
        num_stages: see `sequential_test`, and so `growth`.
        generator: source of all draws.

    Raises:
        AssertionError: the transition moved a clamped entry.
        ValueError: an option out of its range.
        FloatingPointError: a statistic is not a number.

    References:
        Gandy & Scott 2020, "Unit testing for MCMC and other Monte Carlo methods", the rank test. Besag & Clifford 1989.

    Example:
        >>> from jointebm import Continuous, kernels
        >>> from jointebm.randomness.draws import normal
        >>> from jointebm.testing import conditional_path
        >>> space = Space(x=Continuous())
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> def draw(num, generator): return {"x": normal(torch.zeros(num), generator)}
        >>> def rejected(kernel):
        ...     return rank_test(conditional_path(log_density, space, kernel), log_density, space, draw,
        ...                      generator=torch.Generator().manual_seed(0)).rejected
        >>> rejected(kernels.MALA(block="x", step_size=1.2)), rejected(kernels.Langevin(block="x", step_size=1.2))
        (False, True)
    """
    if statistics is None:
        statistics = default_statistics(log_density, space)
    if num_steps < 1 or not statistics:
        raise ValueError(
            f"rank_test: needs num_steps >= 1 and a statistic, got {num_steps} and {len(statistics)} statistics"
        )

    def stage(num: int) -> tuple[float, str]:
        free = tile(space, patterns, num)
        ranks = _ranks(transition, reverse, space, draw(num, generator), free, num_steps, statistics, generator)
        p_values = {name: _p_value(rank, num_steps) for name, rank in ranks.items()}
        worst = min(p_values, key=lambda name: p_values[name])
        return min(1.0, len(p_values) * p_values[worst]), worst

    return sequential_test(stage, num_draws=num_draws, alpha=alpha, num_stages=num_stages, growth=growth)


def _ranks(
    transition: Transition,
    reverse: Transition | None,
    space: Space,
    start: Position,
    free: Mask,
    num_steps: int,
    statistics: Statistics,
    generator: Generator,
) -> dict[str, Tensor]:
    """Rank of the start of each replicate among its own states, per statistic (N,), int64."""
    like = next(iter(start.values()))
    place = choose(like.new_zeros(len(like), num_steps + 1), generator)  # M, (N,)
    of_start = _values(statistics, start)
    lower = {name: torch.zeros_like(place) for name in statistics}
    equal = {name: torch.zeros_like(place) for name in statistics}
    position = start
    for step in range(num_steps):
        # M steps back from the start, then from the start again, L - M steps onward.
        position = {name: where_rows(place == step, start[name], value) for name, value in position.items()}
        moved = transition(position, free, generator)
        if reverse is not None:
            back = reverse(position, free, generator)
            moved = {name: where_rows(step < place, back[name], value) for name, value in moved.items()}
        check_held(space, start, moved, free)
        position = moved
        for name, value in _values(statistics, position).items():
            lower[name] += value < of_start[name]
            equal[name] += value == of_start[name]
    return {name: lower[name] + _uniform_up_to(equal[name], like, generator) for name in statistics}


def _values(statistics: Statistics, position: Position) -> dict[str, Tensor]:
    with torch.no_grad():
        values = {name: statistic(position) for name, statistic in statistics.items()}
    for name, value in values.items():
        if bool(value.isnan().any()):
            raise FloatingPointError(f"rank_test: statistic {name!r} is not a number at some state")
    return values


def _uniform_up_to(largest: Tensor, like: Tensor, generator: Generator) -> Tensor:
    """Whole numbers uniform on 0..largest, (N,)."""
    most = int(largest.max()) + 1
    absent = torch.arange(most, device=largest.device) > largest[:, None]  # (N, most)
    return choose(like.new_zeros(len(largest), most).masked_fill(absent, -torch.inf), generator)


def _p_value(ranks: Tensor, num_steps: int) -> float:
    """Of uniformity on 0..L: the smallest two-sided binomial p-value over sets of ranks, times their number."""
    counts = ranks.bincount(minlength=num_steps + 1)
    lowest, highest = counts.cumsum(dim=0).tolist(), counts.flip(0).cumsum(dim=0).tolist()
    sets = [(lowest[size - 1], size) for size in range(1, num_steps + 1)]
    sets += [(lowest[size - 1] + highest[size - 1], 2 * size) for size in range(1, num_steps // 2 + 1)]
    smallest = min(_two_sided(len(ranks), count, size / (num_steps + 1)) for count, size in sets)
    return min(1.0, len(sets) * smallest)


def _two_sided(num: int, count: int, prob: float) -> float:
    """Twice the smaller tail of a binomial count, at most 1."""
    counts = torch.arange(num + 1, dtype=torch.float64)
    log_probs = Binomial(num, torch.tensor(prob, dtype=torch.float64)).log_prob(counts)
    tails = torch.stack([log_probs[: count + 1].logsumexp(dim=0), log_probs[count:].logsumexp(dim=0)])
    return min(1.0, 2 * float(tails.min().exp()))
