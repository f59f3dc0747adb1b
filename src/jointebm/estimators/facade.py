"""Shared parts of the scikit-learn estimators over one joint density: the fitted core, and how they read X and y.

A facade fits a copy of its `core`, or uses a core that is already fitted (`of`), so that one fit can classify, regress,
impute and find outliers.
"""

from abc import ABC
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from jointebm.estimators.answers import set_features
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.codes.codec import Name
from jointebm.tables.frames.reading import Frame, is_frame, is_missing, read_frame, target_name, with_column
from jointebm.tables.training.table_config import Progress

__all__ = ["Facade", "checked_target"]


class Facade(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator in front of a `JointEBM`."""

    def __init__(self, core: JointEBM | None = None) -> None:
        self.core = core

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "core_")

    def _new_core(self) -> JointEBM:
        return JointEBM() if self.core is None else clone(self.core)

    def _read(self, table: Any, *, reset: bool) -> Frame:
        """Reads X after scikit-learn's checks of column names and shapes."""
        if not reset:
            check_is_fitted(self)
        if is_frame(table):
            frame = read_frame(table)  # a stream is read once
            validate_data(self, frame.native, reset=reset, skip_check_array=True)
            return frame
        array = validate_data(self, table, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        return read_frame(array, names=None if reset else self.core_.features)

    def _fit_with_target(
        self,
        table: Any,
        y: Any,
        values: np.ndarray,
        *,
        kind: Any,
        sample_weight: Any,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        frame = self._read(table, reset=True)
        check_consistent_length(range(frame.num_rows), values)
        target = target_name(y, frame.schema.names)
        core = self._new_core()
        self.core_ = core.fit_frame(
            with_column(frame, target, values),
            target=target,
            kinds={target: kind},
            sample_weight=sample_weight,
            on_progress=on_progress,
        )

    def _asked(self, table: Any) -> Any:
        """The rows of X, in which the target is missing."""
        target = self._target  # read first: before `fit` the refusal says so
        return self.core_.asked(self._read(table, reset=False), missing=[target])

    def _predictive(self, rows: Any, readout: np.ndarray | None = None) -> Answer[np.ndarray]:
        """log p(code of the target | row), shape (N, K), nats, with standard errors of the probabilities or the readout."""
        return self.core_.fitted.predictive_answer(rows, self._target, readout=readout)

    @property
    def _target(self) -> Name:
        """The name of the predicted column."""
        check_is_fitted(self, "core_")
        target = self.core_.target_
        assert target is not None  # `fit` and `of` have set it
        return target

    @classmethod
    def _of(cls, core: JointEBM, target: Name | None) -> Self:
        """A facade on a fitted core."""
        check_is_fitted(core)
        facade = cls(core)
        facade.core_ = core if target is None else core.with_target(target)
        set_features(facade, facade.core_.features)
        return facade


def checked_target(y: Any, estimator: str) -> np.ndarray:
    """y as a vector without missing entries."""
    if y is None:
        raise ValueError(f"{estimator} requires y to be passed, but the target y is None")
    vector = np.asarray(column_or_1d(y, warn=True))
    if vector.dtype == object:
        for row, label in enumerate(vector.tolist()):
            if is_missing(label):
                raise ValueError(
                    f"y: row {row} is missing; drop such rows, or fit a JointEBM, whose y may have missing entries"
                )
    assert_all_finite(vector, input_name="y")
    return vector
