"""Rubin's rules, against the same formulas in exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from jointebm import pool

RNG = np.random.default_rng(0)


def by_hand(q: list[float], u: list[float], df_complete: int | None, level: float) -> dict[str, float]:
    """Rubin 1987, and Barnard & Rubin 1999, for one number."""
    m = len(q)
    estimates, variances = [Fraction(each) for each in q], [Fraction(each) for each in u]
    mean, within = sum(estimates) / m, sum(variances) / m
    between = sum((each - mean) ** 2 for each in estimates) / (m - 1)
    total = within + (1 + Fraction(1, m)) * between
    riv = (1 + Fraction(1, m)) * between / within
    df = (m - 1) * (1 + 1 / riv) ** 2  # Rubin 1987, (3.1.6)
    if df_complete is not None:
        observed = Fraction(df_complete + 1, df_complete + 3) * df_complete / (1 + riv)
        df = df * observed / (df + observed)
    half = stats.t.ppf((1 + level) / 2, float(df)) * math.sqrt(total)
    return {
        "estimate": float(mean),
        "within": float(within),
        "between": float(between),
        "total": float(total),
        "standard_error": math.sqrt(total),
        "df": float(df),
        "missing_information": float((riv + 2 / (df + 3)) / (riv + 1)),
        "low": float(mean) - half,
        "high": float(mean) + half,
    }


@pytest.mark.parametrize("df_complete", [None, 3, 50, 10**6])
@pytest.mark.parametrize(("num", "level"), [(2, 0.95), (5, 0.9), (20, 0.99)])
def test_numbers_are_those_of_exact_fractions(num: int, level: float, df_complete: int | None) -> None:
    q, u = RNG.normal(3, 1, num).tolist(), RNG.uniform(0.1, 2, num).tolist()
    pooled = pool(q, u, df_complete=df_complete, level=level)
    for name, expected in by_hand(q, u, df_complete, level).items():
        found = getattr(pooled, name)
        assert isinstance(found, float) and found == pytest.approx(expected, rel=1e-12, abs=1e-12), name


def test_a_case_that_a_reader_can_check() -> None:
    """Q = 3, 5 and U = 1, 1: W = 1, B = 2, T = 1 + 1.5 * 2 = 4, lambda = 3/4, df = 16/9."""
    pooled = pool([3, 5], [1, 1])
    assert pooled[:5] == (4.0, 1.0, 2.0, 4.0, 2.0)
    assert pooled.df == pytest.approx(16 / 9, rel=1e-14)
    assert pooled.missing_information == pytest.approx((3 + 2 / (16 / 9 + 3)) / 4, rel=1e-14)
    # With v = 10: df_observed = 11/13 * 10 / 4 = 55/26, and 1 / (9/16 + 26/55) = 880/911.
    assert pool([3, 5], [1, 1], df_complete=10).df == pytest.approx(880 / 911, rel=1e-14)


def test_arrays_are_pooled_entry_by_entry() -> None:
    q, u = RNG.normal(size=(4, 2, 3)), RNG.uniform(0.5, 1, (4, 2, 3))
    whole = pool(q, u, df_complete=30)
    for i in range(2):
        for j in range(3):
            one = pool(q[:, i, j], u[:, i, j], df_complete=30)
            assert [field[i, j] for field in whole] == pytest.approx(list(one), rel=1e-14)


def test_without_differences_the_interval_is_that_of_complete_data() -> None:
    pooled = pool([2.0, 2.0, 2.0], [0.25, 0.25, 0.25])
    assert (pooled.df, pooled.missing_information) == (math.inf, 0.0)
    assert pooled.high == pytest.approx(2 + stats.norm.ppf(0.975) / 2, rel=1e-12)
    small = pool([2.0, 2.0, 2.0], [0.25, 0.25, 0.25], df_complete=10)
    assert small.df == pytest.approx(11 / 13 * 10, rel=1e-14)


def test_without_any_variance_there_is_no_width_and_without_any_information_no_end() -> None:
    assert pool([1.0, 1.0], [0.0, 0.0])[-2:] == (1.0, 1.0)
    assert pool([1.0, 2.0], [0.0, 0.0], df_complete=9)[-2:] == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0], [1.0]), {}, r"got estimates of shape \(1,\); expected those of 2 completed tables or more"),
        ((1.0, 1.0), {}, r"got estimates of shape \(\)"),
        (([1.0, 2.0], [1.0]), {}, r"estimates of shape \(2,\) and variances of shape \(1,\); they must agree"),
        (([1.0, math.nan], [1.0, 1.0]), {}, r"estimates\[1\] is nan; expected finite numbers"),
        (([[1.0], [2.0]], [[1.0], [-1.0]]), {}, r"variances\[1, 0\] is -1.0; expected finite numbers of at least 0"),
        (([1.0, 2.0], [1.0, 1.0]), {"level": 95}, "level: got 95, expected a number between 0 and 1"),
        (([1.0, 2.0], [1.0, 1.0]), {"df_complete": 0}, "df_complete: got 0, expected degrees of freedom above 0"),
    ],
)
def test_wrong_input_is_named(arguments: tuple[object, object], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(*arguments, **options)  # type: ignore[arg-type]
