"""What is asked of a model about one part of a table: Arrow tables in, Arrow tables out.

A row's answer does not depend on the part that it is in, so neither do the files that parts are written to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from jointebm.estimators import JointEBM
from jointebm.tables.categories import CategoryCodec
from jointebm.tables.codec import Name
from jointebm.tables.columns import Column
from jointebm.tables.frames import read_frame
from jointebm.tables.given import read_given
from jointebm.tables.numbers import NumberCodec
from jointebm.tables.predictions import class_probs, classes, point_prediction
from jointebm.tables.restore import write_frame

__all__ = ["Imputing", "Job", "Predicting", "Sampling", "Scoring"]

INTERVAL = (0.05, 0.95)  # of numbers and times, beside their prediction


class Job(Protocol):
    """A question; it can be sent to another process."""

    def __call__(self, model: JointEBM, part: Any) -> list[pa.Table]:
        """The answer about a part: one table for each file that is written."""


@dataclass(frozen=True)
class Imputing:
    """Fills missing entries, `num` times."""

    num: int

    def __call__(self, model: JointEBM, part: pa.Table) -> list[pa.Table]:
        """The part with nothing missing, once for each draw."""
        return [model.impute(part)] if self.num == 1 else list(model.impute(part, n=self.num))


@dataclass(frozen=True)
class Predicting:
    """Guesses some columns, with probabilities of categories and the central 90% of numbers."""

    targets: tuple[Name, ...]
    statistic: Literal["mean", "median"]

    def __call__(self, model: JointEBM, part: pa.Table) -> list[pa.Table]:
        """Columns NAME and NAME=LEVEL of categories, or NAME, NAME:5% and NAME:95% of numbers and times."""
        frame = read_frame(part)
        rows = model.fitted.rows(frame.table, frame.num_rows, hidden=self.targets)
        columns: dict[str, Any] = {}
        for name in self.targets:
            coded = model.coded(name)
            log_probs = model.fitted.log_predictive(rows, name)
            columns[str(name)] = _arrow(model, name, point_prediction(coded, log_probs, statistic=self.statistic))
            if isinstance(coded.codec, CategoryCodec):
                probs = class_probs(coded, log_probs)
                for place, level in enumerate(classes(coded).tolist()):
                    columns[f"{name}={level}"] = pa.array(probs[:, place])
            elif isinstance(coded.codec, NumberCodec):
                for level in INTERVAL:
                    values = coded.codec.quantile(np.exp(log_probs), level)
                    column = Column(coded.role, values, np.zeros(len(values), dtype=bool), coded.unit)
                    columns[f"{name}:{level:.0%}"] = _arrow(model, name, column)
        return [pa.table(columns)]


@dataclass(frozen=True)
class Scoring:
    """Scores rows: their log-density, how well their entries go together, and on demand each entry given the others."""

    conditional: bool

    def __call__(self, model: JointEBM, part: pa.Table) -> list[pa.Table]:
        """Columns `log_density` and `dependence`, and on demand "log p(NAME | rest)"; null where the entry is missing."""
        frame = read_frame(part)
        rows = model.fitted.rows(frame.table, frame.num_rows)
        columns = {
            "log_density": pa.array(model.fitted.log_density(rows)),
            "dependence": pa.array(model.fitted.dependence(rows)),
        }
        if self.conditional:
            scores = model.fitted.conditional_log_score(rows, model.codec_.names)
            for place, name in enumerate(model.codec_.names):
                columns[f"log p({name} | rest)"] = pa.array(scores[:, place], from_pandas=True)
        return [pa.table(columns)]


@dataclass(frozen=True)
class Sampling:
    """Draws rows; a part is the range of their numbers."""

    given: Mapping[Name, object]
    seed: int | None

    def __call__(self, model: JointEBM, part: range) -> list[pa.Table]:
        """The rows of these numbers."""
        schema = model.frame_schema_
        durations = frozenset(each.name for each in schema.columns if each.is_duration)
        evidence = read_given(self.given, model.codec_, durations=durations)
        table = model.fitted.sample(len(part), evidence=evidence, seed=self.seed, first=part.start)
        return [write_frame(table, schema.select(schema.names, "pyarrow"))]


def _arrow(model: JointEBM, name: Name, column: Column) -> Any:
    schema = model.frame_schema_.select([name], "pyarrow")
    return write_frame({name: column}, schema).column(0)
