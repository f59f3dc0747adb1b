"""`JointEBMOutlierDetector`: finds rows whose entries do not fit together."""

from collections.abc import Callable
from numbers import Real
from typing import Any, Literal, Self, get_args

import numpy as np
from sklearn.base import OutlierMixin

from jointebm.estimators.facade import Facade
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.tables.frames.reading import Frame
from jointebm.tables.training.table_config import Progress

__all__ = ["JointEBMOutlierDetector"]

Criterion = Literal["dependence", "conditional", "density"]


class JointEBMOutlierDetector(OutlierMixin, Facade):  # type: ignore[misc]  # scikit-learn has no types
    """Scores rows by how well their entries fit together under the joint density, and marks the lowest.

    Args:
        core: a `JointEBM` with the parameters to use; it is copied. None is one with all defaults.
        criterion: the score. "dependence": log p(codes) - sum_j log p(code_j), low if the entries do not fit together
            however common each one is; "conditional": the mean over entries of log p(code | other codes of the row);
            "density": log-density of the row, which depends on the units of its columns.
        contamination: share of the training rows to mark as outliers, in (0, 0.5].

    Attributes:
        core_: the fitted `JointEBM`.
        offset_: rows with a score below it are outliers, nats.

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
        >>> X = np.array([[0, 0], [1, 1]] * 50)
        >>> detector = JointEBMOutlierDetector(JointEBM(training=quick), contamination=0.01).fit(X)
        >>> detector.predict([[0, 0], [0, 1]])
        array([ 1, -1])
    """

    def __init__(
        self,
        core: JointEBM | None = None,
        *,
        criterion: Criterion = "dependence",
        contamination: float = 0.1,
    ) -> None:
        super().__init__(core)
        self.criterion = criterion
        self.contamination = contamination

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,  # noqa: ARG002
        *,
        sample_weight: Any = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Self:
        """Fits the joint density of X, and the offset, a percentile of the scores of all rows alike.

        Args:
            X: table, N rows.
            y: ignored.
            sample_weight: as in `JointEBM.fit`.
            on_progress: as in `JointEBM.fit`.

        Raises:
            ValueError: a parameter is out of its range.
        """
        self._check()
        frame = self._read(X, reset=True)
        self.core_ = self._new_core().fit_frame(frame, sample_weight=sample_weight, on_progress=on_progress)
        self.offset_ = float(np.percentile(self._scores(frame), 100 * self.contamination))
        return self

    @classmethod
    def of(
        cls,
        core: JointEBM,
        X: Any,  # noqa: N803
        *,
        criterion: Criterion = "dependence",
        contamination: float = 0.1,
    ) -> Self:
        """A detector on a fitted core; the offset marks the share `contamination` of X."""
        detector = cls._of(core, None).set_params(criterion=criterion, contamination=contamination)
        detector._check()
        detector.offset_ = float(np.percentile(detector.score_samples(X), 100 * detector.contamination))
        return detector

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """The score of each row, shape (N,), nats; low scores are outliers."""
        return self._scores(self._read(X, reset=False))

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Score minus the offset, shape (N,), nats; negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """1 for inliers, -1 for outliers, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scores(self, frame: Frame) -> np.ndarray:
        fitted = self.core_.fitted
        rows = fitted.rows(frame.table, frame.num_rows)
        scores = {
            "dependence": fitted.dependence,
            "conditional": fitted.conditional_surprise,
            "density": lambda rows: fitted.log_density(rows).value,
        }
        return scores[self.criterion](rows)

    def _check(self) -> None:
        if self.criterion not in get_args(Criterion):
            expected = ", ".join(map(repr, get_args(Criterion)))
            raise ValueError(f"criterion: got {self.criterion!r}, expected one of {expected}")
        if not isinstance(self.contamination, Real) or not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination: got {self.contamination!r}, expected a share in (0, 0.5]")
