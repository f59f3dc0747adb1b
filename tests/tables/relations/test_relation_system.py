"""Rows go to the columns of the model and back."""

import numpy as np
import pandas as pd
import pytest

from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import read_frame
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.found_relations import find_relations
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.relations.work_table import missing_in_any
from support.related_tables import related_table

TABLE = read_frame(related_table(1500, seed=1)).table
FOUND = find_relations(TABLE, ("auto",), kinds={}, max_bins=48, max_levels=64)
assert FOUND is not None
SYSTEM = FOUND.system()
assert SYSTEM is not None


def agree(one: Column, two: Column) -> bool:
    if one.role == "real":
        return bool(np.allclose(one.values, two.values, rtol=0, atol=1e-12))
    return bool((one.values == two.values).all())


def test_the_columns_of_the_model_give_the_whole_row_back() -> None:
    work = SYSTEM.open(TABLE, 1500)
    back = SYSTEM.close(SYSTEM.of_model(work), 1500)
    for name, column in TABLE.items():
        assert not back[name].is_missing.any() and agree(back[name], column), name
    assert len(SYSTEM.codec.names) == len(TABLE) - 10 + 3  # ten are rebuilt; two gaps and a combination
    assert not SYSTEM.broken(work).any() and not SYSTEM.refused(work).any()


def test_grids_give_the_same_bits_back() -> None:
    back = SYSTEM.close(SYSTEM.of_model(SYSTEM.open(TABLE, 1500)), 1500)
    assert (back["gross"].values == TABLE["gross"].values).all()  # not a sum of floats, the float of its decimals


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_determined_is_filled_in_and_right(seed: int) -> None:
    generator = np.random.default_rng(seed)
    hidden = {name: column._replace(is_missing=generator.random(1500) < 0.4) for name, column in TABLE.items()}
    work = SYSTEM.open(hidden, 1500)
    num_filled = 0
    for name, column in TABLE.items():
        filled = hidden[name].is_missing & ~work[name].is_missing
        rows = np.flatnonzero(filled)
        some = Column(column.role, work[name].values[rows], filled[rows])
        assert agree(some, Column(column.role, column.values[rows], filled[rows])), name
        num_filled += len(rows)
    assert num_filled > 2000 and missing_in_any(work, TABLE).any()


def test_a_system_is_plain_data() -> None:
    assert RelationSystem.model_validate_json(SYSTEM.model_dump_json()) == SYSTEM


def test_rows_that_contradict_a_relation_are_found() -> None:
    rows = related_table(1500, seed=1).head(8)
    rows.loc[0, "city"] = "city 7"
    rows.loc[1, "gross"] += 1
    rows.loc[2, "end"] = rows.loc[2, "start"]
    rows.loc[3, "job"] = rows.loc[3, "dep"].replace("dep", "job") if rows.loc[3, "dep"] != "dep 0" else "job 1"
    rows.loc[4, "copy"] += 1
    rows.loc[5, "r"] += 0.1
    rows.loc[6, "high"] = -1
    broken = SYSTEM.broken(SYSTEM.open(read_frame(rows).table, 8))
    assert broken.tolist() == [True] * 7 + [False]


def test_rare_levels_of_a_key_keep_what_they_determine() -> None:
    generator = np.random.default_rng(0)
    places = generator.integers(0, 300, 3000)
    table = pd.DataFrame({"zip": [f"z{i}" for i in places], "city": [f"c{i % 7}" for i in places]})
    found = find_relations(read_frame(table).table, ("auto",), kinds={}, max_bins=48, max_levels=20)
    assert found is not None
    system = found.system()
    assert system is not None
    assert [str(each) for each in system.listed] == ["zip -> city"]
    (codec,) = (each.codec for each in system.codec.columns)
    cities = {level: f"c{int(level[1:]) % 7}" for level in codec.levels}
    assert codec.num_codes == 19 + 7  # frequent levels, and the rare ones of each city
    for code in range(codec.num_codes):
        members = {cities[level] for level, of in zip(codec.levels, codec.code, strict=True) if of == code}
        assert len(members) == 1
    weights = np.bincount(codec.code, codec.weight)
    assert np.allclose(weights, 1)


def test_a_difference_of_nothing_is_no_negative_zero() -> None:
    zero = Column("real", np.zeros(2), np.zeros(2, dtype=bool))
    for missing in ("a", "total"):
        work = {name: zero._replace(values=np.zeros(2), is_missing=np.zeros(2, dtype=bool)) for name in ("a", "total")}
        work[missing] = work[missing]._replace(is_missing=np.ones(2, dtype=bool))
        balance = Balance(terms=("a", "total"), signs=(1, -1), rebuilt="total", decimals=None)
        assert balance.deduce(work) and not np.signbit(work[missing].values).any()
