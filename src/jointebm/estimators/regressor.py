"""`JointEBMRegressor`: predicts numbers by the mean of p(number | row) of the joint density."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from jointebm.estimators.facade import Facade, checked_target
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.answers.determined_entries import with_determined
from jointebm.tables.answers.predictions import posterior_mean, readout_of
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.training.table_config import Progress

__all__ = ["JointEBMRegressor"]


class JointEBMRegressor(RegressorMixin, Facade):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts a number by its mean given the row, under the joint density of X and y; X may have missing entries.

    The mean is taken over codes of y: it stays within the range of y in training and does not extrapolate.

    Args:
        core: a `JointEBM` with the parameters to use; it is copied. None is one with all defaults.

    Attributes:
        core_: the fitted `JointEBM`; `core_.predict(X, statistic="median")` gives medians.

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
        >>> X = np.arange(100.0)[:, None]
        >>> model = JointEBMRegressor(JointEBM(training=quick)).fit(X, X[:, 0] > 49)
        >>> model.predict([[10.0], [90.0]]).round()
        array([0., 1.])
    """

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        *,
        sample_weight: Any = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Self:
        """Fits the joint density of X and y.

        Args:
            X: table, N rows.
            y: numbers, shape (N,).
            sample_weight: as in `JointEBM.fit`.
            on_progress: as in `JointEBM.fit`.

        Raises:
            ValueError: y is not a vector of numbers, or has missing entries.
        """
        numbers = checked_target(y, type(self).__name__).astype(np.float64)
        self._fit_with_target(X, y, numbers, kind="numeric", sample_weight=sample_weight, on_progress=on_progress)
        return self

    @classmethod
    def of(cls, core: JointEBM, target: Name) -> Self:
        """A regressor on a fitted core, for any column of numbers.

        Raises:
            ValueError: an unknown column, or one that does not hold numbers.
        """
        coded = core.coded(target)
        if not isinstance(coded.codec, NumberCodec) or coded.role == "time":
            raise ValueError(f"column {target!r} does not hold numbers; use JointEBMClassifier.of or core.predict")
        return cls._of(core, target)

    def predict(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """The mean of the target given each row, shape (N,), float64; with `diagnostics`, (means, `Diagnostics`)."""
        rows, target = self._asked(X), self._target
        coded = self.core_.coded(target)
        answer = self._predictive(rows, readout_of(coded, "mean"))
        means, found = posterior_mean(coded, answer.value), answer.diagnostics.numpy()
        column = Column("real", means, np.zeros(len(means), dtype=bool))
        means = with_determined(column, rows, target).values
        return Answer(means, replace(found, standard_error=found.standard_error[:, 0])) if diagnostics else means
