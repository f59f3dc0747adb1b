"""What one asks of a fitted table: columns given others, draws, and scores.

Legend: N rows, V columns, K classes.
"""

import operator
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, overload

import numpy as np

from jointebm.tables.answers.fitted import FittedTable, Rows
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.predictions import Statistic, class_probs, classes, point_prediction
from jointebm.tables.answers.store import TableFolder
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec, Unseen
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.frames.reading import Frame, is_frame, read_frame
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import only_column, write_filled, write_frame

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError("JointEBM needs scikit-learn, narwhals and pandas: pip install 'jointebm[tables]'") from error

__all__ = ["Answers", "set_features"]


class Answers(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """The questions of `JointEBM`, which fits what answers them.

    The parameters `unseen`, `num_draws`, `num_sweeps` and `random_state` are those of answers too, so they may be set after
    `fit` as well.
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
        target: Name | Sequence[Name] | None = None,
        *,
        statistic: Statistic = "mean",
    ) -> Any:
        """The best guess of some columns given what else is observed in each row; their own entries in X are not looked at.

        Args:
            X: table with some or all of the columns.
            target: names; None is the y of `fit`. Several are guessed each on its own, as missing entries of one another.
            statistic: of numbers and dates: "mean" (the nearest value that the column can have) or "median".

        Returns:
            A frame of the target columns; for a single name or None, its column: a Series, or a vector for arrays.

        Raises:
            ValueError: an unknown column, or one that the model ignores.
        """
        names = self._targets(target)
        frame = self._read(X)
        if statistic not in ("mean", "median"):
            raise ValueError(f"statistic: got {statistic!r}, expected 'mean' or 'median'")
        rows = self.fitted.rows(frame.table, frame.num_rows, missing=names)
        table = {
            name: point_prediction(self.coded(name), self.fitted.log_predictive(rows, name), statistic=statistic)
            for name in names
        }
        predicted = write_frame(table, self._folder.frame.select(names, frame.schema.backend), index=frame.index)
        return only_column(predicted) if target is None or _is_name(target) else predicted

    def predict_proba(self, X: Any, target: Name | None = None) -> np.ndarray:  # noqa: N803
        """p(value of the target | what else is observed), for each of `classes(target)`.

        Args:
            X: table with some or all of the columns; the target's own entries are not looked at.
            target: a column of categories, or of numbers that are all atoms; None is the y of `fit`.

        Returns:
            Probabilities, shape (N, K).

        Raises:
            ValueError: an unknown column, or one of numbers in bins, which has no classes.
        """
        name = self._one_target(target)
        classes(self.coded(name))  # raises if there are none
        frame = self._read(X)
        rows = self.fitted.rows(frame.table, frame.num_rows, missing=[name])
        return class_probs(self.coded(name), self.fitted.log_predictive(rows, name))

    def classes(self, target: Name | None = None) -> np.ndarray:
        """The values that `predict_proba` is about, shape (K,)."""
        name = self._one_target(target)
        return classes(self.coded(name))

    @overload
    def impute(self, X: Any, n: Literal[1] = 1) -> Any: ...  # noqa: N803
    @overload
    def impute(self, X: Any, n: int) -> list[Any]: ...  # noqa: N803
    def impute(self, X: Any, n: int = 1) -> Any:  # noqa: N803
        """Fills missing entries with joint draws given the observed entries of their row, which stay as they are.

        Args:
            X: table with some or all of the columns; columns that are not there are summed out.
            n: number of draws. Their spread is the uncertainty about what is missing.

        Returns:
            A frame like X for n = 1, else a list of n. An id or an entry of a column without training values stays missing.
        """
        n = _whole(n, "n", least=1, expected="1 or more draws")
        frame = self._read(X)
        rows = self.fitted.rows(frame.table, frame.num_rows)
        filled = [write_filled(frame, drawn, self._folder.frame) for drawn in self.fitted.impute(rows, num_draws=n)]
        return filled[0] if n == 1 else filled

    def sample(
        self, n: int = 1, *, given: Mapping[Name, object] | None = None, seed: int | None = None, first: int = 0
    ) -> Any:
        """Draws rows, of the whole table or of the part that agrees with what is given.

        Args:
            n: number of rows.
            given: per column a value, a set (or list) of values, or an interval (low, high), ends included, None for no
                bound.
            seed: of these draws; None is that of the model. Row i is the same for every n.
            first: number of the first row, so that many rows can be drawn in parts.

        Returns:
            A frame like the one the model was fitted on, with ids missing.

        Raises:
            ValueError: a negative seed, an unknown column or category, a value off the grid, or an interval without
                training values.
        """
        n = _whole(n, "n", least=1, expected="1 or more rows")
        return write_frame(self.draw(n, given=given or {}, seed=seed, first=first), self.frame_schema_)

    def draw(
        self, n: int, *, given: Mapping[Name, object], seed: int | None = None, first: int = 0
    ) -> dict[Name, Column]:
        """What `sample` puts into a frame, for those who write another kind of frame; n may be 0.

        Args:
            n: number of rows.
            given: as in `sample`.
            seed: as in `sample`.
            first: number of the first row.

        Returns:
            Per column of the model, its values; ids and columns without training values are missing throughout.
        """
        first = _whole(first, "first", least=0, expected="the number of a row, 0 or more")
        if seed is not None:
            seed = _whole(seed, "seed", least=0, expected="a whole number from 0 to 2^63 - 1")
        durations = frozenset(each.name for each in self.frame_schema_.columns if each.is_duration)
        evidence = read_given(given, self.codec_, durations=durations)
        return self.fitted.sample(n, evidence=evidence, seed=seed, first=first)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Log-density of the observed entries of each row, up to one constant for all rows, shape (N,), nats.

        Densities inside the codes are included, in the columns' own units. With two or more missing entries in a row it
        is an estimate (`FittedTable.log_density`).
        """
        return self.fitted.log_density(self._rows(X))

    def conditional_log_score(
        self,
        X: Any,  # noqa: N803
        columns: Name | Sequence[Name] | None = None,
    ) -> np.ndarray:
        """log p(entry | the other observed entries of its row), nats, in the units of each column.

        Args:
            X: table.
            columns: one name or several; None is all columns of the model.

        Returns:
            Shape (N, number of columns); NaN where the entry is missing.
        """
        names = self.codec_.names if columns is None else _listed(columns)
        return self.fitted.conditional_log_score(self._rows(X), names)

    def dependence(self, X: Any) -> np.ndarray:  # noqa: N803
        """How well the observed entries of each row go together, shape (N,), nats, up to one constant for all rows.

        log p(codes) - sum_j log p(code_j): what they say about one another, beyond how rare each is by itself. Without
        densities inside the codes, so without units; values beyond those of training count by how far they lie outside.
        The score that finds rows whose entries do not belong together.
        """
        return self.fitted.dependence(self._rows(X))

    def conditional_surprise(self, X: Any) -> np.ndarray:  # noqa: N803
        """Mean over the observed entries of log p(code of the entry | the others of its row), shape (N,), nats.

        Without densities inside the codes, so without units; values beyond those of training count by how far they lie
        outside.
        """
        return self.fitted.conditional_surprise(self._rows(X))

    @property
    def fitted(self) -> FittedTable:
        """What answers questions about tables that have been read."""
        check_is_fitted(self, "model_")
        return FittedTable(codec=self.codec_, model=self.model_, parameters=self._answering())

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
        """A column as the model knows it."""
        check_is_fitted(self, "model_")
        return self.codec_.columns[self.codec_.index(name)]

    def _answering(self) -> Parameters:
        """The parameters of the fit, and those of answers as they are now."""
        now: dict[str, object] = {"unseen": self.unseen, "num_draws": self.num_draws, "num_sweeps": self.num_sweeps}
        if isinstance(self.random_state, int | np.integer):  # else `fit` has made a seed of it
            now["seed"] = int(self.random_state)
        return Parameters.checked(**(self._folder.parameters.model_dump() | now))

    def _read(self, table: Any) -> Frame:
        """Reads a table that is asked about; an array has the columns of X in their order, and may have y behind them."""
        check_is_fitted(self, "model_")
        if is_frame(table):
            return read_frame(table)
        is_short = np.ndim(table) == 2 and np.shape(table)[1] == self.n_features_in_
        return read_frame(table, names=self.features if is_short else self._folder.frame.names)

    def _rows(self, table: Any) -> Rows:
        frame = self._read(table)
        return self.fitted.rows(frame.table, frame.num_rows)

    def _one_target(self, target: Name | None) -> Name:
        names = self._targets(target)
        if len(names) != 1:
            raise ValueError(f"target: got {len(names)} columns; ask for the classes of one at a time")
        return names[0]

    def _targets(self, target: Name | Sequence[Name] | None) -> list[Name]:
        check_is_fitted(self, "model_")
        if target is None and self.target_ is None:
            raise ValueError(f"target: name the columns to predict, of {', '.join(map(repr, self.codec_.names))}")
        named = self.target_ if target is None else target
        return [self.codec_.names[self.codec_.index(name)] for name in _listed(named)]


def _is_name(named: object) -> bool:
    """Whether it is one name rather than several; a set has no order, so it is one, which no column has."""
    return isinstance(named, str | np.generic | AbstractSet) or not isinstance(named, Iterable)


def _listed(named: Any) -> list[Any]:
    """One name, or several."""
    return [named] if _is_name(named) else list(named)


def _whole(value: Any, name: str, *, least: int, expected: str) -> int:
    """A whole number of Python or numpy, of at most 63 bits.

    Raises:
        ValueError: it is something else, or less than `least`.
    """
    number = operator.index(value) if hasattr(type(value), "__index__") else least - 1
    if not least <= number < 2**63:
        raise ValueError(f"{name}: got {value!r}, expected {expected}")
    return number


def set_features(estimator: BaseEstimator, names: Sequence[Name]) -> None:
    """Sets what scikit-learn calls the columns of X; they have names there only if all are text."""
    estimator.n_features_in_ = len(names)
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):  # of a fit before
        del estimator.feature_names_in_
