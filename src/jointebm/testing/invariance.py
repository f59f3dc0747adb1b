"""A test that a kernel leaves its target invariant, with exact draws, at a stated false-alarm rate.

Legend: N draws.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import Kernel, LogDensity, evaluate, settle
from jointebm.randomness.draws import Generator, uniform
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Invariance", "Statistics", "default_statistics", "entries", "invariance_test"]

Statistics = Mapping[str, Callable[[Position], Tensor]]
"""Named functions from a position to one number per row, shape (N,).

Example:
    >>> statistics: Statistics = {"x squared": lambda position: position["x"].square()}
    >>> statistics["x squared"]({"x": torch.tensor([1.0, 3.0])})
    tensor([1., 9.])
"""


class Invariance(NamedTuple):
    """Result of `invariance_test`.

    Args:
        p_value: of all statistics together, in [0, 1]: at most a share a of right kernels gets a p-value below a.
        rejected: whether p_value <= alpha.
        worst: name of the statistic that changed most.
        alpha: the false-alarm rate that was asked for.

    Example:
        >>> verdict = Invariance(p_value=0.4, rejected=False, worst="x squared", alpha=1e-3)
        >>> verdict.rejected == (verdict.p_value <= verdict.alpha)
        True
    """

    p_value: float
    rejected: bool
    worst: str
    alpha: float


def invariance_test(
    kernel: Kernel,
    log_density: LogDensity,
    space: Space,
    exact_draws: Position,
    *,
    num_steps: int,
    statistics: Statistics | None = None,
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
    test conservative. A wrong one passes if no statistic sees the difference, and mixing is not tested: a kernel that never
    moves passes.

    Args:
        kernel: the kernel under test.
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

    Raises:
        ValueError: there are too few draws for the test to reject.
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
        statistics = default_statistics(log_density, space)
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


def default_statistics(log_density: LogDensity, space: Space) -> Statistics:
    """f, every continuous entry and its square, and the indicator of every class."""
    statistics: dict[str, Callable[[Position], Tensor]] = {"f": log_density}
    for name, block in space.items():
        for column in range(math.prod(block.position_shape)):
            statistics |= entries(name, column, squared=not block.discrete)
    return statistics


def entries(block: str, column: int, *, squared: bool) -> dict[str, Callable[[Position], Tensor]]:
    """The statistic of one entry of a flattened block, and that of its square if asked for."""

    def entry(position: Position) -> Tensor:
        return position[block].reshape(len(position[block]), -1)[:, column]

    found: dict[str, Callable[[Position], Tensor]] = {f"{block}[{column}]": entry}
    return found | ({f"{block}[{column}]^2": lambda position: entry(position) ** 2} if squared else {})


def _largest_gap(name: str, a: Tensor, b: Tensor) -> int:
    """Kolmogorov-Smirnov distance of two samples of n draws, in units of 1 / n."""
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
