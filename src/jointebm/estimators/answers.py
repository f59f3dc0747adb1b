"""Questions to a fitted table: predictions, imputations, samples and scores.

Legend: N rows, V columns, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jointebm.estimators.arguments import SEED, is_name, row_weights, whole_number
from jointebm.estimators.column_predictions import ColumnPredictions
from jointebm.estimators.imputations import GivenColumns
from jointebm.sampling.diagnostics import Answer
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.given_rows import checked_conditions, with_given
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.related_table import RelatedTable
from jointebm.tables.answers.row_keys import keys_of_numbers
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, Unseen
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence
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
    _folder: TableFolder

    def sample(
        self,
        n: int = 1,
        *,
        given: Any = None,
        seed: int | None = None,
        first: int = 0,
        diagnostics: bool = False,
    ) -> Any:
        """Draws rows of the whole table, or of the part that agrees with what is given.

        Exact in a table with few configurations. Otherwise chains start from weighted draws of the reference given the
        evidence, and take `num_sweeps` jumps of whole rows and as many sweeps.

        Args:
            n: number of rows, at least 1; 1 with a frame of conditions, which decides it.
            given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
                bound. Or a frame of conditions: one row is drawn for each of its rows, in their order and with their
                index, given the entries that are not missing. Equal conditions get independent draws.
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
        """
        n = whole_number(n, "n", least=1, expected="1 or more rows")
        if is_frame(given):
            conditions = self._read(given)
            answer, index = self._draw_rows(n, conditions, seed=seed, first=first), conditions.index
        else:
            answer, index = self.draw(n, given={} if given is None else given, seed=seed, first=first), None
        frame = write_frame(answer.value, self.frame_schema_, index=index)
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
        return self.fitted.sample(n, evidence=self._evidence(given), seed=seed, first=first)

    def _draw_rows(self, n: int, conditions: Frame, *, seed: int | None, first: int) -> Answer[dict[Name, Column]]:
        """The columns of one row for each row of conditions."""
        if n != 1:
            raise ValueError(
                f"n: got {n} with a frame of conditions, of which each row gets one; repeat its rows for more draws"
            )
        first = whole_number(first, "first", least=0, expected="the number of a row, 0 or more")
        seed = None if seed is None else whole_number(seed, "seed", least=0, expected=SEED)
        given = checked_conditions(conditions.table, self.codec_)
        if self._folder.relations is not None:
            self._folder.relations.require_kept(given, conditions.num_rows)
        rows = self.fitted.rows(given, conditions.num_rows)
        answer = self.fitted.impute(rows, keys_of_numbers(first, conditions.num_rows), num_draws=1, seed=seed)
        return Answer(with_given(next(answer.value), given), answer.diagnostics)

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
        have many configurations gets an estimate over `num_draws` draws.

        Args:
            X: table with some or all of the columns, N rows.
            given: evidence about missing entries, the same for all rows, as in `sample`: the score is then log p of the
                observed entries and of the evidence together.
            diagnostics: whether to return (scores, `Diagnostics`). Its standard errors are without that of log Z.

        Warns:
            ConvergenceWarning: some of these estimates have few effective draws.
        """
        rows = self._rows(self._read(X), given)
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
        scores = self.fitted.log_density(self._rows(frame)).value
        return float(np.average(scores, weights=row_weights(sample_weight, len(scores))))

    def _check_masses(self, evidence: Mapping[Name, Evidence]) -> None:
        """Raises if the evidence has no probability, but only a density."""
        for name, known in evidence.items():
            codec = self.coded(name).codec
            if isinstance(known, Choice) and isinstance(codec, NumberCodec) and codec.grid is None:
                raise ValueError(
                    f"given column {name!r}: single reals have no probability; put the values into X, or give an interval"
                )

    def conditional_log_score(self, X: Any, columns: Name | Sequence[Name] | None = None) -> np.ndarray:  # noqa: N803
        """log p(entry | other observed entries of its row), nats, in the units of each column.

        Args:
            X: table, N rows.
            columns: one name or several; None is all columns of the model.

        Returns:
            Shape (N, number of columns); NaN where the entry is missing.
        """
        named: Any = self.codec_.names if columns is None else columns
        return self.fitted.conditional_log_score(self._rows(self._read(X)), [named] if is_name(named) else list(named))

    def dependence(self, X: Any) -> np.ndarray:  # noqa: N803
        """How well the observed entries of each row fit together, shape (N,), nats.

            log p(codes) - sum_j log p(code_j)

        Without densities inside the codes, so without units. Values outside the training range count by their distance
        from it. Low scores mark rows whose entries are common one by one but not together.
        """
        return self.fitted.dependence(self._rows(self._read(X)))

    def conditional_surprise(self, X: Any) -> np.ndarray:  # noqa: N803
        """Mean over the observed entries of log p(code | other codes of the row), shape (N,), nats.

        Without densities inside the codes, so without units. Values outside the training range count by their distance
        from it.
        """
        return self.fitted.conditional_surprise(self._rows(self._read(X)))

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
