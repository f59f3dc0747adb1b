"""Shared by all table benchmarks: options, finished parts, and the report."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from parts import Parts


def run_benchmark(
    doc: str, name: str, measure: Callable[[argparse.Namespace, Parts], None], argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Measures the unfinished parts (none with `--report`), prints all parts as Markdown, and returns the options."""
    arguments = arguments_of(doc, argv)
    parts = Parts(arguments.out / f"{name}.csv", arguments.only)
    if not arguments.report:
        measure(arguments, parts)
    print(parts.report())
    return arguments


def arguments_of(doc: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options shared by all benchmarks; sets the number of threads."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("JOINTEBM_DATA", "../shared/data")) / "tables"
    parser.add_argument("--data", type=Path, default=data, help="folder with the .csv.gz tables")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="folder of finished parts and models")
    parser.add_argument(
        "--anchors", type=Path, default=None, help="python of the environment of the anchors; without it none run"
    )
    parser.add_argument("--only", default=None, help="parts whose name contains this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=200, help="of simulated tables, in coverage.py")
    parser.add_argument("--report", action="store_true", help="print the finished parts and measure nothing")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    return arguments
