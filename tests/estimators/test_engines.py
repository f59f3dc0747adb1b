"""The code of docs/scale.md for Ray Data, Dask and Spark gives the answers of one process, bit for bit, on a small table."""

import os
import re
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jointebm.tables import Rows
from support.rows_of_engines import ROWS, save_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # engines warn of their own affairs
REASON = "an engine that is no dependency; pip install it to run this test"
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and rows; other processes find our modules as this one does."""
    save_model(tmp_path / "model")
    (tmp_path / "rows").mkdir()
    for number in range(3):
        pq.write_table(ROWS.slice(40 * number, 40), tmp_path / "rows" / f"{number}.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
    return tmp_path


def run_page(heading: str) -> None:
    """Runs the code below a heading of the page."""
    found = re.search(rf"### {heading}\n.*?```py\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    exec(compile(found[1], f"docs/scale.md, {heading}", "exec"), {"__name__": "page"})  # noqa: S102


def assert_filled(folder: Path) -> None:
    """Engines do not keep the order of rows; the column of their numbers has it."""
    expected = Rows(folder / "model", "impute", number="row")(ROWS)
    found = ds.dataset(folder / "filled", format="parquet").to_table().select(expected.column_names).sort_by("row")
    assert found.to_pydict() == expected.to_pydict()


def test_ray_data(folder: Path) -> None:
    ray = pytest.importorskip("ray", reason=REASON)
    pytest.importorskip("ray.data", reason=REASON)
    environment = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        run_page("Ray Data")
    finally:
        ray.shutdown()
    assert_filled(folder)


def test_dask(folder: Path) -> None:
    dask = pytest.importorskip("dask", reason=REASON)
    pytest.importorskip("dask.dataframe", reason=REASON)
    with dask.config.set(scheduler="threads", num_workers=2):
        run_page("Dask")
    assert_filled(folder)


def test_spark(folder: Path) -> None:
    sql = pytest.importorskip("pyspark.sql", reason=REASON)
    pytest.importorskip("pyspark.sql.pandas.types", reason=REASON)
    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        run_page("Spark")
    finally:
        session.stop()
    assert_filled(folder)
