"""Answers over many rows: rows per second and peak memory of one process, and of Ray Data where it is installed.

    python benchmarks/tables/large_answers.py [--rows 1000000] [--question impute] [--actors 1] [--no-ray]

A model of the reference alone is fitted to 20,000 generated rows (large_table.py). The rows asked about are numbered, and
lie in Parquet files. "one process" calls `Rows` batch by batch; Ray hands the same batches to `--actors` actors. The answers
of both are compared, bit for bit. Peak memory is that of the process, or of the largest actor, at a tenth of the rows and at
the end.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from large_table import rows_of

from jointebm.estimators import JointEBM
from jointebm.tables import Rows

ROWS_PER_FILE, BATCH = 50_000, 1024


def write_numbered(folder: Path, num_rows: int) -> None:
    """Writes rows with their numbers."""
    folder.mkdir()
    for first in range(0, num_rows, ROWS_PER_FILE):
        rows = rows_of(first, min(ROWS_PER_FILE, num_rows - first))
        numbers = pa.array(range(first, first + len(rows)))
        pq.write_table(rows.add_column(0, "row", numbers), folder / f"{first:010d}.parquet", row_group_size=10_000)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def one_process(rows: Rows, folder: Path, out: Path, num_rows: int) -> tuple[float, float, float]:
    """Seconds, and peak memory after a tenth of the rows and after all, MB."""
    started, done, early, writer = time.perf_counter(), 0, 0.0, None
    for batch in ds.dataset(folder).to_batches(batch_size=BATCH, batch_readahead=1):
        answer = rows(pa.Table.from_batches([batch]))
        writer = writer or pq.ParquetWriter(out, answer.schema)
        writer.write_table(answer)
        done += len(answer)
        early = early or (peak() if done >= num_rows / 10 else 0.0)
    assert writer is not None
    writer.close()
    return time.perf_counter() - started, early, peak()


class Measured(Rows):
    """`Rows` that notes the peak memory of its process."""

    def __call__(self, batch: Any) -> Any:
        answer = super().__call__(batch)
        return answer.append_column("peak", pa.array([peak()] * len(answer)))


def with_ray(folder: Path, model: Path, question: str, actors: int) -> tuple[float, float, pa.Table]:
    """Seconds, peak memory of the largest actor, and the answers."""
    import ray  # optional

    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=actors + 1, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    started = time.perf_counter()
    answers = ray.data.read_parquet(str(folder)).map_batches(
        Measured,
        fn_constructor_args=(str(model), question),
        fn_constructor_kwargs={"number": "row"},
        batch_format="pyarrow",
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )
    found = pa.concat_tables(ray.get(answers.to_arrow_refs()))
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds, max(found["peak"].to_pylist()), found.drop_columns(["peak"]).sort_by("row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--question", choices=["impute", "score"], default="impute")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, model, out = Path(scratch) / "rows", Path(scratch) / "model", Path(scratch) / "out.parquet"
        write_numbered(folder, options.rows)
        JointEBM(training={"num_visits": 0}, unseen="missing").fit(rows_of(0, 20_000)).save(model)
        print("| engine | rows per second | peak memory, a tenth of the rows | peak memory |\n|---|---|---|---|")
        seconds, early, late = one_process(Rows(model, options.question, number="row"), folder, out, options.rows)
        print(f"| one process | {options.rows / seconds:.0f} | {early:.0f} MB | {late:.0f} MB |", flush=True)
        if not options.no_ray:
            seconds, largest, found = with_ray(folder, model, options.question, options.actors)
            print(f"| Ray, {options.actors} actors | {options.rows / seconds:.0f} | | {largest:.0f} MB |")
            assert found.to_pydict() == pq.read_table(out).sort_by("row").to_pydict()
            print("answers are equal, bit for bit")


if __name__ == "__main__":
    main()
