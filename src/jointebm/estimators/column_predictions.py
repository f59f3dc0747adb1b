"""Predictions of columns: the most probable value, probabilities, quantiles, and several columns together.

Legend: N rows, V columns, K classes, Q quantiles.
"""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal, overload

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from jointebm.estimators.arguments import is_name, number_of_first, quantile_levels, seed_of_draws, whole_number
from jointebm.estimators.imputations import GivenColumns, Imputations
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.determined_entries import with_determined
from jointebm.tables.answers.joint_predictions import joint_class_probs, require_few_combinations
from jointebm.tables.answers.predictions import (
    Statistic,
    class_errors,
    class_probs,
    classes,
    point_prediction,
    readout_of,
)
from jointebm.tables.answers.row_keys import keys_of_numbers
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.frames.reading import Frame
from jointebm.tables.frames.writing import only_column, write_like

__all__ = ["ColumnPredictions"]


class ColumnPredictions(Imputations):
    """The predictions of `JointEBM`."""

    target_: Name | None

    def predict(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        statistic: Statistic = "mean",
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> Any:
        """Predicts one column from the other observed entries of each row; its own entries in X are ignored.

        Args:
            X: table with some or all of the columns, N rows.
            target: name of the column; None is the y of `fit`. `predict_frame` predicts several columns.
            statistic: of numbers and dates: "mean" (rounded to the nearest possible value) or "median". Categories get
                the most probable level.
            given: evidence about the missing entries of other columns, the same for all rows, as in `sample`.
            diagnostics: whether to return (column, `Diagnostics`); standard errors are those of means, before rounding,
                and None for medians and categories.

        Returns:
            The column: a Series, an Arrow column, or a vector for arrays, N entries.

        Raises:
            TypeError: `target` is several names.
            ValueError: an unknown column, or one that the model ignores; an entry of X contradicts the evidence, or the
                evidence is about the target.
        """
        if target is not None and not is_name(target):
            raise TypeError(f"predict: got several targets {quoted(repr(target))}; call predict_frame(X, targets)")
        name = self._one_target(target)
        asked = self._read(X)
        frame, found = self._predicted(asked._replace(kind="table"), [name], statistic, given)
        column = only_column(frame)
        return Answer(column, found[name].numpy()) if diagnostics else column

    def predict_frame(
        self,
        X: Any,  # noqa: N803
        targets: Sequence[Name],
        *,
        statistic: Statistic = "mean",
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> Any:
        """Predicts several columns, each on its own; the entries of all of them in X are ignored.

        The predictions are not a joint draw: together they may be a row that the density finds improbable.
        `predict_joint_proba` and `draw_joint` treat several columns together.

        Args:
            X: table with some or all of the columns, N rows.
            targets: names of the columns.
            statistic: as in `predict`.
            given: as in `predict`.
            diagnostics: whether to return (frame, `Diagnostics`): of each row the least of all targets, and standard errors
                by target, as in `predict`.

        Returns:
            A frame of the kind of X with the target columns in their order, also for a single target.

        Raises:
            TypeError: `targets` is one name, or a set, which has no order.
            ValueError: an unknown column, or one that the model ignores.
        """
        if is_name(targets):
            raise TypeError(f"predict_frame: got {quoted(repr(targets))}, expected a list of names")
        frame, found = self._predicted(self._read(X), list(targets), statistic, given)
        return Answer(frame, Diagnostics.together(found).numpy()) if diagnostics else frame

    @overload
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = ...,
        *,
        given: GivenColumns = ...,
        diagnostics: Literal[False] = ...,
    ) -> np.ndarray: ...
    @overload
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = ...,
        *,
        given: GivenColumns = ...,
        diagnostics: Literal[True],
    ) -> Answer[np.ndarray]: ...
    def predict_proba(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> np.ndarray | Answer[np.ndarray]:
        """p(value of the target | other observed entries of the row), for each of `classes(target)`.

        Args:
            X: table with some or all of the columns, N rows; the target's own entries are ignored.
            target: a column of categories, or of numbers with one code per value; None is the y of `fit`.
            given: as in `predict`.
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
        rows = self.asked(self._read(X), given, missing=[coded.name])
        answer = self.fitted.predictive_answer(rows, coded.name)
        probs, found = class_probs(coded, answer.value), answer.diagnostics.numpy()
        found = replace(found, standard_error=class_errors(coded, found))
        return Answer(probs, found) if diagnostics else probs

    def classes(self, target: Name | None = None) -> np.ndarray:
        """The values whose probabilities `predict_proba` returns, shape (K,)."""
        return classes(self.coded(self._one_target(target)))

    def predict_quantiles(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> Any:
        """Quantiles of p(number | other observed entries of the row), possible values of the column.

        Args:
            X: table with some or all of the columns, N rows; the target's own entries are ignored.
            target: a column of numbers or times; None is the y of `fit`.
            quantiles: levels, each in (0, 1), one or more.
            given: as in `predict`.
            diagnostics: whether to return (quantiles, `Diagnostics`), without standard errors.

        Returns:
            A frame of the kind of X with Q columns called "NAME:5%" and so on, or an array of shape (N, Q).

        Raises:
            ValueError: a column without order, a level that is not in (0, 1), or as in `predict`.
        """
        coded = self.coded(self._one_target(target))
        if not isinstance(coded.codec, NumberCodec):
            raise ValueError(f"column {coded.name!r}: has no quantiles; call predict_proba(X, {coded.name!r})")
        levels, frame = quantile_levels(quantiles), self._read(X)
        rows = self.asked(frame, given, missing=[coded.name])
        answer = self.fitted.predictive_answer(rows, coded.name)
        probs, found = np.exp(answer.value), replace(answer.diagnostics, standard_error=None)
        none_missing = np.zeros(len(probs), dtype=bool)
        columns: dict[Name, Column] = {}
        for level in levels:
            column = Column(coded.role, coded.codec.quantile(probs, level), none_missing, coded.unit)
            columns[f"{coded.name}:{100 * level:g}%"] = with_determined(column, rows, coded.name)
        (stored,) = self.frame_schema_.select([coded.name], frame.schema.backend).columns
        schemas = [stored.model_copy(update={"name": name}) for name in columns]
        schema = self.frame_schema_.model_copy(update={"backend": frame.schema.backend, "columns": tuple(schemas)})
        made = write_like(columns, schema, frame)
        return Answer(made, found.numpy()) if diagnostics else made

    def predict_interval(
        self,
        X: Any,  # noqa: N803
        target: Name | None = None,
        *,
        coverage: float = 0.9,
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> Any:
        """The central interval that holds a number with the probability `coverage`, given the rest of its row.

        Args:
            X: as in `predict_quantiles`.
            target: as in `predict_quantiles`.
            coverage: in (0, 1). The true share is as good as the density: the page of benchmarks measures it.
            given: as in `predict`.
            diagnostics: as in `predict_quantiles`.

        Returns:
            As `predict_quantiles`, two columns: the ends, both of them included.
        """
        if not isinstance(coverage, Real) or not 0 < coverage < 1:
            raise ValueError(f"coverage: got {quoted(repr(coverage))}, expected a share in (0, 1), such as 0.9")
        tail = round((1 - float(coverage)) / 2, 12)
        ends = (tail, round(1 - tail, 12))
        return self.predict_quantiles(X, target, quantiles=ends, given=given, diagnostics=diagnostics)

    def predict_joint_proba(
        self,
        X: Any,  # noqa: N803
        targets: Sequence[Name],
        *,
        given: GivenColumns = None,
        diagnostics: bool = False,
    ) -> Any:
        """p(values of several targets together | other observed entries of the row).

            p(a, b | x) = p(a | x) p(b | x, a)

        Exact where the configurations of the missing entries are few; else each factor is an estimate as in
        `predict_proba`, and so the product depends a little on the order of targets.

        Args:
            X: table with some or all of the columns, N rows; the entries of the targets are ignored.
            targets: columns with classes, at most 4,096 combinations of them. `draw_joint` has no such limit.
            given: as in `predict`.
            diagnostics: as in `predict_proba`. The ess is the least of the factors, each a harmonic mean over classes.

        Returns:
            Shape (N, K_1, K_2, ...), in the order of `classes` of each target.

        Raises:
            TypeError: `targets` is one name, or a set, which has no order.
            ValueError: a column without classes, one that occurs twice, too many combinations, or as in `predict`.

        Warns:
            ConvergenceWarning: as in `predict_proba`.
        """
        names = self._several(targets, "predict_joint_proba")
        require_few_combinations(self.fitted.codec, names)
        frame = self._read(X)
        answer = joint_class_probs(self.fitted, self.asked(frame, given, missing=names), frame.num_rows, names)
        return Answer(answer.value, answer.diagnostics.numpy()) if diagnostics else answer.value

    def draw_joint(
        self,
        X: Any,  # noqa: N803
        targets: Sequence[Name],
        num: int,
        *,
        given: GivenColumns = None,
        first: int = 0,
        seed: int | None = None,
        diagnostics: bool = False,
    ) -> Any:
        """Joint draws of several columns given the other observed entries of each row.

        Args:
            X: table with some or all of the columns, N rows; the entries of the targets are ignored.
            targets: names of the columns.
            num: number of draws, at least 1.
            given: evidence about missing entries, the same for all rows, as in `sample`; that of targets is used too.
            first: number of the first row, which keys its draws.
            seed: of these draws; None is that of the model.
            diagnostics: whether to return (list, `Diagnostics`), averaged over the draws of each row.

        Returns:
            A list of `num` frames of the kind of X with the target columns, N rows each.

        Raises:
            TypeError: as in `predict_joint_proba`.
            ValueError: an argument is out of its range, an unknown column, or as in `predict`.
        """
        names = self._several(targets, "draw_joint")
        num = whole_number(num, "num", least=1, expected="1 or more draws")
        first, seed = number_of_first(first), seed_of_draws(seed)
        frame = self._read(X)
        rows = self.fitted.rows(frame.table, frame.num_rows, missing=names, evidence=self.evidence(given))
        self.warn_outside(rows, targets=names)
        drawn = self.fitted.impute(rows, keys_of_numbers(first, frame.num_rows), num_draws=num, seed=seed)
        schema = self.frame_schema_.select(names, frame.schema.backend)
        frames = [write_like(each, schema, frame) for each in drawn.value]
        return Answer(frames, drawn.diagnostics.numpy()) if diagnostics else frames

    def _predicted(
        self, frame: Frame, targets: list[Name], statistic: Statistic, given: GivenColumns
    ) -> tuple[Any, dict[Name, Diagnostics[Tensor]]]:
        """A frame of the targets, and the diagnostics of each."""
        if statistic not in ("mean", "median"):
            raise ValueError(f"statistic: got {statistic!r}, expected 'mean' or 'median'")
        names = [self.coded(name).name for name in targets]
        rows = self.asked(frame, given, missing=names)
        columns, found = {}, {}
        for name in names:
            coded = self.coded(name)
            readout = readout_of(coded, statistic)
            answer = self.fitted.predictive_answer(rows, name, readout=readout)
            columns[name] = with_determined(point_prediction(coded, answer.value, statistic=statistic), rows, name)
            error = None if readout is None else answer.diagnostics.standard_error[:, 0]
            found[name] = replace(answer.diagnostics, standard_error=error)
        return write_like(columns, self.frame_schema_.select(names, frame.schema.backend), frame), found

    def _several(self, targets: Sequence[Name], what: str) -> list[Name]:
        """The names of several different columns."""
        if is_name(targets):
            raise TypeError(f"{what}: got {quoted(repr(targets))}, expected a list of names")
        names = [self.coded(name).name for name in targets]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise ValueError(f"{what}: duplicate column {name!r}; name it once")
        return names

    def _one_target(self, target: Name | None) -> Name:
        check_is_fitted(self, "model_")
        if target is None and self.target_ is None:
            raise ValueError(f"target: name the column to predict, of {', '.join(map(repr, self.frame_schema_.names))}")
        return self.coded(self.target_ if target is None else target).name  # type: ignore[arg-type]
