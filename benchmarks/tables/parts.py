"""Finished parts of a benchmark, in a CSV file: what is there is not done again.

A line is part, method, metric, value, CPU seconds and wall seconds; a part's lines are written at once when it is finished.
CPU seconds count this process and the anchors it started, so they hold on a busy machine, where wall seconds do not.
"""

import csv
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

COLUMNS = ("part", "method", "metric", "value", "cpu_seconds", "wall_seconds")


class Parts:
    """The parts of one benchmark.

    Args:
        path: the CSV file, made if it is not there.
        only: parts whose "part method" does not contain this text are left out; None leaves out none.
    """

    def __init__(self, path: Path, only: str | None = None) -> None:
        self.path, self.only = path, only
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def run(self, part: str, method: str, work: Callable[[], Mapping[str, float]]) -> None:
        """Does a part unless it is done, and writes down what it measured."""
        done = self.table()
        is_done = ((done.part == part) & (done.method == method)).any()
        if is_done or (self.only is not None and self.only not in f"{part} {method}"):
            return
        started = cpu_seconds(), time.perf_counter()
        metrics = work()
        cpu, wall = cpu_seconds() - started[0], time.perf_counter() - started[1]
        lines = [(part, method, name, f"{value:.6g}", f"{cpu:.1f}", f"{wall:.1f}") for name, value in metrics.items()]
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(lines)
        measured = ", ".join(f"{line[2]} {line[3]}" for line in lines)
        print(f"{part} / {method}: {measured} (CPU {cpu:.0f} s, wall {wall:.0f} s)", flush=True)

    def table(self) -> pd.DataFrame:
        """All finished lines."""
        return pd.read_csv(self.path)

    def print_table(self, *, beside: str | None = None) -> None:
        """One line per method and one column per metric for each part; parts whose names start with `beside` go into one
        table, a line per part and a column per method, with the mean of their metric."""
        done = self.table()
        alike = done.part.str.startswith(beside) if beside is not None else done.part.isna()
        for part in done.part[~alike].unique():
            rows = done[done.part == part]
            wide = rows.pivot_table(index="method", columns="metric", values="value", sort=False)
            seconds = rows.groupby("method", sort=False)[["cpu_seconds", "wall_seconds"]].first()
            print(f"\n{part}\n{wide.join(seconds).round(4).to_string()}")
        if alike.any():
            wide = done[alike].pivot_table(index="part", columns="method", values="value", sort=False)
            wide.loc["mean"] = wide.mean(skipna=False)
            seconds = done[alike].groupby("method", sort=False)[["cpu_seconds", "wall_seconds"]].sum()
            print(f"\n{pd.concat([wide, seconds.T]).round(4).to_string()}")


def cpu_seconds() -> float:
    """CPU seconds of this process and of all it started and waited for."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))
