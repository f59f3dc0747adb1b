"""Imputations: joint draws of what is missing, from one fit or from several.

Legend: N rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from jointebm.estimators.arguments import is_name, numbers_of_rows, seed_of_draws, whole_number
from jointebm.sampling.diagnostics import Answer, ExtrapolationWarning, warn_caller
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.parameters import Missingness
from jointebm.tables.answers.row_keys import keys_of_ids, keys_of_numbers, require_different
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.indicators import Indicator
from jointebm.tables.codes.read_evidence import read_given
from jointebm.tables.codes.training_range import RangeTally, given_outside
from jointebm.tables.frames.reading import Frame, is_missing, read_vector
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.writing import write_filled

__all__ = ["GivenColumns", "Imputations", "Uncertainty"]

Uncertainty = Literal["draws", "model"]
# Per column a value, a set or list of values, or an interval; None says that the entry is missing.
GivenColumns = Mapping[Name, object] | None


class Imputations(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """The questions about missing entries, for `Answers`.

    Attributes:
        members_: fits to bootstrap samples of the training rows.
    """

    members_: tuple[TableModel, ...]
    missingness: Missingness

    @property
    @abstractmethod
    def fitted(self) -> Answering:
        """The fitted table."""

    @property
    @abstractmethod
    def frame_schema_(self) -> FrameSchema:
        """How the training frame stored its columns."""

    @property
    @abstractmethod
    def indicators(self) -> tuple[Indicator, ...]:
        """The columns of the model that say which entries are missing."""

    @abstractmethod
    def coded(self, name: Name) -> CodedColumn:
        """One column with its codec."""

    @abstractmethod
    def _read(self, table: Any) -> Frame:
        """Reads a table."""

    def impute(
        self,
        X: Any,  # noqa: N803
        *,
        given: GivenColumns = None,
        uncertainty: Uncertainty = "draws",
        row_ids: Any = None,
        first: int | np.ndarray = 0,
        seed: int | None = None,
        diagnostics: bool = False,
    ) -> Any:
        """Fills missing entries with one joint draw given the observed entries of each row, which stay as they are.

        A draw, not a best guess. `draw_imputations` returns several draws, and explains the other arguments.

        Args:
            X: table with some or all of the columns; absent columns are marginalised.
            given: as in `draw_imputations`.
            uncertainty: as in `draw_imputations`.
            row_ids: as in `draw_imputations`.
            first: as in `draw_imputations`.
            seed: as in `draw_imputations`.
            diagnostics: whether to return (frame, `Diagnostics`).

        Returns:
            A frame like X. An id, or an entry of a column without training values, stays missing.
        """
        answer = self.draw_imputations(
            X, 1, given=given, uncertainty=uncertainty, row_ids=row_ids, first=first, seed=seed, diagnostics=True
        )
        return Answer(answer.value[0], answer.diagnostics) if diagnostics else answer.value[0]

    def draw_imputations(
        self,
        X: Any,  # noqa: N803
        num: int,
        *,
        given: GivenColumns = None,
        uncertainty: Uncertainty = "draws",
        row_ids: Any = None,
        first: int | np.ndarray = 0,
        seed: int | None = None,
        diagnostics: bool = False,
    ) -> Any:
        """Draws several imputations of X; `jointebm.pool` pools what is estimated from each of them.

        The draws of a row are decided by the seed and its number in X, or its id, and the row itself: not by other rows.
        Equal rows get independent draws. Two tables that are asked about with one seed share the randomness of rows with
        the same number or id.

        Args:
            X: as in `impute`.
            num: number of draws, at least 1.
            given: evidence about missing entries, the same for all rows, as in `sample`; what is given as missing stays so.
            uncertainty: "draws": all from the fitted density, so that their spread is what is unknown given that density;
                "model": draw d from member d, a refit to a bootstrap sample of the training rows, so that their spread
                holds the uncertainty of the fit as well. Pooled standard errors need "model". It takes a model that was
                fitted with `num_members` of at least `num`.
            row_ids: what tells rows apart in place of their numbers: the name of a column of X, or a vector of N numbers,
                texts or times, none missing and no two equal.
            first: number of the first row, so that a table can be asked about in parts, or a vector with the number of each
                row; of no effect with `row_ids`.
            seed: of these draws; None is that of the model.
            diagnostics: whether to return (list, `Diagnostics`), averaged over the draws of each row.

        Returns:
            A list of `num` frames like X, also for `num=1`; the first is that of `impute`.

        Warns:
            ConvergenceWarning: hardly a chain has accepted a jump.
            ExtrapolationWarning: a given value, or more entries of X than by chance, lie outside the training range.

        Raises:
            ValueError: `num` is not a whole number of at least 1, or more than the members; an id is missing or occurs
                twice; an entry of X contradicts the evidence; or another argument is out of its range.
        """
        num = whole_number(num, "num", least=1, expected="1 or more draws")
        seed = seed_of_draws(seed)
        check_is_fitted(self, "model_")
        frame = self._read(X)
        rows = self.asked(frame, given)
        answer = self.imputed(frame, rows, num, uncertainty=uncertainty, row_ids=row_ids, first=first, seed=seed)
        return answer if diagnostics else answer.value

    def imputed(
        self,
        frame: Frame,
        rows: Any,
        num: int,
        *,
        uncertainty: Uncertainty = "draws",
        row_ids: Any = None,
        first: int | np.ndarray = 0,
        seed: int | None = None,
    ) -> Answer[list[Any]]:
        """`draw_imputations` of rows that have been `encoded`, without a warning of what lies outside the training range."""
        _check_uncertainty(uncertainty, num, len(self.members_))
        numbers = numbers_of_rows(first, frame.num_rows)
        keys = keys_of_numbers(numbers, frame.num_rows) if row_ids is None else self._keys_of_ids(frame, row_ids)
        drawn = self.fitted.impute_by_members if uncertainty == "model" else self.fitted.impute
        answer = drawn(rows, keys, num_draws=num, seed=seed)
        frames = [write_filled(frame, each, self.frame_schema_) for each in answer.value]
        return Answer(frames, answer.diagnostics.numpy())

    def evidence(self, given: GivenColumns) -> dict[Name, Evidence]:
        """What is given, in the values and units of the codecs."""
        codec, given = self.fitted.codec, {} if given is None else given
        if not isinstance(given, Mapping):
            return read_given(given, codec)  # raises
        known = {name: said for name, said in given.items() if not is_missing(said)}
        evidence = read_given(known, codec)
        for name in given.keys() - known.keys():
            evidence[self._indicator(self.coded(name).name)] = Choice((True,))
        return evidence

    def count_outside(
        self,
        tally: RangeTally,
        rows: Any,
        *,
        targets: Sequence[Name] = (),
        place: Callable[[int], str] = "row {}".format,
    ) -> None:
        """Counts the entries outside the training range of rows that have been encoded.

        Args:
            tally: to add to.
            rows: as `encoded` returns them.
            targets: columns whose entries are not asked about.
            place: the place of a row, for the finding.
        """
        given = [name for name, known in rows.evidence.items() if isinstance(known, Choice)]  # told of by themselves
        tally.add(self.fitted.known(rows), ignored=(*targets, *given), place=place)

    def warn_outside(self, rows: Any, *, targets: Sequence[Name] = ()) -> None:
        """Warns of each column whose given value, or more of whose entries than by chance, is outside the training range."""
        tally = RangeTally()
        self.count_outside(tally, rows, targets=targets)
        self.warn_given(rows.evidence)
        for line in tally.findings():
            warn_caller(ExtrapolationWarning(line))

    def warn_given(self, evidence: Mapping[Name, Evidence]) -> None:
        """Warns of each column of which a given value lies outside the training range."""
        for line in given_outside(evidence, self.fitted.codec):
            warn_caller(ExtrapolationWarning(f"given {line}"))

    def _indicator(self, name: Name) -> Name:
        """The name of the column of the model that says whether the entries of a column are missing."""
        for each in self.indicators:
            if each.of == name:
                return each.coded.name
        reason = "in training none was; leave it out"
        if self.missingness == "ignored":
            reason = "this model does not know which entries are; fit JointEBM(missingness='model')"
        raise ValueError(f"given column {name!r}: None says that the entry is missing, and {reason}")

    def encoded(self, frame: Frame, given: GivenColumns = None, *, missing: Sequence[Name] = ()) -> Any:
        """Encoded rows; columns in `missing` count as missing, and nothing may be given about them."""
        evidence = self.evidence(given)
        for name in missing:
            if name in evidence:
                raise ValueError(
                    f"given column {name!r}: is a target; give evidence about other columns, or call "
                    "draw_joint(X, targets, num, given=...)"
                )
        return self.fitted.rows(frame.table, frame.num_rows, missing=missing, evidence=evidence)

    def asked(self, frame: Frame, given: GivenColumns = None, *, missing: Sequence[Name] = ()) -> Any:
        """`encoded`, with a warning of what lies outside the training range."""
        rows = self.encoded(frame, given, missing=missing)
        self.warn_outside(rows, targets=missing)
        return rows

    def _keys_of_ids(self, frame: Frame, row_ids: Any) -> Tensor:
        """Keys of rows by a column of X, or by a vector of ids."""
        if is_name(row_ids):
            coded = self.coded(row_ids)
            if coded.name not in frame.table:
                raise ValueError(f"row_ids: X has no column {coded.name!r}; name one that it has, or pass a vector")
            what, ids = f"row_ids: column {coded.name!r}", coded.converted(frame.table[coded.name])
        else:
            what, ids = "row_ids", read_vector(row_ids, "row_ids", num_rows=frame.num_rows)
        keys = keys_of_ids(ids, what)
        require_different(keys, what)
        return keys


def _check_uncertainty(uncertainty: object, num: int, num_members: int) -> None:
    if uncertainty not in get_args(Uncertainty):
        raise ValueError(f"uncertainty: got {quoted(repr(uncertainty))}, expected 'draws' or 'model'")
    if uncertainty == "model" and num > num_members:
        raise ValueError(
            f"uncertainty='model': {num} draws need as many members, and this model was fitted with {num_members}; fit "
            f"JointEBM(num_members={num}), or 'jointebm fit ... --set num_members={num}'"
            + (f", or ask for {num_members} draws at most" if num_members else "")
        )
