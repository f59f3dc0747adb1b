"""A fitted model of a table for the tests of commands."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.command_line import run
from support.pet_table import QUICK, TABLE
from support.ranks import CONTEXT, start_server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table.csv, table.parquet, and `model` that was fitted to the first."""
    folder = tmp_path_factory.mktemp("tables")
    TABLE.to_csv(folder / "table.csv", index=False)
    pq.write_table(pa.Table.from_pandas(TABLE, preserve_index=False), folder / "table.parquet", row_group_size=40)
    result = run("fit", folder / "table.csv", "--out", folder / "model", *QUICK, "--json")
    assert result.code == 0, result.err
    assert (result.json["rows"], result.json["log_score"]) == (150, None)
    held = {column["name"]: (column["holds"], column["kind"]) for column in result.json["columns"]}
    assert held == {
        "name": ("label", "ignored"),
        "size": ("real", "number"),
        "count": ("whole", "number"),
        "income": ("label", "category"),
        "indoors": ("boolean", "category"),
        "born": ("time", "number"),
        "city": ("label", "category"),
        "code": ("label", "category"),
        "one": ("label", "category"),
        "empty": ("label", "ignored"),
    }
    return folder


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forks of a warm server, instead of new interpreters that import everything for seconds."""

    def get_context(method: str) -> object:
        assert method == "spawn"
        return CONTEXT

    start_server()
    monkeypatch.setattr("jointebm.cli.tables.workers.multiprocessing.get_context", get_context)
