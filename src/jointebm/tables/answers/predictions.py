"""Point predictions and class probabilities from a distribution over the codes of a column.

Legend: N rows, K codes, L values.
"""

from typing import Literal

import numpy as np

from jointebm.sampling.diagnostics import Diagnostics
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["Statistic", "class_errors", "class_probs", "classes", "point_prediction", "posterior_mean", "readout_of"]

Statistic = Literal["mean", "median"]


def classes(coded: CodedColumn) -> np.ndarray:
    """All values of a column that has finitely many, shape (L,).

    Raises:
        ValueError: a column of numbers in bins, or one that the model ignores.
    """
    if isinstance(coded.codec, CategoryCodec):
        return coded.codec.values
    if isinstance(coded.codec, NumberCodec) and coded.codec.is_discrete:
        return coded.codec.decode(np.arange(coded.codec.num_codes), np.zeros(coded.codec.num_codes))
    reason = "numbers in bins" if isinstance(coded.codec, NumberCodec) else "no values that the model knows"
    raise ValueError(f"column {coded.name!r} holds {reason}, so it has no classes; call draw_imputations(X, 100)")


def class_probs(coded: CodedColumn, log_probs: np.ndarray) -> np.ndarray:
    """p(value) of each of `classes`, shape (N, L), from log p(code), shape (N, K)."""
    probs = np.exp(log_probs)
    if isinstance(coded.codec, CategoryCodec):
        # `take` keeps the numbers of a row contiguous, so that sums over them do not depend on the number of rows.
        return probs.take(coded.codec.code, axis=1) * np.array(coded.codec.weight)
    return probs


def class_errors(coded: CodedColumn, found: Diagnostics[np.ndarray]) -> np.ndarray:
    """Standard errors of `class_probs`, shape (N, L), from those of p(code); levels share the error of their code."""
    with np.errstate(divide="ignore"):
        return class_probs(coded, np.log(found.standard_error))


def posterior_mean(coded: CodedColumn, log_probs: np.ndarray) -> np.ndarray:
    """Mean of a column of numbers, shape (N,), float64."""
    assert isinstance(coded.codec, NumberCodec)
    # One sum per row: rounding in a product of matrices depends on the number of rows.
    return (np.exp(log_probs) * coded.codec.means).sum(axis=1)


def readout_of(coded: CodedColumn, statistic: Statistic) -> np.ndarray | None:
    """What `posterior_mean` multiplies p(code) by, shape (K, 1), or None where no mean is asked for."""
    return coded.codec.means[:, None] if isinstance(coded.codec, NumberCodec) and statistic == "mean" else None


def point_prediction(coded: CodedColumn, log_probs: np.ndarray, *, statistic: Statistic) -> Column:
    """The most probable category of each row, or the mean or median of a number, on its grid.

    Args:
        coded: the column.
        log_probs: of its codes, shape (N, K).
        statistic: of numbers and times.

    Raises:
        ValueError: the model ignores the column.
    """
    none_missing = np.zeros(len(log_probs), dtype=bool)
    if isinstance(coded.codec, IgnoredCodec):
        raise ValueError(
            f"column {coded.name!r} ({coded.codec.reason}) is ignored by the model and cannot be predicted"
        )
    if isinstance(coded.codec, CategoryCodec):
        best = class_probs(coded, log_probs).argmax(axis=1)
        return Column(coded.role, classes(coded)[best], none_missing, coded.unit)
    if statistic == "median":
        values = coded.codec.quantile(np.exp(log_probs), 0.5)
    else:
        values = coded.codec.nearest(posterior_mean(coded, log_probs))
    return Column(coded.role, values, none_missing, coded.unit)
