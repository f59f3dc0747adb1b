"""Questions to a fitted table: predictions, imputations, samples and scores.

Legend: N rows, V columns, K classes.
"""

import operator
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.predictions import Statistic, class_probs, classes, point_prediction
from jointebm.tables.answers.related_table import RelatedTable
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, Unseen
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.frames.reading import Frame, is_frame, read_frame
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import only_column, write_filled, write_frame

__all__ = ["Answers", "set_features"]


class Answers(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
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

    def predict(self, X: Any, target: Name | None = None, *, statistic: Statistic = "mean") -> Any:  # noqa: N803
        """Predicts one column from the other observed entries of each row; its own entries in X are ignored.

        Args:
            X: table with some or all of the columns, N rows.
            target: name of the column; None is the y of `fit`. `predict_frame` predicts several columns.
            statistic: of numbers and dates: "mean" (rounded to the nearest possible value) or "median". Categories get
                the most probable level.

        Returns:
            The column: a Series, an Arrow column, or a vector for arrays, N entries.

        Raises:
            TypeError: `target` is several names.
            ValueError: an unknown column, or one that the model ignores.
        """
        if target is not None and not _is_name(target):
            raise TypeError(f"predict: got several targets {quoted(repr(target))}; call predict_frame(X, targets)")
        return only_column(self._predicted(X, [self._one_target(target)], statistic))

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
        if _is_name(targets):
            raise TypeError(f"predict_frame: got {quoted(repr(targets))}, expected a list of names")
        return self._predicted(X, list(targets), statistic)

    def predict_proba(self, X: Any, target: Name | None = None) -> np.ndarray:  # noqa: N803
        """p(value of the target | other observed entries of the row), for each of `classes(target)`.

        Args:
            X: table with some or all of the columns, N rows; the target's own entries are ignored.
            target: a column of categories, or of numbers with one code per value; None is the y of `fit`.

        Returns:
            Probabilities, shape (N, K).

        Raises:
            ValueError: an unknown column, or one of numbers in bins, which has no classes.
        """
        name = self._one_target(target)
        classes(self.coded(name))  # raises for a column without classes
        rows = self._rows(X, missing=[name])
        return class_probs(self.coded(name), self.fitted.log_predictive(rows, name))

    def classes(self, target: Name | None = None) -> np.ndarray:
        """The values whose probabilities `predict_proba` returns, shape (K,)."""
        return classes(self.coded(self._one_target(target)))

    def impute(self, X: Any) -> Any:  # noqa: N803
        """Fills missing entries with one joint draw given the observed entries of each row, which stay as they are.

        A draw, not a best guess. `draw_imputations` returns several draws.

        Args:
            X: table with some or all of the columns; absent columns are marginalised.

        Returns:
            A frame like X. An id, or an entry of a column without training values, stays missing.
        """
        return self.draw_imputations(X, 1)[0]

    def draw_imputations(self, X: Any, num: int) -> list[Any]:  # noqa: N803
        """Draws several imputations of X; their spread is the uncertainty about what is missing.

        Args:
            X: as in `impute`.
            num: number of draws, at least 1.

        Returns:
            A list of `num` frames like X, also for `num=1`; the first is that of `impute`.

        Raises:
            ValueError: `num` is not a whole number of at least 1.
        """
        num = _whole(num, "num", least=1, expected="1 or more draws")
        frame = self._read(X)
        rows = self.fitted.rows(frame.table, frame.num_rows)
        return [write_filled(frame, drawn, self._folder.frame) for drawn in self.fitted.impute(rows, num_draws=num)]

    def sample(
        self, n: int = 1, *, given: Mapping[Name, object] | None = None, seed: int | None = None, first: int = 0
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

        Returns:
            A frame like the training frame, with ids missing.

        Raises:
            TypeError: `given` is not a mapping.
            ValueError: a negative seed, an unknown column or category, a value off the grid, or an interval without
                training values.

        Warns:
            ConvergenceWarning: hardly a chain has accepted a jump.
        """
        n = _whole(n, "n", least=1, expected="1 or more rows")
        given = {} if given is None else given
        return write_frame(self.draw(n, given=given, seed=seed, first=first), self.frame_schema_)

    def draw(
        self, n: int, *, given: Mapping[Name, object], seed: int | None = None, first: int = 0
    ) -> dict[Name, Column]:
        """The columns that `sample` writes into a frame; n may be 0, and the other arguments are those of `sample`.

        Returns:
            Values of each column of the model; ids and columns without training values are missing throughout.
        """
        first = _whole(first, "first", least=0, expected="the number of a row, 0 or more")
        if seed is not None:
            seed = _whole(seed, "seed", least=0, expected="a whole number from 0 to 2^63 - 1")
        durations = frozenset(each.name for each in self.frame_schema_.columns if each.is_duration)
        evidence = read_given(given, self.codec_, durations=durations)
        return self.fitted.sample(n, evidence=evidence, seed=seed, first=first)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """log p of the observed entries of each row, missing ones marginalised, shape (N,), nats.

        Normalised, in the columns' own units; all rows share the error of log Z (`report_`). A row whose missing entries
        have many configurations gets an estimate over `num_draws` draws.

        Warns:
            ConvergenceWarning: some of these estimates have few effective draws.
        """
        return self.fitted.log_density(self._rows(X))

    def conditional_log_score(self, X: Any, columns: Name | Sequence[Name] | None = None) -> np.ndarray:  # noqa: N803
        """log p(entry | other observed entries of its row), nats, in the units of each column.

        Args:
            X: table, N rows.
            columns: one name or several; None is all columns of the model.

        Returns:
            Shape (N, number of columns); NaN where the entry is missing.
        """
        named: Any = self.codec_.names if columns is None else columns
        return self.fitted.conditional_log_score(self._rows(X), [named] if _is_name(named) else list(named))

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
            return FittedTable(codec=self.codec_, model=self.model_, parameters=self._answering())
        return RelatedTable(codec=self.codec_, system=relations, model=self.model_, parameters=self._answering())

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

    def _predicted(self, table: Any, targets: list[Name], statistic: Statistic) -> Any:
        if statistic not in ("mean", "median"):
            raise ValueError(f"statistic: got {statistic!r}, expected 'mean' or 'median'")
        names = [self.coded(name).name for name in targets]
        frame = self._read(table)
        rows = self.fitted.rows(frame.table, frame.num_rows, missing=names)
        columns = {
            name: point_prediction(self.coded(name), self.fitted.log_predictive(rows, name), statistic=statistic)
            for name in names
        }
        return write_frame(columns, self._folder.frame.select(names, frame.schema.backend), index=frame.index)

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


def _is_name(named: object) -> bool:
    """Whether it is one name rather than several; a set has no order, so it never is several."""
    return isinstance(named, str | np.generic | AbstractSet) or not isinstance(named, Iterable)


def _whole(value: Any, name: str, *, least: int, expected: str) -> int:
    """A whole number of Python or numpy, from `least` to 63 bits."""
    number = operator.index(value) if hasattr(type(value), "__index__") else least - 1
    if not least <= number < 2**63:
        raise ValueError(f"{name}: got {quoted(repr(value))}, expected {expected}")
    return number


def set_features(estimator: BaseEstimator, names: Sequence[Name]) -> None:
    """Sets scikit-learn's attributes for the columns of X; `feature_names_in_` exists only if all names are text."""
    estimator.n_features_in_ = len(names)
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):  # of an earlier fit
        del estimator.feature_names_in_
