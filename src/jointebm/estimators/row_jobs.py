"""Answers one question about one part of a table: Arrow tables in, Arrow tables out.

A job knows the number of the first row of a part, or the number of each, and draws are keyed by row number: the answer for
a row does not depend on the part that holds it, nor the output on the size of the parts.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jointebm.estimators import JointEBM
from jointebm.estimators.imputations import Uncertainty
from jointebm.tables.answers.determined_entries import with_determined
from jointebm.tables.answers.parameters import Missingness
from jointebm.tables.answers.predictions import Statistic, class_probs, classes, point_prediction
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.files.missing_words import is_missing_cell
from jointebm.tables.files.outputs import cell_text
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import Part
from jointebm.tables.frames.reading import read_frame
from jointebm.tables.frames.writing import write_frame

__all__ = ["ImputeJob", "Job", "PredictJob", "SampleJob", "ScoreJob"]

INTERVAL = (0.05, 0.95)  # quantiles next to the prediction of a number or a time


class Job(ABC):
    """A question, which can be sent to another process."""

    @abstractmethod
    def __call__(self, model: JointEBM, part: pa.Table, first: int | np.ndarray) -> list[pa.Table]:
        """The answer for a part, whose first row has number `first`, or whose rows have these: one table per output."""

    def schemas(self, model: JointEBM, empty: pa.Table) -> list[pa.Schema]:
        """Schemas of the answers, from a part without rows."""
        return [answer.schema for answer in self(model, empty, 0)]

    def texts(self, part: Part, answer: pa.Table, schema: pa.Schema) -> Mapping[str, list[str]]:  # noqa: ARG002
        """The text of the cells in CSV, for columns where it differs from the values."""
        return {}

    def counts(self, part: pa.Table, answer: pa.Table) -> Mapping[str, int]:  # noqa: ARG002
        """Numbers of entries to sum over all parts and to report at the end, by what was done to them."""
        return {}


@dataclass(frozen=True)
class ImputeJob(Job):
    """Fills missing entries."""

    given: Mapping[Name, object]  # evidence about missing entries
    num: int  # of completed tables
    reading: ReadingOptions  # of the file
    uncertainty: Uncertainty = "draws"
    id_column: str | None = None  # that keys the draws of rows; None: their numbers

    def __call__(self, model: JointEBM, part: pa.Table, first: int | np.ndarray) -> list[pa.Table]:
        """The part with nothing missing, once for each draw."""
        frame = read_frame(part)
        rows = model.encoded(frame, self.given)
        return model.imputed(
            frame, rows, self.num, uncertainty=self.uncertainty, row_ids=self.id_column, first=first
        ).value

    def schemas(self, model: JointEBM, empty: pa.Table) -> list[pa.Schema]:
        """The types of the file, except where they cannot hold the draws of the model."""
        return [_filled_schema(empty.schema, answer.schema, model) for answer in self(model, empty, 0)]

    def texts(self, part: Part, answer: pa.Table, schema: pa.Schema) -> Mapping[str, list[str]]:
        """The observed cells of a CSV file to the letter, and the draws for the missing ones."""
        texts = {}
        for name, column in (part.cells or {}).items():
            values, arrow = answer[name].to_pylist(), schema.field(name).type
            texts[name] = [
                text
                if value is None or not is_missing_cell(text, self.reading.words)
                else cell_text(value, arrow, self.reading)
                for text, value in zip(column, values, strict=True)
            ]
        return texts

    def counts(self, part: pa.Table, answer: pa.Table) -> Mapping[str, int]:
        """The number of filled entries."""
        return {"filled": _num_missing(part) - _num_missing(answer)}


@dataclass(frozen=True)
class PredictJob(Job):
    """Predicts columns, with the probabilities of categories and the central 90% of numbers."""

    given: Mapping[Name, object]  # evidence about missing entries
    targets: tuple[Name, ...]
    statistic: Statistic

    def __call__(self, model: JointEBM, part: pa.Table, first: int | np.ndarray) -> list[pa.Table]:  # noqa: ARG002  # rows decide
        """Columns NAME and NAME=LEVEL of categories, or NAME, NAME:5% and NAME:95% of numbers and times."""
        rows = model.encoded(read_frame(part), self.given, missing=self.targets)
        columns: dict[str, Any] = {}
        for name in self.targets:
            coded = model.coded(name)
            log_probs = model.fitted.log_predictive(rows, name)
            predicted = point_prediction(coded, log_probs, statistic=self.statistic)
            columns[str(name)] = _arrow(model, name, with_determined(predicted, rows, name))
            if isinstance(coded.codec, CategoryCodec):
                probs = class_probs(coded, log_probs)
                for place, level in enumerate(classes(coded).tolist()):
                    columns[f"{name}={level}"] = pa.array(probs[:, place])
            elif isinstance(coded.codec, NumberCodec):
                for level in INTERVAL:
                    values = coded.codec.quantile(np.exp(log_probs), level)
                    column = Column(coded.role, values, np.zeros(len(values), dtype=bool), coded.unit)
                    columns[f"{name}:{level:.0%}"] = _arrow(model, name, with_determined(column, rows, name))
        return [pa.table(columns)]


@dataclass(frozen=True)
class ScoreJob(Job):
    """Scores rows by log-density and dependence, and on request each entry given the rest of its row."""

    given: Mapping[Name, object]  # evidence about missing entries
    conditional: bool

    def __call__(self, model: JointEBM, part: pa.Table, first: int | np.ndarray) -> list[pa.Table]:  # noqa: ARG002  # rows decide
        """Columns `log_density`, `dependence` and on request "log p(NAME | rest)", null where the entry is missing."""
        rows = model.encoded(read_frame(part))
        columns = {
            "log_density": pa.array(model.score_samples(part, given=self.given)),
            "dependence": pa.array(model.fitted.dependence(rows)),
        }
        if self.conditional:
            scores = model.fitted.conditional_log_score(rows, model.codec_.names)
            for place, name in enumerate(model.codec_.names):
                columns[f"log p({name} | rest)"] = pa.array(scores[:, place], from_pandas=True)
        return [pa.table(columns)]


@dataclass(frozen=True)
class SampleJob(Job):
    """Draws rows; a part has as many, and consecutive numbers are drawn together."""

    given: Mapping[Name, object]
    missingness: Missingness

    def __call__(self, model: JointEBM, part: pa.Table, first: int | np.ndarray) -> list[pa.Table]:
        """The rows with these numbers."""
        numbers = np.arange(first, first + len(part)) if isinstance(first, int) else first
        schema = model.frame_schema_.select(model.frame_schema_.names, "pyarrow")
        drawn = []
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
            start = int(run[0]) if len(run) else 0
            rows = model.draw(len(run), given=self.given, missingness=self.missingness, first=start)
            drawn.append(write_frame(rows.value, schema))
        return [pa.concat_tables(drawn)]


def _num_missing(table: pa.Table) -> int:
    return sum(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0 for column in table.columns)


def _arrow(model: JointEBM, name: Name, column: Column) -> Any:
    schema = model.frame_schema_.select([name], "pyarrow")
    return write_frame({name: column}, schema).column(0)


def _filled_schema(asked: pa.Schema, answered: pa.Schema, model: JointEBM) -> pa.Schema:
    fields = []
    for field in asked:
        if pa.types.is_integer(field.type) and model.frame_schema_.column(field.name).role == "real":
            field = field.with_type(pa.float64())
        elif pa.types.is_null(field.type):
            field = field.with_type(answered.field(field.name).type)
        fields.append(field.remove_metadata().with_nullable(True))
    return pa.schema(fields)
