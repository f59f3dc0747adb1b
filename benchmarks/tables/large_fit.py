"""Fits of tables that are larger than memory: what they cost, and what more rows buy.

    python benchmarks/tables/large_fit.py fit [--rows 1000000] [--max-rows N] [--visits N] [--folder DIR]
    python benchmarks/tables/large_fit.py curve [--rows 100000] [--visits N]

`fit` writes a Parquet data set of generated rows (large_table.py) into a temporary folder, or reads DIR if it is there, fits
it in chunks, and prints CPU and wall-clock seconds and the peak memory after each pass and after the fit. `curve` prints the
mean log-likelihood of 2,000 new rows by the number of rows that are trained on. `--visits 0` leaves the density at the
reference.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from large_table import rows_of, write_large_table

from jointebm.estimators import JointEBM, coded_rows

NEW_ROWS, FIRST_NEW = 2_000, 10**9
SIZES = [2**power for power in range(10, 18)]


class Clock:
    """Prints what has passed since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def show(self, what: str) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"| {what} | {cpu:.1f} | {wall:.1f} | {peak:.0f} MB |", flush=True)


def fit(folder: Path, estimator: JointEBM) -> None:
    """Fits a folder, and prints what each pass costs."""
    clock = Clock()
    print("| until after | CPU seconds | seconds | peak memory |\n|---|---|---|---|")
    passed: Callable[..., Any] = coded_rows.folded

    def shown(*arguments: Any, **options: Any) -> Any:
        result = passed(*arguments, **options)
        clock.show("a pass")
        return result

    coded_rows.folded = shown  # type: ignore[assignment]
    model = estimator.fit(folder)
    clock.show("the fit")
    print(f"{model.num_rows_} rows; relations: {', '.join(map(str, model.relations_)) or 'none'}")


def curve(num_rows: int, training: dict[str, Any]) -> None:
    """Prints the likelihood of new rows by the rows of the sample."""
    new, table = rows_of(FIRST_NEW, NEW_ROWS), rows_of(0, num_rows)
    print(
        "| rows trained on | log-likelihood of new rows, nats | its standard error | CPU seconds |\n|---|---|---|---|"
    )
    for size in (size for size in SIZES if size <= num_rows):
        started = time.process_time()
        model = JointEBM(training=training, max_rows=size, unseen="missing", relations=None).fit(table)
        scores = model.score_samples(new)
        error = np.std(scores) / np.sqrt(len(scores))
        print(f"| {size:,} | {scores.mean():.2f} | {error:.2f} | {time.process_time() - started:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "curve"])
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--max-rows", type=int, default=JointEBM().max_rows)
    parser.add_argument("--visits", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = {} if options.visits is None else {"num_visits": options.visits}
    if options.what == "curve":
        curve(options.rows or 100_000, training)
        return
    estimator = JointEBM(training=training or None, max_rows=options.max_rows, verbose=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "rows"
        if not folder.exists():
            write_large_table(folder, options.rows or 1_000_000)
        fit(folder, estimator)


if __name__ == "__main__":
    main()
