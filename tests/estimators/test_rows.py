"""`Rows`: answers to batches are those of one process, whatever batch, order or process a row is in."""

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jointebm.estimators import JointEBM
from jointebm.estimators import rows as rows_module
from jointebm.tables import Rows
from support.rows_of_engines import ROWS, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("rows") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> JointEBM:
    return JointEBM.load(folder)


QUESTIONS: dict[str, Callable[[Path], Rows]] = {
    "impute": lambda folder: Rows(folder, "impute", number="row"),
    "impute given": lambda folder: Rows(folder, "impute", number="row", given={"size": (0, None)}, seed=4),
    "impute by id": lambda folder: Rows(folder, "impute", row_ids="name", keep=["row"]),
    "predict": lambda folder: Rows(folder, "predict", target=["kind", "size"], keep="row"),
    "score": lambda folder: Rows(folder, "score", number="row", conditional=True),
    "sample": lambda folder: Rows(folder, "sample", number="row"),
}


def batches(name: str) -> pa.Table:
    if name == "impute given":  # rows that agree with the evidence
        return ROWS.filter(pa.compute.fill_null(pa.compute.greater_equal(ROWS["size"], 0), True))
    return ROWS.select(["row"]) if name == "sample" else ROWS


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_does_not_depend_on_the_batch_or_its_order(folder: Path, name: str) -> None:
    rows, table = pickle.loads(pickle.dumps(QUESTIONS[name](folder))), batches(name)  # noqa: S301  # our own bytes
    whole = rows(table)
    assert whole["row"].to_pylist() == table["row"].to_pylist() and len(whole) == len(table)
    parts = [rows(table.slice(first, 7)) for first in range(0, len(table), 7)]
    assert pa.concat_tables(parts).equals(whole)
    order = np.random.default_rng(0).permutation(len(table))[:20]
    assert rows(table.take(order)).equals(whole.take(order).combine_chunks()) or (
        rows(table.take(order)).to_pydict() == whole.take(order).to_pydict()
    )
    assert rows.schema(table.schema).equals(whole.schema)
    assert rows(table.slice(0, 0)).schema.equals(whole.schema)


def test_answers_are_those_of_the_model(folder: Path, model: JointEBM) -> None:
    own = ROWS.drop_columns(["row"])
    assert QUESTIONS["impute"](folder)(ROWS).drop_columns(["row"]).equals(model.impute(own))
    by_id = QUESTIONS["impute by id"](folder)(ROWS)
    assert by_id.drop_columns(["row"]).equals(model.impute(own, row_ids="name"))
    predicted = QUESTIONS["predict"](folder)(ROWS)
    assert predicted.select(["kind", "size"]).equals(
        model.predict_frame(own, ["kind", "size"]).select(["kind", "size"])
    )
    scores = QUESTIONS["score"](folder)(ROWS)
    assert np.array_equal(scores["log_density"].to_numpy(), model.score_samples(own))
    drawn = QUESTIONS["sample"](folder)(ROWS.select(["row"]).slice(10, 9))
    assert drawn.drop_columns(["row"]).equals(model.sample(9, first=10))


def test_draws_of_numbered_rows_are_those_of_their_part(model: JointEBM) -> None:
    own = ROWS.drop_columns(["row"])
    whole, part = model.impute(own), model.impute(own.slice(30, 20), first=30)
    assert whole.slice(30, 20).equals(part) and part.equals(model.impute(own.slice(30, 20), first=np.arange(30, 50)))
    with pytest.raises(ValueError, match=r"first: got int64 of shape \(3,\), expected the number of the first row, or"):
        model.impute(own, first=np.arange(3))
    with pytest.raises(ValueError, match="first: got int64 of shape"):
        model.impute(own, first=np.arange(len(own)) - 1)


def test_a_batch_gives_a_batch(folder: Path) -> None:
    rows = QUESTIONS["impute"](folder)
    answer = rows(ROWS.combine_chunks().to_batches()[0])
    assert isinstance(answer, pa.RecordBatch) and pa.Table.from_batches([answer]).equals(rows(ROWS))
    empty = rows(
        ROWS.slice(0, 0).combine_chunks().to_reader().read_all().to_batches()
        or pa.RecordBatch.from_pylist([], schema=ROWS.schema)
    )
    assert isinstance(empty, pa.RecordBatch) and len(empty) == 0


def test_the_model_is_loaded_once_per_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = JointEBM.load
    monkeypatch.setattr(rows_module.JointEBM, "load", lambda path: loaded.append(path) or load(path))
    rows_module._loaded.cache_clear()
    rows = QUESTIONS["score"](folder)
    for _ in range(3):
        pickle.loads(pickle.dumps(rows))(ROWS.slice(0, 2))  # noqa: S301
    assert len(loaded) == 1 and len(pickle.dumps(rows)) < 2000  # the model does not travel
    Rows(folder, "score", number="row", num_draws=7)(ROWS.slice(0, 2))
    assert len(loaded) == 2


def _answered(rows: Rows, part: pa.Table) -> pa.Table:
    return rows(part)


@pytest.mark.slow
def test_other_processes_give_the_same_bits(folder: Path) -> None:
    rows = QUESTIONS["impute"](folder)
    parts = [ROWS.slice(first, 25) for first in range(0, len(ROWS), 25)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_answered, [rows] * len(parts), parts))
    assert pa.concat_tables(found).equals(rows(ROWS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": "guess"}, "question: got 'guess', expected 'impute', 'predict'"),
        ({"question": "impute"}, r"number: draws follow row numbers; name a column of them .* or of ids"),
        ({"question": "sample"}, "number: draws follow row numbers"),
        ({"question": "predict"}, "target: name the column to predict"),
        ({"question": "score", "target": "kind"}, "target: is not for 'score'; leave it out"),
        ({"question": "score", "statistic": "median"}, "statistic: is not for 'score'"),
    ],
)
def test_arguments_that_do_not_fit_the_question_are_refused(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rows(folder, **arguments)


def test_a_folder_or_a_column_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder of a model"):
        Rows(tmp_path / "none", "score")
    rows = Rows(folder, "impute", number="row")
    with pytest.raises(ValueError, match="column 'row': the batch lacks it; it has name, size, kind, count"):
        rows(ROWS.drop_columns(["row"]))
    with pytest.raises(ValueError, match="column 'row': holds double, expected whole numbers"):
        rows(ROWS.set_column(0, "row", ROWS["row"].cast(pa.float64())))
    with pytest.raises(ValueError, match="'strange'"):
        rows(ROWS.append_column("strange", ROWS["row"]))
