"""The service of a table model: four questions, each of which is a method of `JointEBM`.

Legend: N rows.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from jointebm.estimators import JointEBM
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import read_frame
from jointebm.watch.answered import Answered, diagnostics_as_json
from jointebm.watch.arrow_bodies import read_table
from jointebm.watch.json_tables import column_name, frame_of_lists, given_columns, lists_of_columns
from jointebm.watch.limits import Limits
from jointebm.watch.packed_frames import finite_or_none

__all__ = ["TableService"]

_SEED = Field(None, ge=0, lt=2**63, description="of all draws; null: that of the model")
_FIRST = Field(0, ge=0, lt=2**53, description="number of the first row, so that rows can be asked for in parts")
_ROWS = Field(description="per column, a list of N values; null is missing, times are ISO text")
_GIVEN: Any = Field(
    default_factory=dict,
    description='per column a value, a list of values, {"low": 30, "high": 40}, or null: the entry is missing',
)


class TableQuestion(BaseModel):
    """Base of the questions: no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SampleRows(TableQuestion):
    """Draws rows of the table that agree with what is given."""

    num: int = Field(16, ge=1, description="rows N")
    given: dict[str, Any] = _GIVEN
    missingness: Literal["ignored", "model"] = Field("ignored", description="model: entries are missing as in the data")
    seed: int | None = _SEED
    first: int = _FIRST


class PredictRows(TableQuestion):
    """Predicts columns from the other known entries of each row."""

    rows: dict[str, list[Any]] = _ROWS
    target: str | list[str] = Field(description="names of columns")
    statistic: Literal["mean", "median"] = Field("mean", description="of numbers and times")
    given: dict[str, Any] = _GIVEN


class ImputeRows(TableQuestion):
    """Draws the missing entries of each row."""

    rows: dict[str, list[Any]] = _ROWS
    num: int = Field(1, ge=1, description="draws of each row")
    given: dict[str, Any] = _GIVEN
    seed: int | None = _SEED
    first: int = _FIRST


class ScoreRows(TableQuestion):
    """log p of the known entries of each row and of what is given, and how well the entries fit together, nats.

    null stands for minus infinity: the row breaks a relation.
    """

    rows: dict[str, list[Any]] = _ROWS
    given: dict[str, Any] = _GIVEN
    conditional: bool = Field(False, description="also log p(entry | rest of its row) of every column")


class TableService:
    """Answers about one table model.

    Args:
        model: the fitted model.
        limits: of questions.
    """

    questions: ClassVar[Mapping[str, type[BaseModel]]] = {
        "sample": SampleRows,
        "predict": PredictRows,
        "impute": ImputeRows,
        "score": ScoreRows,
    }

    def __init__(self, model: JointEBM, limits: Limits) -> None:
        self._model, self._limits = model, limits

    def read_arrow(self, body: bytes) -> dict[str, Any]:
        """The columns of the table."""
        return {"rows": lists_of_columns(read_frame(read_table(body, self._limits)).table)}

    def as_json(self, rows: Mapping[Any, Any]) -> dict[str, Any]:
        """Lists by column."""
        return lists_of_columns(rows)

    def answer(self, question: str, asked: Any) -> Answered:
        """Answers one question."""
        if isinstance(asked, SampleRows):
            return self._sample(asked)
        if isinstance(asked, PredictRows):
            return self._predict(asked)
        if isinstance(asked, ImputeRows):
            return self._impute(asked)
        assert isinstance(asked, ScoreRows), question
        return self._score(asked)

    def _sample(self, asked: SampleRows) -> Answered:
        self._limits.require_rows(asked.num)
        given = given_columns(self._model, asked.given)
        found = self._model.draw(
            asked.num, given=given, missingness=asked.missingness, seed=asked.seed, first=asked.first
        )
        return Answered([found.value], {"diagnostics": diagnostics_as_json(found.diagnostics)})

    def _predict(self, asked: PredictRows) -> Answered:
        targets = [asked.target] if isinstance(asked.target, str) else asked.target
        names = [column_name(self._model, text) for text in targets]
        if not names:
            raise ValueError("target: names no column; name one or several")
        frame, given = self._frame(asked.rows), given_columns(self._model, asked.given)
        found = self._model.predict_frame(frame, names, statistic=asked.statistic, given=given, diagnostics=True)
        probs = {
            str(name): {
                "classes": self._model.classes(name).tolist(),
                "probs": self._model.predict_proba(frame, name, given=given).tolist(),
            }
            for name in names
            if self._has_classes(name)
        }
        also = {"probs": probs, "diagnostics": diagnostics_as_json(found.diagnostics)}
        return Answered([read_frame(found.value).table], also)

    def _impute(self, asked: ImputeRows) -> Answered:
        frame, given = self._frame(asked.rows), given_columns(self._model, asked.given)
        self._limits.require_rows(len(frame) * asked.num)
        found = self._model.draw_imputations(
            frame, asked.num, given=given, first=asked.first, seed=asked.seed, diagnostics=True
        )
        draws = [read_frame(each).table for each in found.value]
        return Answered(draws, {"diagnostics": diagnostics_as_json(found.diagnostics)}, several=True)

    def _score(self, asked: ScoreRows) -> Answered:
        if asked.given and asked.conditional:
            raise ValueError("conditional: scores entries given the others of their row alone; leave out given")
        frame, given = self._frame(asked.rows), given_columns(self._model, asked.given)
        found = self._model.score_samples(frame, given=given, diagnostics=True)
        scores = {"log_density": found.value, "dependence": self._model.dependence(frame)}
        also: dict[str, Any] = {"diagnostics": diagnostics_as_json(found.diagnostics)}
        if asked.conditional:
            each = self._model.conditional_log_score(frame)
            also["conditional"] = {
                str(name): [finite_or_none(score) for score in column]
                for name, column in zip(self._model.codec_.names, each.T, strict=True)
            }
        none_missing = np.zeros(len(found.value), dtype=bool)
        return Answered([{name: Column("real", values, none_missing) for name, values in scores.items()}], also)

    def _frame(self, rows: Mapping[str, list[Any]]) -> Any:
        for values in rows.values():
            self._limits.require_rows(len(values))
        frame = frame_of_lists(self._model, rows)
        if not len(frame):
            raise ValueError("rows: every column is empty; expected one or more rows")
        return frame

    def _has_classes(self, name: Name) -> bool:
        return isinstance(self._model.coded(name).codec, CategoryCodec)
