"""Rows of a table model: those of `JointEBM.sample`, which the copied lines draw again."""

import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jointebm import JointEBM
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.watch.json_tables import lists_of_columns, lists_of_frame
from jointebm.watch.opened_models import OpenedModel
from jointebm.watch.packed_frames import unpack_frame
from jointebm.watch.table_bars import ColumnBars
from jointebm.watch.table_chains import TableChains
from support.command_line import run
from support.pet_table import MODELLED
from support.watched import run_text

GIVENS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a value": {"income": ">50K", "count": 11},
    "levels and an interval": {"income": ["<=50K", ">50K"], "size": {"low": 20, "high": 40.5}, "indoors": False},
    "times": {"born": {"low": "2020-02-01", "high": None}, "code": "007"},
}


@pytest.fixture
def rows(pets: OpenedModel) -> TableChains:
    return TableChains(pets.model, source=pets.source, rows=None)


@pytest.mark.parametrize("given", GIVENS)
def test_the_copied_lines_draw_the_same_rows(rows: TableChains, given: str, tmp_path: Path) -> None:
    rows.restart(start="", seed=3, row=0)
    rows.clamp(GIVENS[given])
    rows.step()
    rows.step()
    shown = unpack_frame(rows.frame(with_probs=False))[0]["rows"]
    copied = rows.copied()
    assert lists_of_frame(run_text(copied["python"], tmp_path)["rows"]) == shown
    command, _, tail = copied["shell"].partition(" | ")
    result = run(*shlex.split(command)[1:])
    assert (result.code, tail) == (0, "tail -n 16\n")
    printed = pd.read_csv(io.StringIO(result.out), dtype=str, keep_default_na=False).tail(16)
    for name in ("income", "city", "code", "born"):
        assert printed[name].tolist() == [str(value) for value in shown[name]]
    assert np.allclose(printed["size"].astype(float), shown["size"])


def test_given_values_stay_and_log_p_is_that_of_the_model(rows: TableChains, pets: OpenedModel) -> None:
    rows.clamp({"income": ">50K", "size": {"low": 25.0, "high": None}})
    for _ in range(3):
        rows.step()
        header, arrays = unpack_frame(rows.frame(with_probs=False))
        assert set(header["rows"]["income"]) == {">50K"}
        assert min(header["rows"]["size"]) >= 25.0
    frame = pets.model.sample(16, given={"income": ">50K", "size": (25.0, None)}, seed=0, first=48)
    assert np.allclose(arrays["f"], pets.model.score_samples(frame), atol=1e-4)


def test_a_question_is_answered_by_the_conditionals_of_the_model(rows: TableChains, pets: OpenedModel) -> None:
    model: JointEBM = pets.model
    rows.clamp({"income": ">50K", "size": 30.0, "count": {"low": 5, "high": None}})
    found = rows.question().answer()
    assert found["bars"].keys() == set(MODELLED) - {"income", "size"}
    empty = pd.DataFrame({"indoors": pd.array([None], dtype="boolean")})
    given = {"income": ">50K", "size": 30.0, "count": (5, None)}
    assert np.allclose(found["bars"]["indoors"], model.predict_proba(empty, "indoors", given=given)[0])
    both = pd.DataFrame({"income": [">50K"], "size": [30.0]})
    for name in ("income", "size"):
        expected = model.conditional_log_score(both, name)[0, 0] - model.score_samples(both[[name]])[0]
        assert abs(found["dependence"][name] - expected) < 1e-5
    assert abs(found["log_prob"] - model.score_samples(both)[0]) < 1e-5


def test_what_is_given_of_a_cell_is_no_evidence_about_it(rows: TableChains) -> None:
    free = rows.question().answer()["bars"]["count"]
    rows.clamp({"count": {"low": 5, "high": None}})
    assert rows.question().answer()["bars"]["count"] == free


def test_bars_of_a_column_hold_all_of_it(pets: OpenedModel) -> None:
    model: JointEBM = pets.model
    drawn = model.draw(400, given={}).value
    for coded in model.codec_.columns:
        if isinstance(coded.codec, IgnoredCodec):
            continue
        bars = ColumnBars(coded)
        assert np.allclose(bars.shares_of_codes.sum(axis=1), 1)
        counts = bars.counts(drawn[coded.name])
        assert counts.sum() == 400
        codes = coded.codec.encode(drawn[coded.name].values)
        expected = np.bincount(codes, minlength=coded.codec.num_codes) @ bars.shares_of_codes
        spread = np.sqrt(np.maximum(expected, 1))
        assert (np.abs(counts - expected) < 6 * spread + 1).all(), coded.name  # false alarm below 1e-7 of a bar


def test_a_row_of_the_data_fills_the_fields(pets: OpenedModel) -> None:
    drawn = pets.model.draw(5, given={}).value
    rows = TableChains(pets.model, source=pets.source, rows=drawn)
    assert rows.view()["num_rows"] == 5
    expected = {name: values[4] for name, values in lists_of_columns(drawn).items()}
    assert rows.row_values(4) == expected
    rows.clamp({name: value for name, value in expected.items() if name in MODELLED})
    assert all(
        set(values) == {expected[name]}
        for name, values in unpack_frame(rows.frame(with_probs=False))[0]["rows"].items()
        if name in MODELLED
    )
    with pytest.raises(ValueError, match="5 rows"):
        rows.row_values(5)


@pytest.mark.parametrize(
    "given",
    [
        *({"colour": 1}, {"name": "pet 3"}, {"income": "rich"}, {"size": "large"}, {"size": {"low": 5, "high": 1}}),
        *({"size": {"low": 1}}, {"size": {"low": 900, "high": 1000}}, {"born": "yesterday"}, {"income": []}),
        *({"size": [[1]]}, {"income": None}, {"size": {"low": [], "high": {}}}, {"count": 1e300}),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(rows: TableChains, given: dict[str, Any]) -> None:
    rows.clamp({"income": ">50K"})
    before = rows.copied()
    with pytest.raises((ValueError, TypeError)):
        rows.clamp(given)
    assert rows.copied() == before
