"""Soak: a million rows imputed while workers are killed; nothing is lost, and nothing is answered twice.

JOINTEBM_SOAK_ROWS is the number of rows, 1,000,000 by default. Without Ray, a pool of processes answers parts of the rows as
a job array does; a part whose process was killed is asked again.
"""

import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jointebm.tables import Rows
from support.rows_of_engines import save_model
from support.soaked_rows import NUM_ROWS, ROWS_PER_PART, DiesOnce, fill, part_of

NUM_WORKERS = 2
QUIET = (5.0, 60.0)  # seconds between kills


def assert_every_row_once(folder: Path) -> None:
    found = ds.dataset(folder / "filled", format="parquet").to_table().sort_by("row")
    assert found["row"].to_pylist() == list(range(NUM_ROWS))
    rows = Rows(folder / "model", "impute", number="row")
    for number in {0, (NUM_ROWS - 1) // ROWS_PER_PART // 2, (NUM_ROWS - 1) // ROWS_PER_PART}:
        expected = rows(part_of(number))
        asked = found.slice(number * ROWS_PER_PART, len(expected)).select(expected.column_names)
        assert asked.to_pydict() == expected.to_pydict()


@pytest.mark.soak
def test_a_pool_whose_workers_are_killed_answers_every_row_once(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    (tmp_path / "filled").mkdir()
    choose, context = random.Random(0), get_context("spawn")
    waiting, running, num_kills = list(range(-(-NUM_ROWS // ROWS_PER_PART))), dict[int, Any](), 0
    next_kill = time.monotonic() + choose.uniform(*QUIET)
    while waiting or running:
        while waiting and len(running) < NUM_WORKERS:
            number = waiting.pop()
            running[number] = context.Process(target=fill, args=(tmp_path, number), daemon=True)
            running[number].start()
        if time.monotonic() > next_kill:
            os.kill(choose.choice(list(running.values())).pid, signal.SIGKILL)
            num_kills, next_kill = num_kills + 1, time.monotonic() + choose.uniform(*QUIET)
        for number, process in list(running.items()):
            if not process.is_alive():
                del running[number]
                if process.exitcode:
                    assert process.exitcode == -signal.SIGKILL
                    waiting.append(number)
        time.sleep(0.01)
    assert num_kills > 0
    assert_every_row_once(tmp_path)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_ray_answers_every_row_once_though_a_worker_is_killed(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="an engine that is no dependency; pip install it to run this test")
    pytest.importorskip("ray.data")
    save_model(tmp_path / "model")
    (tmp_path / "rows").mkdir()
    for number in range(-(-NUM_ROWS // ROWS_PER_PART)):
        pq.write_table(part_of(number), tmp_path / "rows" / f"{number}.parquet")
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parents[1] / "src"), str(here.parent)])
    mark = tmp_path / "killed"
    environment = {"env_vars": {"PYTHONPATH": paths, "JOINTEBM_SOAK_MARK": str(mark)}}
    ray.init(num_cpus=NUM_WORKERS + 1, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        ray.data.read_parquet(str(tmp_path / "rows")).map_batches(
            DiesOnce,
            fn_constructor_args=(str(tmp_path / "model"), "impute"),
            fn_constructor_kwargs={"number": "row"},
            batch_format="pyarrow",
            batch_size=1024,
            compute=ray.data.ActorPoolStrategy(size=NUM_WORKERS),
        ).write_parquet(str(tmp_path / "filled"))
    finally:
        ray.shutdown()
    assert mark.exists()
    assert_every_row_once(tmp_path)
