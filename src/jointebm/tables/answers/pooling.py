"""Rubin's rules: one estimate from the estimates of several completed tables.

Legend: m completed tables, Q_i the estimate of table i, U_i its variance.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Pooled", "pool"]


class Pooled(NamedTuple):
    """A pooled estimate; every field has the shape of one estimate, and is a float if that is a number.

    Args:
        estimate: mean of the estimates.
        within: W, mean of their variances.
        between: B, variance of the estimates, with the denominator m - 1.
        total: T = W + (1 + 1/m) B.
        standard_error: square root of T.
        df: degrees of freedom of the t distribution; infinite where the estimates agree and `df_complete` is None.
        missing_information: fraction of the information about the estimate that is missing.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    estimate: np.ndarray
    within: np.ndarray
    between: np.ndarray
    total: np.ndarray
    standard_error: np.ndarray
    df: np.ndarray
    missing_information: np.ndarray
    low: np.ndarray
    high: np.ndarray


def pool(
    estimates: ArrayLike, variances: ArrayLike, *, df_complete: float | None = None, level: float = 0.95
) -> Pooled:
    """Pools the estimates of m completed tables, each with its variance, by Rubin's rules.

        T = W + (1 + 1/m) B,   lambda = (1 + 1/m) B / T,   df = (m - 1) / lambda^2
        with df_complete = v:  df = 1 / (1 / df + 1 / df_observed),   df_observed = (v + 1) / (v + 3) v (1 - lambda)
        missing information = (r + 2 / (df + 3)) / (1 + r),   r = (1 + 1/m) B / W
        interval = mean -+ t_df sqrt(T)

    Valid where estimates are about normal, and imputations are draws that hold the uncertainty of the model that made them
    (`draw_imputations(X, m, uncertainty="model")`). Each entry of a vector is pooled alone: covariances are not.

    Args:
        estimates: one number, or array of any shape, per completed table, shape (m, ...), at least 2.
        variances: squared standard errors, of the same shape, not negative.
        df_complete: v, degrees of freedom of the estimate in a complete table, such as rows minus coefficients; None takes
            them for infinite, and intervals of small tables are then too short.
        level: of the interval, between 0 and 1.

    Raises:
        ValueError: fewer than two estimates, other shapes, a number that is not finite, a negative variance, or another
            argument out of its range.

    References:
        Rubin 1987, Multiple Imputation for Nonresponse in Surveys. Barnard & Rubin 1999, Biometrika 86 (df with v).

    Example:
        >>> pooled = pool([3.0, 5.0], [1.0, 1.0])
        >>> pooled.estimate, pooled.within, pooled.between, pooled.total
        (4.0, 1.0, 2.0, 4.0)
    """
    q, u = _checked_estimates(estimates, variances)
    _check_numbers(df_complete, level)
    num = len(q)
    estimate, within, between = q.mean(axis=0), u.mean(axis=0), q.var(axis=0, ddof=1)
    of_missing = (1 + 1 / num) * between
    total = within + of_missing
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing missing, or nothing known
        share = np.where(total > 0, of_missing / total, 0.0)  # lambda
        df = (num - 1) / share**2
        if df_complete is not None and df_complete < math.inf:
            df = 1 / (1 / df + 1 / ((df_complete + 1) / (df_complete + 3) * df_complete * (1 - share)))
        information = share + (1 - share) * 2 / (df + 3)  # (r + 2 / (df + 3)) / (1 + r), also for W = 0
    standard_error = np.sqrt(total)
    quantile = np.where(df > 0, _t_quantile(df, (1 + level) / 2), np.inf)  # without any information, the whole line
    half = np.where(total > 0, quantile, 0.0) * standard_error
    fields = (estimate, within, between, total, standard_error, df, information, estimate - half, estimate + half)
    return Pooled(*(each if q.ndim > 1 else float(each) for each in fields))  # type: ignore[arg-type]


def _t_quantile(df: np.ndarray, level: float) -> np.ndarray:
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise ImportError("pool needs scipy: pip install 'jointebm[tables]'") from error
    return stdtrit(df, level)


def _checked_estimates(estimates: ArrayLike, variances: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    q, u = np.asarray(estimates, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if q.ndim < 1 or len(q) < 2:
        raise ValueError(
            f"pool: got estimates of shape {q.shape}; expected those of 2 completed tables or more, one per table"
        )
    if q.shape != u.shape:
        raise ValueError(f"pool: got estimates of shape {q.shape} and variances of shape {u.shape}; they must agree")
    for name, values in (("estimates", q), ("variances", u)):
        wrong = ~np.isfinite(values) | ((values < 0) if name == "variances" else False)
        if wrong.any():
            place = tuple(int(index) for index in np.argwhere(wrong)[0])
            kind = "finite numbers of at least 0" if name == "variances" else "finite numbers"
            raise ValueError(f"pool: {name}{list(place)} is {values[place]}; expected {kind}")
    return q, u


def _check_numbers(df_complete: float | None, level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"pool: level: got {level!r}, expected a number between 0 and 1, such as 0.95")
    if df_complete is not None and not df_complete > 0:
        raise ValueError(
            f"pool: df_complete: got {df_complete!r}, expected degrees of freedom above 0, or None for infinite ones"
        )
