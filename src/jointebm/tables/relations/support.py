"""Probabilities that unrelated columns keep a relation by chance.

All probabilities are exact bounds over the random permutations of one column that leave the others as they are.

Legend: n rows, L levels.
"""

import numpy as np

__all__ = [
    "MAX_LOG_CHANCE",
    "MIN_EVIDENCE",
    "log_chance_of_columns",
    "log_chance_of_function",
    "log_chance_of_order",
]

MIN_EVIDENCE = 100  # of evidence: without an exception among them, fewer than 3% are exceptions with 95% confidence
MAX_LOG_CHANCE = -25.0  # of a relation that is detected: 1.4e-11 for each candidate


def log_chance_of_columns(values: np.ndarray) -> float:
    """log-probability that a random permutation of a column is the column itself, of n values.

        log(prod_l n_l! / n!)

    Example:
        >>> bool(np.isclose(log_chance_of_columns(np.array([1, 1, 2])), np.log(1 / 3)))
        True
    """
    counts = np.unique(values, return_counts=True)[1]
    log_factorial = _log_factorials(len(values))
    return float(log_factorial[counts].sum() - log_factorial[len(values)])


def log_chance_of_function(num_keys: int, values: np.ndarray) -> float:
    """log of a bound of the probability that a permuted column is a function of a key with so many levels.

    L^num_keys functions, each with the probability of `log_chance_of_columns`, at most.
    """
    return num_keys * float(np.log(len(np.unique(values)))) + log_chance_of_columns(values)


def log_chance_of_order(low: np.ndarray, high: np.ndarray) -> float:
    """log-probability that low <= high in all n rows after a random permutation of one of them; zero if none breaks it.

    The largest low has c_1 places, the number of values of `high` that are not below it; the next one has c_2 - 1 left, and
    so on: the probability is the product of (c_k - k + 1) / (n - k + 1).

    Example:
        >>> bool(np.isclose(log_chance_of_order(np.array([0, 2]), np.array([1, 3])), np.log(1 / 2)))
        True
    """
    number = np.arange(len(low))
    places = len(high) - np.searchsorted(np.sort(high), np.sort(low)[::-1], "left")
    return float(np.log((places - number) / (len(low) - number)).sum())


def _log_factorials(most: int) -> np.ndarray:
    """log k! for k = 0, ..., most."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
