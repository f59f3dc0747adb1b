"""Questions to a fitted table: predictions, imputations, samples and scores.

Legend: N rows, V columns, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Literal, Self, get_args, overload

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jointebm.estimators.arguments import is_name, number_of_first, row_weights, seed_of_draws, whole_number
from jointebm.estimators.column_predictions import ColumnPredictions
from jointebm.estimators.imputations import GivenColumns
from jointebm.estimators.score_diagnostics import conditional_diagnostics, dependence_diagnostics
from jointebm.sampling.diagnostics import Answer
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.answer_progress import AnswerProgress, AnswerWatch
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.asked_table import asked_table
from jointebm.tables.answers.given_rows import checked_conditions, with_given
from jointebm.tables.answers.parameters import Missingness, Parameters
from jointebm.tables.answers.recorded_table import RecordedTable
from jointebm.tables.answers.row_keys import keys_of_numbers
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, Unseen
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.indicators import Indicator
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.frames.reading import Frame, is_frame, read_frame, with_column
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import write_frame

__all__ = ["Answers", "set_features"]


class Answers(ColumnPredictions):
    """The questions of `JointEBM`; subclasses fit what answers them.

    The parameters `unseen`, `num_draws`, `num_sweeps` and `random_state` may also be set after `fit`.
    """

    unseen: Unseen
    num_draws: int
    num_sweeps: int
    random_state: int | np.random.RandomState | None
    codec_: TableCodec
    model_: TableModel
    n_features_in_: int
    verbose: bool
    _folder: TableFolder
    _on_progress: Callable[[AnswerProgress], object] | None = None  # of answers

    def sample(
        self,
        n: int = 1,
        *,
        given: Any = None,
        missingness: Missingness = "ignored",
        seed: int | None = None,
        first: int = 0,
        diagnostics: bool = False,
    ) -> Any:
        """Draws rows of the whole table, or of the part that agrees with what is given.

        Exact in a table with few configurations. Otherwise chains start from weighted draws of the proposal given the
        evidence, and take `num_sweeps` jumps of whole rows and as many sweeps.

        Args:
            n: number of rows, at least 1; 1 with a frame of conditions, which decides it.
            given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
                bound; or None, that the entry is missing, which needs a model with missingness="model". Or a frame of
                conditions: one row is drawn for each of its rows, in their order and with their index, given the entries
                that are not missing. Equal conditions get independent draws.
            missingness: "ignored": rows are complete, but for what is given as missing; "model": entries are missing as in
                the training rows, which needs a model with missingness="model".
            seed: of these draws; None is that of the model. Row i is the same for every n.
            first: number of the first row, so that many rows can be drawn in parts.
            diagnostics: whether to return (frame, `Diagnostics`).

        Returns:
            A frame like the training frame, with ids missing.

        Raises:
            TypeError: `given` is neither a mapping nor a frame.
            ValueError: n rows of a frame of conditions, a negative seed, an unknown column or category, a value off the
                grid, or an interval without training values.

        Warns:
            ConvergenceWarning: hardly a chain has accepted a jump.
            ExtrapolationWarning: a given value, or more of a frame's than by chance, lie outside the training range.
        """
        n = whole_number(n, "n", least=1, expected="1 or more rows")
        if is_frame(given):
            conditions = self._read(given)
            answer, index = self._draw_rows(n, conditions, missingness, seed=seed, first=first), conditions.index
        else:
            answer, index = self.draw(n, given=given, missingness=missingness, seed=seed, first=first, warns=True), None
        frame = write_frame(answer.value, self.frame_schema_, index=index)
        return Answer(frame, answer.diagnostics.numpy()) if diagnostics else frame

    def draw(
        self,
        n: int,
        *,
        given: GivenColumns,
        missingness: Missingness = "ignored",
        seed: int | None = None,
        first: int = 0,
        warns: bool = False,
    ) -> Answer[dict[Name, Column]]:
        """The columns that `sample` writes into a frame; n may be 0, and what lies outside warns if asked.

        Returns:
            Values of each column, and diagnostics; ids and columns without training values are missing throughout.
        """
        first, seed = number_of_first(first), seed_of_draws(seed)
        evidence, fitted = self.evidence(given), self.fitted
        if warns:
            self.warn_given(evidence)
        self._check_missingness(missingness)
        if not isinstance(fitted, RecordedTable):
            return fitted.sample(n, evidence=evidence, seed=seed, first=first)
        rows, keys = fitted.rows({}, n, evidence=evidence), torch.arange(first, first + n)
        return fitted.sample_given(rows, keys, seed=seed, missingness=missingness)

    def _draw_rows(
        self, n: int, conditions: Frame, missingness: Missingness, *, seed: int | None, first: int
    ) -> Answer[dict[Name, Column]]:
        """The columns of one row for each row of conditions."""
        if n != 1:
            raise ValueError(
                f"n: got {n} with a frame of conditions, of which each row gets one; repeat its rows for more draws"
            )
        first, seed = number_of_first(first), seed_of_draws(seed)
        given = checked_conditions(conditions.table, self.codec_)
        if self._folder.relations is not None:
            self._folder.relations.require_kept(given, conditions.num_rows)
        self._check_missingness(missingness)
        fitted, keys = self.fitted, keys_of_numbers(first, conditions.num_rows)
        rows = fitted.rows(given, conditions.num_rows)
        self.warn_outside(rows)
        if isinstance(fitted, RecordedTable):
            recorded = fitted.sample_given(rows, keys, seed=seed, missingness=missingness)
            return Answer(with_given(recorded.value, given), recorded.diagnostics)
        answer = fitted.impute(rows, keys, num_draws=1, seed=seed)
        return Answer(with_given(next(iter(answer.value)), given), answer.diagnostics)

    def _check_missingness(self, missingness: object) -> None:
        if missingness not in get_args(Missingness):
            raise ValueError(f"missingness: got {quoted(repr(missingness))}, expected 'ignored' or 'model'")
        if missingness == "model" and self._folder.parameters.missingness == "ignored":
            raise ValueError(
                "missingness: this model does not know which entries are missing; fit JointEBM(missingness='model')"
            )

    @overload
    def score_samples(
        self,
        X: Any,  # noqa: N803
        *,
        given: GivenColumns = ...,
        diagnostics: Literal[False] = ...,
    ) -> np.ndarray: ...
    @overload
    def score_samples(
        self,
        X: Any,  # noqa: N803
        *,
        given: GivenColumns = ...,
        diagnostics: Literal[True],
    ) -> Answer[np.ndarray]: ...
    def score_samples(
        self,
        X: Any,  # noqa: N803
        *,
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> np.ndarray | Answer[np.ndarray]:
        """log p of the observed entries of each row, missing ones marginalised, shape (N,), nats.

        Normalised, in the columns' own units; all rows share the error of log Z (`report_`). A row whose missing entries
        have many configurations gets an estimate over `num_draws` draws, or up to 64 times as many.

        Args:
            X: table with some or all of the columns, N rows.
            given: evidence about missing entries, the same for all rows, as in `sample`: the score is then log p of the
                observed entries and of the evidence together.
            diagnostics: whether to return (scores, `Diagnostics`). Its standard errors are without that of log Z.

        Warns:
            ConvergenceWarning: some of these estimates have few effective draws.
        """
        rows = self.encoded(self._read(X), given)
        self._check_masses(rows.evidence)
        answer = self.fitted.log_density(rows)
        return Answer(answer.value, answer.diagnostics.numpy()) if diagnostics else answer.value

    def score(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> float:  # noqa: N803
        """Mean log p of the rows, nats per row: held-out rows compare densities of the same columns, as grid search does.

        Missing entries are marginalised. Densities of different units, or of columns that one model ignores, are not
        comparable.

        Args:
            X: table with some or all of the columns, N rows.
            y: the column that `fit` got as y; None leaves it as X has it.
            sample_weight: weights of the rows in the mean, shape (N,), not negative; None weighs all alike.

        Raises:
            ValueError: y for a model that was fitted without one, or weights that are not such.
        """
        frame = self._read(X)
        if y is not None:
            if self.target_ is None:
                raise ValueError("score: got y, and the model was fitted without one; put the column into X")
            frame = with_column(frame, self.target_, y)
        scores = self.fitted.log_density(self.encoded(frame)).value
        return float(np.average(scores, weights=row_weights(sample_weight, len(scores))))

    def _check_masses(self, evidence: Mapping[Name, Evidence]) -> None:
        """Raises if the evidence has no probability, but only a density."""
        for name, codec in ((each.name, each.codec) for each in self.codec_.columns):
            if isinstance(evidence.get(name), Choice) and isinstance(codec, NumberCodec) and codec.grid is None:
                raise ValueError(
                    f"given column {name!r}: single reals have no probability; put the values into X, or give an interval"
                )

    def conditional_log_score(
        self,
        X: Any,  # noqa: N803
        columns: Name | Sequence[Name] | None = None,
        *,
        diagnostics: bool = False,
    ) -> Any:
        """log p(entry | other observed entries of its row), nats, in the units of each column.

        Args:
            X: table, N rows.
            columns: one name or several; None is all columns of the model.
            diagnostics: whether to return (scores, `Diagnostics`), of each row the least of all columns, without standard
                errors.

        Returns:
            Shape (N, number of columns); NaN where the entry is missing.
        """
        named: Any = self.codec_.names if columns is None else columns
        names, frame = [named] if is_name(named) else list(named), self._read(X)
        scores = self.fitted.conditional_log_score(self.encoded(frame), names)
        return Answer(scores, conditional_diagnostics(self.fitted, frame, names).numpy()) if diagnostics else scores

    def dependence(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """How well the observed entries of each row fit together, shape (N,), nats.

            log p(codes) - sum_j log p(code_j)

        Without densities inside the codes, so without units. Values outside the training range count by their distance
        from it. Low scores mark rows whose entries are common one by one but not together. With `diagnostics`, (scores,
        `Diagnostics`), whose standard errors are without that of log Z.
        """
        frame = self._read(X)
        scores = self.fitted.dependence(self.encoded(frame))
        return Answer(scores, dependence_diagnostics(self.fitted, frame).numpy()) if diagnostics else scores

    def conditional_surprise(self, X: Any, *, diagnostics: bool = False) -> Any:  # noqa: N803
        """Mean over the observed entries of log p(code | other codes of the row), shape (N,), nats.

        Without units, as `dependence`. With `diagnostics`, (scores, `Diagnostics`), as in `conditional_log_score`.
        """
        frame = self._read(X)
        scores = self.fitted.conditional_surprise(self.encoded(frame))
        names = self.codec_.names
        return Answer(scores, conditional_diagnostics(self.fitted, frame, names).numpy()) if diagnostics else scores

    @property
    def fitted(self) -> Answering:
        """The fitted table, which answers for tables that have been read."""
        check_is_fitted(self, "model_")
        watch = AnswerWatch(self._on_progress, verbose=self.verbose)
        return asked_table(self._folder, self.model_, self.members_, self._answering(), watch)

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """The columns of the model that say which entries are missing; none, unless missingness is "model"."""
        return self._folder.indicators

    def watched(self, on_progress: Callable[[AnswerProgress], object]) -> Self:
        """The same fitted model, which tells of the progress of its answers; nothing is copied.

        Args:
            on_progress: called about every two seconds in a question that takes longer than that, and at its end.

        Example:
            >>> import pandas as pd
            >>> from jointebm import JointEBM
            >>> table = pd.DataFrame({"a": [0, 1] * 30, "b": [0, 1] * 30})
            >>> model = JointEBM(training={"num_visits": 0, "rows_per_component": 10}).fit(table)
            >>> len(model.watched(print).predict(table, "b"))  # too quick to print anything
            60
        """
        check_is_fitted(self, "model_")
        other = copy(self)
        other._on_progress = on_progress
        return other

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

    def _read(self, table: Any) -> Frame:
        """Reads a table; an array has the columns of X in their order, and may have y behind them."""
        check_is_fitted(self, "model_")
        if is_frame(table):
            return read_frame(table)
        is_short = np.ndim(table) == 2 and np.shape(table)[1] == self.n_features_in_
        return read_frame(table, names=self.features if is_short else self._folder.frame.names)


def set_features(estimator: BaseEstimator, names: Sequence[Name]) -> None:
    """Sets scikit-learn's attributes for the columns of X; `feature_names_in_` exists only if all names are text."""
    estimator.n_features_in_ = len(names)
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):  # of an earlier fit
        del estimator.feature_names_in_
