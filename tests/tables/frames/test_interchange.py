"""Batches, streams and lazy frames: the same answers as of a table, in the kind that was asked about."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jointebm import JointEBM, JointEBMClassifier, JointEBMImputer
from jointebm.tables.frames.interchange import is_stream
from jointebm.tables.frames.reading import read_frame

RNG = np.random.default_rng(0)
TABLE = pa.table({"x": RNG.integers(0, 5, 90), "k": pa.array(list("ab") * 45)}).set_column(
    1, "k", pa.array([None if number % 9 == 0 else "ab"[number % 2] for number in range(90)])
)
FAST = {"num_visits": 0, "rows_per_component": 30}
MODEL = JointEBM(training=FAST).fit(TABLE)


class Exporter:
    """Another library's table, such as a relation of DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return TABLE.__arrow_c_stream__(requested_schema)


KINDS: dict[str, tuple[Callable[[], Any], type, Callable[[Any], pa.Table]]] = {
    "batch": (lambda: TABLE.to_batches()[0], pa.RecordBatch, lambda answer: pa.Table.from_batches([answer])),
    "reader": (lambda: TABLE.to_reader(max_chunksize=40), pa.RecordBatchReader, lambda answer: answer.read_all()),
    "lazy": (lambda: pl.from_arrow(TABLE).lazy(), pl.LazyFrame, lambda answer: answer.collect().to_arrow()),  # type: ignore[union-attr]
    "exporter": (Exporter, pa.Table, lambda answer: answer),
}


def cells(table: pa.Table) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_streams_fit_and_answer_like_tables(kind: str) -> None:
    make, expected, collected = KINDS[kind]
    model = JointEBM(training=FAST).fit(make())
    assert model.frame_schema_.backend == ("polars" if kind == "lazy" else "pyarrow")
    assert np.array_equal(model.score_samples(make()), MODEL.score_samples(TABLE))
    for ask in (
        lambda table: model.impute(table),
        lambda table: model.predict_frame(table, ["k"]),
        lambda table: model.predict_quantiles(table, "x"),
        lambda table: model.draw_joint(table, ["k"], 1)[0],
    ):
        answer = ask(make())
        assert isinstance(answer, expected)
        assert cells(collected(answer)) == cells(ask(TABLE))
    assert len(model.predict(make(), "k")) == 90
    assert isinstance(model.sample(2), pl.DataFrame if kind == "lazy" else pa.Table)


@pytest.mark.parametrize("kind", KINDS)
def test_facades_take_streams(kind: str) -> None:
    make, expected, collected = KINDS[kind]
    filled = JointEBMImputer(JointEBM(training=FAST)).fit(make()).transform(make())
    assert isinstance(filled, expected) and cells(collected(filled)) == cells(MODEL.impute(TABLE))
    y = np.array(list("uv") * 45)
    classifier = JointEBMClassifier(JointEBM(training=FAST)).fit(make(), y)
    assert classifier.feature_names_in_.tolist() == ["x", "k"] and len(classifier.predict(make())) == 90


def test_an_empty_batch_has_an_empty_answer_of_its_kind() -> None:
    filled = MODEL.impute(TABLE.slice(0, 0).to_reader().read_all())
    assert filled.num_rows == 0
    batch = pa.RecordBatch.from_pylist([], schema=TABLE.schema)
    answer = MODEL.impute(batch)
    assert isinstance(answer, pa.RecordBatch) and answer.num_rows == 0


def test_columns_are_no_tables() -> None:
    for column in (pl.Series([1]), TABLE["x"], pd.Series([1]), pa.array([1])):
        assert not is_stream(column)
        with pytest.raises(TypeError):
            read_frame(column)
