"""Questions to a fitted table: predictions, imputations, samples and scores.

Legend: N rows, V columns, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from jointebm.estimators.arguments import SEED, is_name, whole_number
from jointebm.estimators.imputations import Imputations
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.predictions import Statistic, class_probs, classes, point_prediction, readout_of
from jointebm.tables.answers.related_table import RelatedTable
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, Unseen
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.frames.reading import Frame, is_frame, read_frame
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import only_column, write_frame

__all__ = ["Answers", "set_features"]


class Answers(Imputations):
    """The questions of `JointEBM`; subclasses fit what answers them.

    The parameters `unseen`, `num_draws`, `num_sweeps` and `random_state` may also be set after `fit`.
    """

    unseen: Unseen
    num_draws: int
    num_sweeps: int
    random_state: int | np.random.RandomState | None
    codec_: TableCodec
    model_: TableModel
    target_: Name | None
    n_features_in_: int
    _folder: TableFolder

    def predict(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        statistic: Statistic = "mean",
        diagnostics: bool = False,
    ) -> Any:
        """Predicts one column from the other observed entries of each row; its own entries in X are ignored.

        Args:
            X: table with some or all of the columns, N rows.
            target: name of the column; None is the y of `fit`. `predict_frame` predicts several columns.
            statistic: of numbers and dates: "mean" (rounded to the nearest possible value) or "median". Categories get
                the most probable level.
            diagnostics: whether to return (column, `Diagnostics`); standard errors are those of means, before rounding,
                and None for medians and categories.

        Returns:
            The column: a Series, an Arrow column, or a vector for arrays, N entries.

        Raises:
            TypeError: `target` is several names.
            ValueError: an unknown column, or one that the model ignores.
        """
        if target is not None and not is_name(target):
            raise TypeError(f"predict: got several targets {quoted(repr(target))}; call predict_frame(X, targets)")
        name = self._one_target(target)
        frame, found = self._predicted(X, [name], statistic)
        column = only_column(frame)
        return Answer(column, found[name].numpy()) if diagnostics else column

    def predict_frame(self, X: Any, targets: Sequence[Name], *, statistic: Statistic = "mean") -> Any:  # noqa: N803
        """Predicts several columns, each on its own; the entries of all of them in X are ignored.

        The predictions are not a joint draw: together they may be a row that the density finds improbable.

        Args:
            X: table with some or all of the columns, N rows.
            targets: names of the columns.
            statistic: as in `predict`.

        Returns:
            A frame of the kind of X with the target columns in their order, also for a single target.

        Raises:
            TypeError: `targets` is one name, or a set, which has no order.
            ValueError: an unknown column, or one that the model ignores.
        """
        if is_name(targets):
            raise TypeError(f"predict_frame: got {quoted(repr(targets))}, expected a list of names")
        return self._predicted(X, list(targets), statistic)[0]

    @overload
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = ...,
        *,
        diagnostics: Literal[False] = ...,
    ) -> np.ndarray: ...
    @overload
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = ...,
        *,
        diagnostics: Literal[True],
    ) -> Answer[np.ndarray]: ...
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        diagnostics: bool = False,
    ) -> np.ndarray | Answer[np.ndarray]:
        """p(value of the target | other observed entries of the row), for each of `classes(target)`.

        Args:
            X: table with some or all of the columns, N rows; the target's own entries are ignored.
            target: a column of categories, or of numbers with one code per value; None is the y of `fit`.
            diagnostics: whether to return (probabilities, `Diagnostics`), with their standard errors.

        Returns:
            Probabilities, shape (N, K).

        Raises:
            ValueError: an unknown column, or one of numbers in bins, which has no classes.

        Warns:
            ConvergenceWarning: rows have few effective draws, and hardly a chain has accepted a jump.
        """
        coded = self.coded(self._one_target(target))
        classes(coded)  # raises for a column without classes
        rows = self._rows(X, missing=[coded.name])
        answer = self.fitted.predictive_answer(rows, coded.name)
        probs, found = class_probs(coded, answer.value), answer.diagnostics.numpy()
        with np.errstate(divide="ignore"):
            errors = class_probs(coded, np.log(found.standard_error))  # levels share the error of their code
        return Answer(probs, replace(found, standard_error=errors)) if diagnostics else probs

    def classes(self, target: Name | None = None) -> np.ndarray:
        """The values whose probabilities `predict_proba` returns, shape (K,)."""
        return classes(self.coded(self._one_target(target)))

    def sample(
        self,
        n: int = 1,
        *,
        given: Mapping[Name, object] | None = None,
        seed: int | None = None,
        first: int = 0,
        diagnostics: bool = False,
    ) -> Any:
        """Draws rows of the whole table, or of the part that agrees with what is given.

        Exact in a table with few configurations. Otherwise chains start from weighted draws of the reference given the
        evidence, and take `num_sweeps` jumps of whole rows and as many sweeps.

        Args:
            n: number of rows, at least 1.
            given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
                bound.
            seed: of these draws; None is that of the model. Row i is the same for every n.
            first: number of the first row, so that many rows can be drawn in parts.
            diagnostics: whether to return (frame, `Diagnostics`).

        Returns:
            A frame like the training frame, with ids missing.

        Raises:
            TypeError: `given` is not a mapping.
            ValueError: a negative seed, an unknown column or category, a value off the grid, or an interval without
                training values.

        Warns:
            ConvergenceWarning: hardly a chain has accepted a jump.
        """
        n = whole_number(n, "n", least=1, expected="1 or more rows")
        given = {} if given is None else given
        answer = self.draw(n, given=given, seed=seed, first=first)
        frame = write_frame(answer.value, self.frame_schema_)
        return Answer(frame, answer.diagnostics.numpy()) if diagnostics else frame

    def draw(
        self, n: int, *, given: Mapping[Name, object], seed: int | None = None, first: int = 0
    ) -> Answer[dict[Name, Column]]:
        """The columns that `sample` writes into a frame; n may be 0, and the other arguments are those of `sample`.

        Returns:
            Values of each column of the model, and diagnostics; ids and columns without training values are missing
            throughout.
        """
        first = whole_number(first, "first", least=0, expected="the number of a row, 0 or more")
        if seed is not None:
            seed = whole_number(seed, "seed", least=0, expected=SEED)
        durations = frozenset(each.name for each in self.frame_schema_.columns if each.is_duration)
        evidence = read_given(given, self.codec_, durations=durations)
        return self.fitted.sample(n, evidence=evidence, seed=seed, first=first)

    @overload
    def score_samples(self, X: Any, *, diagnostics: Literal[False] = ...) -> np.ndarray: ...  # noqa: N803
    @overload
    def score_samples(self, X: Any, *, diagnostics: Literal[True]) -> Answer[np.ndarray]: ...  # noqa: N803
    def score_samples(self, X: Any, *, diagnostics: bool = False) -> np.ndarray | Answer[np.ndarray]:  # noqa: N803
        """log p of the observed entries of each row, missing ones marginalised, shape (N,), nats.

        Normalised, in the columns' own units; all rows share the error of log Z (`report_`). A row whose missing entries
        have many configurations gets an estimate over `num_draws` draws.

        Args:
            X: table with some or all of the columns, N rows.
            diagnostics: whether to return (scores, `Diagnostics`). Its standard errors are without that of log Z.

        Warns:
            ConvergenceWarning: some of these estimates have few effective draws.
        """
        answer = self.fitted.log_density(self._rows(X))
        return Answer(answer.value, answer.diagnostics.numpy()) if diagnostics else answer.value

    def conditional_log_score(self, X: Any, columns: Name | Sequence[Name] | None = None) -> np.ndarray:  # noqa: N803
        """log p(entry | other observed entries of its row), nats, in the units of each column.

        Args:
            X: table, N rows.
            columns: one name or several; None is all columns of the model.

        Returns:
            Shape (N, number of columns); NaN where the entry is missing.
        """
        named: Any = self.codec_.names if columns is None else columns
        return self.fitted.conditional_log_score(self._rows(X), [named] if is_name(named) else list(named))

    def dependence(self, X: Any) -> np.ndarray:  # noqa: N803
        """How well the observed entries of each row fit together, shape (N,), nats.

            log p(codes) - sum_j log p(code_j)

        Without densities inside the codes, so without units. Values outside the training range count by their distance
        from it. Low scores mark rows whose entries are common one by one but not together.
        """
        return self.fitted.dependence(self._rows(X))

    def conditional_surprise(self, X: Any) -> np.ndarray:  # noqa: N803
        """Mean over the observed entries of log p(code | other codes of the row), shape (N,), nats.

        Without densities inside the codes, so without units. Values outside the training range count by their distance
        from it.
        """
        return self.fitted.conditional_surprise(self._rows(X))

    @property
    def fitted(self) -> Answering:
        """The fitted table, which answers for tables that have been read."""
        check_is_fitted(self, "model_")
        relations = self._folder.relations
        if relations is None:
            return FittedTable(self.codec_, self.model_, self._answering(), self.members_)
        return RelatedTable(self.codec_, relations, self.model_, self._answering(), self.members_)

    @property
    def frame_schema_(self) -> FrameSchema:
        """How the training frame stored its columns."""
        check_is_fitted(self, "model_")
        return self._folder.frame

    @property
    def features(self) -> list[Name]:
        """The columns of X in their order: all but the y of `fit`."""
        return [name for name in self.frame_schema_.names if name != self.target_]

    def coded(self, name: Name) -> CodedColumn:
        """One column with its codec."""
        check_is_fitted(self, "model_")
        return self.codec_.columns[self.codec_.index(name)]

    def _answering(self) -> Parameters:
        """The parameters of the fit, with those of answers as they are now."""
        now: dict[str, object] = {"unseen": self.unseen, "num_draws": self.num_draws, "num_sweeps": self.num_sweeps}
        if isinstance(self.random_state, int | np.integer):  # else `fit` drew a seed from it
            now["seed"] = int(self.random_state)
        return Parameters.checked(**(self._folder.parameters.model_dump() | now))

    def _predicted(
        self, table: Any, targets: list[Name], statistic: Statistic
    ) -> tuple[Any, dict[Name, Diagnostics[Tensor]]]:
        """A frame of the targets, and the diagnostics of each."""
        if statistic not in ("mean", "median"):
            raise ValueError(f"statistic: got {statistic!r}, expected 'mean' or 'median'")
        names = [self.coded(name).name for name in targets]
        frame = self._read(table)
        rows = self.fitted.rows(frame.table, frame.num_rows, missing=names)
        columns, found = {}, {}
        for name in names:
            coded = self.coded(name)
            readout = readout_of(coded, statistic)
            answer = self.fitted.predictive_answer(rows, name, readout=readout)
            columns[name] = point_prediction(coded, answer.value, statistic=statistic)
            error = None if readout is None else answer.diagnostics.standard_error[:, 0]
            found[name] = replace(answer.diagnostics, standard_error=error)
        return write_frame(columns, self._folder.frame.select(names, frame.schema.backend), index=frame.index), found

    def _read(self, table: Any) -> Frame:
        """Reads a table; an array has the columns of X in their order, and may have y behind them."""
        check_is_fitted(self, "model_")
        if is_frame(table):
            return read_frame(table)
        is_short = np.ndim(table) == 2 and np.shape(table)[1] == self.n_features_in_
        return read_frame(table, names=self.features if is_short else self._folder.frame.names)

    def _rows(self, table: Any, *, missing: Sequence[Name] = ()) -> Any:
        frame = self._read(table)
        return self.fitted.rows(frame.table, frame.num_rows, missing=missing)

    def _one_target(self, target: Name | None) -> Name:
        check_is_fitted(self, "model_")
        if target is None and self.target_ is None:
            raise ValueError(f"target: name the column to predict, of {', '.join(map(repr, self.codec_.names))}")
        return self.coded(self.target_ if target is None else target).name  # type: ignore[arg-type]


def set_features(estimator: BaseEstimator, names: Sequence[Name]) -> None:
    """Sets scikit-learn's attributes for the columns of X; `feature_names_in_` exists only if all names are text."""
    estimator.n_features_in_ = len(names)
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):  # of an earlier fit
        del estimator.feature_names_in_
