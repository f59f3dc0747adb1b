"""`JointEBMImputer`: fills missing entries by draws from the joint density."""

from collections.abc import Callable
from typing import Any, Self

from sklearn.base import OneToOneFeatureMixin, TransformerMixin

from jointebm.estimators.facade import Facade
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.answers.row_keys import keys_of_numbers
from jointebm.tables.frames.writing import write_filled
from jointebm.tables.training.table_config import Progress

__all__ = ["JointEBMImputer"]


class JointEBMImputer(OneToOneFeatureMixin, TransformerMixin, Facade):  # type: ignore[misc]  # scikit-learn has no types
    """Fills missing entries with one joint draw given the observed entries of their row.

    A draw, not a best guess: means and medians would understate the spread. The draws of a row are decided by the row and
    its number in X. `core_.draw_imputations(X, num)` gives several, also by ids of rows or for parts of a table.

    Args:
        core: a `JointEBM` with the parameters to use; it is copied. None is one with all defaults.

    Attributes:
        core_: the fitted `JointEBM`.

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 10, "prior_strength": 0.1}
        >>> import numpy as np
        >>> X = np.array([[0.0, 10.0], [1.0, 20.0]] * 30)
        >>> JointEBMImputer(JointEBM(training=quick)).fit(X).transform([[1.0, np.nan]])
        array([[ 1., 20.]])
    """

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,  # noqa: ARG002
        *,
        sample_weight: Any = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Self:
        """Fits the joint density of X.

        Args:
            X: table, N rows.
            y: ignored.
            sample_weight: as in `JointEBM.fit`.
            on_progress: as in `JointEBM.fit`.
        """
        self.core_ = self._new_core().fit_frame(
            self._read(X, reset=True), sample_weight=sample_weight, on_progress=on_progress
        )
        return self

    @classmethod
    def of(cls, core: JointEBM) -> Self:
        """An imputer on a fitted core."""
        return cls._of(core, None)

    def transform(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """X with missing entries filled, in the same kind of frame, with its order and dtypes.

        With `diagnostics`, (frame, `Diagnostics`). An id, or an entry of a column without training values, stays missing.
        """
        frame = self._read(X, reset=False)
        rows = self.core_.asked(frame)
        answer = self.core_.fitted.impute(rows, keys_of_numbers(0, frame.num_rows), num_draws=1)
        (drawn,) = answer.value
        filled = write_filled(frame, drawn, self.core_.frame_schema_)
        return Answer(filled, answer.diagnostics.numpy()) if diagnostics else filled
