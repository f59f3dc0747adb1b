"""`JointEBMRegressor`: the mean of p(number | row) of the joint density."""

from typing import Any, Self

import numpy as np

from jointebm.estimators.facade import Facade, checked_target
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.tables.answers.predictions import posterior_mean
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.numbers import NumberCodec

try:
    from sklearn.base import RegressorMixin
except ImportError as error:
    raise ImportError("JointEBM needs scikit-learn, narwhals and pandas: pip install 'jointebm[tables]'") from error

__all__ = ["JointEBMRegressor"]


class JointEBMRegressor(RegressorMixin, Facade):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts a number by its mean under the joint density of X and y; X may have missing entries.

    The mean is over bins of y, so it never leaves the range of y in training.

    Args:
        core: a `JointEBM` with the parameters to use, which is copied; None is one with all defaults.

    Attributes:
        core_: the fitted joint density, for quantiles (`core_.predict(X, statistic="median")`), draws and all else.

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
        >>> X = np.arange(100.0)[:, None]
        >>> model = JointEBMRegressor(JointEBM(base="mixture", training=quick)).fit(X, X[:, 0] > 49)
        >>> model.predict([[10.0], [90.0]]).round()
        array([0., 1.])
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Fits the joint density of X and y.

        Raises:
            ValueError: y is no vector of numbers, or misses some.
        """
        numbers = checked_target(y, type(self).__name__).astype(np.float64)
        self._fit_with_target(X, y, numbers, kind="numeric")
        return self

    @classmethod
    def of(cls, core: JointEBM, target: Name) -> Self:
        """A regressor on a fitted core, for any of its columns of numbers.

        Raises:
            ValueError: the column is of something else.
        """
        coded = core.coded(target)
        if not isinstance(coded.codec, NumberCodec) or coded.role == "time":
            raise ValueError(
                f"column {target!r} is not of numbers; JointEBMClassifier.of, or core.predict, takes others"
            )
        return cls._of(core, target)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The mean of the target given each row, shape (N,)."""
        log_probs = self._log_predictive(X)
        return posterior_mean(self.core_.coded(self._target), log_probs)
