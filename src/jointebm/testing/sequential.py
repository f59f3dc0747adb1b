"""Tests in stages: few draws if the answer is clear, more if it is not, at one false-alarm rate."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Verdict", "sequential_test"]


class Verdict(NamedTuple):
    """Result of a joint-distribution test.

    Args:
        rejected: whether the transition is wrong, up to the false-alarm rate.
        worst: name of the statistic with the smallest p-value in the last stage.
        p_values: of each stage that was run, over all statistics together, in [0, 1].
        limits: p-value at or below which each of these stages rejects.
        num_draws: exact draws used, over all stages.
        alpha: the false-alarm rate that was asked for.

    Example:
        >>> verdict = sequential_test(lambda num: (0.5, "mean"), num_draws=100, alpha=1e-5, num_stages=7, growth=4)
        >>> verdict.rejected, verdict.num_draws  # clear after the first stage
        (False, 100)
    """

    rejected: bool
    worst: str
    p_values: tuple[float, ...]
    limits: tuple[float, ...]
    num_draws: int
    alpha: float


def sequential_test(
    stage: Callable[[int], tuple[float, str]], *, num_draws: int, alpha: float, num_stages: int, growth: int
) -> Verdict:
    """Repeats a test with new draws while its p-value is small, but not small enough to reject.

    With beta = alpha / k and gamma = beta^(1 / k), stage i of k

    rejects if p <= beta / gamma^(i - 1),   continues if p <= gamma,   accepts otherwise.

    A right transition reaches stage i with probability at most gamma^(i - 1), so each stage rejects it with probability
    at most beta, and all of them with at most alpha. The paper continues up to gamma + its limit, which keeps alpha for
    p-values that are exactly uniform; here they may also be conservative.

    Args:
        stage: runs the test on that many new draws; returns a p-value and the name of what decided it.
        num_draws: draws of the first stage; the later ones use `growth` times as many each.
        alpha: false-alarm rate over all stages, in (0, 1).
        num_stages: k >= 1. One stage is a plain test at alpha. More stages let fewer wrong transitions through, because
            gamma, the p-value that ends the test, grows with k.
        growth: >= 1.

    Raises:
        ValueError: an option out of its range.

    References:
        Gandy & Scott 2020, "Unit testing for MCMC and other Monte Carlo methods", the sequential test.

    Example:
        >>> p_values = iter([0.04, 1e-9])
        >>> verdict = sequential_test(lambda num: (next(p_values), "mean"), num_draws=100, alpha=1e-5, num_stages=7,
        ...                           growth=4)
        >>> verdict.rejected, verdict.p_values, verdict.num_draws
        (True, (0.04, 1e-09), 500)
    """
    if num_draws < 1 or num_stages < 1 or growth < 1 or not 0 < alpha < 1:
        raise ValueError(
            "sequential_test: needs num_draws, num_stages and growth >= 1 and 0 < alpha < 1, got "
            f"{num_draws}, {num_stages}, {growth} and {alpha}"
        )
    beta = alpha / num_stages
    gamma = beta ** (1 / num_stages)
    p_values: tuple[float, ...] = ()
    limits = tuple(beta / gamma**index for index in range(num_stages))
    used, worst = 0, ""
    for limit in limits:
        num = growth * num_draws if p_values else num_draws
        p_value, worst = stage(num)
        used, p_values = used + num, (*p_values, p_value)
        if p_value <= limit or p_value > gamma:
            break
    limits = limits[: len(p_values)]
    return Verdict(p_values[-1] <= limits[-1], worst, p_values, limits, used, alpha)
