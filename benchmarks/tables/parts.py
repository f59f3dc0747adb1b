"""Finished parts of a benchmark in a CSV file: they are not run again, and `--report` prints them as Markdown.

A line is part, method, metric, value, CPU seconds and wall seconds; a part's lines are written at once when it is finished.
CPU seconds count this process and the anchors it started, so they hold on a busy machine, where wall seconds do not.
"""

import csv
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

COLUMNS = ("part", "method", "metric", "value", "cpu_seconds", "wall_seconds")
SECONDS = ["cpu_seconds", "wall_seconds"]


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
        """Runs a part unless it is finished, and appends its metrics and their values."""
        self.run_together([part], method, lambda: {part: work()})

    def run_together(
        self, parts: Sequence[str], method: str, work: Callable[[], Mapping[str, Mapping[str, float]]]
    ) -> None:
        """Runs parts that share their work, and splits the seconds equally."""
        done = self.table()
        is_done = set(parts) <= set(done.part[done.method == method])
        is_left_out = self.only is not None and not any(self.only in f"{part} {method}" for part in parts)
        if is_done or is_left_out:
            return
        started = cpu_seconds(), time.perf_counter()
        measured = work()
        spent = cpu_seconds() - started[0], time.perf_counter() - started[1]
        seconds = [f"{each / len(parts):.2f}" for each in spent]
        lines = [
            (part, method, metric, f"{value:.6g}", *seconds)
            for part, metrics in measured.items()
            for metric, value in metrics.items()
        ]
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(lines)
        for part, _, metric, value, cpu, wall in lines:
            print(f"{part} / {method}: {metric} {value} (CPU {cpu} s, wall {wall} s)", flush=True)

    def table(self) -> pd.DataFrame:
        """All finished lines."""
        return pd.read_csv(self.path)

    def report(self) -> str:
        """A Markdown table for each group of parts, named by their text before the colon.

        A line per part and method and a column per metric; if several methods have one metric in all parts, a line per part
        and a column per method, with the mean of that metric.
        """
        done = self.table()
        groups = done.part.str.split(": ").str[0]
        return "\n\n".join(
            f"**{name}**\n\n{_markdown(_of_group(rows))}" for name, rows in done.groupby(groups, sort=False)
        )


def cpu_seconds() -> float:
    """CPU seconds of this process and of its finished children."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _of_group(rows: pd.DataFrame) -> pd.DataFrame:
    """One group of parts in the report."""
    rows = rows.assign(part=rows.part.str.split(": ").str[1:].str.join(": "))
    if rows.metric.nunique() == 1 and rows.part.nunique() > 1 and rows.method.nunique() > 1:
        wide = rows.pivot_table(index="part", columns="method", values="value", sort=False)
        wide.loc["mean"] = wide.mean(skipna=False)
        return pd.concat([wide, rows.groupby("method", sort=False)[SECONDS].sum().T])
    wide = rows.pivot_table(index=["part", "method"], columns="metric", values="value", sort=False)
    wide = wide.join(rows.groupby(["part", "method"], sort=False)[SECONDS].first()).reset_index()
    wide.index = pd.Index([f"{part}, {method}" if part else method for part, method in wide[["part", "method"]].values])
    return wide.drop(columns=["part", "method"])


def _markdown(table: pd.DataFrame) -> str:
    """Seconds to a tenth, all else to three decimals; empty if not measured."""
    lines = [["", *(name.replace("_", " ") for name in table)], ["---"] * (table.shape[1] + 1)]
    for label, row in table.iterrows():
        digits = [1 if label in SECONDS or name in SECONDS else 3 for name in table]
        cells = ["" if pd.isna(value) else f"{value:.{places}f}" for value, places in zip(row, digits, strict=True)]
        lines.append([label.replace("_", " "), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
