"""`JointEBMClassifier`: predicts labels by p(label | row) of the joint density."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from jointebm.estimators.arguments import row_weights
from jointebm.estimators.facade import Facade, checked_target
from jointebm.estimators.joint_ebm import JointEBM
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.answers.predictions import class_errors, class_probs, classes
from jointebm.tables.codes.codec import Name
from jointebm.tables.training.table_config import Progress

__all__ = ["JointEBMClassifier"]


class JointEBMClassifier(ClassifierMixin, Facade):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts a label by p(label | row) under the joint density of X and y; X may have missing entries.

    Args:
        core: a `JointEBM` with the parameters to use; it is copied. None is one with all defaults.

    Attributes:
        core_: the fitted `JointEBM`.
        classes_: labels in ascending order, shape (K,).

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 10, "prior_strength": 0.1}
        >>> X = np.array([[0.0], [0.1], [np.nan], [1.0], [1.1], [1.2]] * 9)
        >>> y = ["low", "low", "low", "high", "high", "high"] * 9
        >>> JointEBMClassifier(JointEBM(training=quick)).fit(X, y).predict([[0.1], [1.1]])
        array(['low', 'high'], dtype='<U4')
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
            y: labels, shape (N,).
            sample_weight: as in `JointEBM.fit`.
            on_progress: as in `JointEBM.fit`.

        Raises:
            ValueError: y is not a vector of labels, or has missing entries.
        """
        labels = checked_target(y, type(self).__name__)
        check_classification_targets(labels)
        weights = row_weights(sample_weight, len(labels))
        self.classes_ = np.unique(labels if weights is None else labels[weights > 0])
        self._fit_with_target(X, y, labels, kind="categorical", sample_weight=sample_weight, on_progress=on_progress)
        return self

    @classmethod
    def of(cls, core: JointEBM, target: Name) -> Self:
        """A classifier on a fitted core, for any column that has classes.

        Raises:
            ValueError: an unknown column, or one of numbers in bins.
        """
        classifier = cls._of(core, target)
        classifier.classes_ = np.unique(classes(core.coded(target)))
        return classifier

    def predict_proba(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """p(label | row) for each of `classes_`, shape (N, K); with `diagnostics`, (probabilities, `Diagnostics`)."""
        answer = self._predictive(self._asked(X))
        coded = self.core_.coded(self._target)
        places = {label: place for place, label in enumerate(classes(coded).tolist())}
        kept = [places[label] for label in self.classes_.tolist()]
        probs, found = class_probs(coded, answer.value).take(kept, axis=1), answer.diagnostics.numpy()
        total = probs.sum(axis=1, keepdims=True)
        found = replace(found, standard_error=class_errors(coded, found).take(kept, axis=1) / total)
        return Answer(probs / total, found) if diagnostics else probs / total

    def predict(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """The most probable label of each row, shape (N,); with `diagnostics`, (labels, `Diagnostics`)."""
        probs, found = self.predict_proba(X, diagnostics=True)
        labels = self.classes_[probs.argmax(axis=1)]
        return Answer(labels, replace(found, standard_error=None)) if diagnostics else labels
