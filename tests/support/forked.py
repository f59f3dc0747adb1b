"""Runs commands on malformed files in forks of one process, with limits, and measures them.

PYTHONPATH=tests python tests/support/forked.py FOLDER    prints one line of JSON for each case
"""

import contextlib
import io
import json
import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from jointebm.cli import main
from support.malformed import COMMANDS, cases, write_good


class Outcome(NamedTuple):
    """Exit code (negative: a signal), output, errors, seconds, and peak memory above that of the process before."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


def run_forked(folder: Path, words: list[str]) -> Outcome:
    """Runs a command in a copy of this process, so that its memory can be told apart and its crash does no harm."""
    report, answer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            with os.fdopen(answer, "w") as file:
                json.dump(_run_limited(folder, words), file)
        finally:
            os._exit(0)
    os.close(answer)
    with os.fdopen(report) as file:
        text = file.read()
    _, status = os.waitpid(process, 0)
    return Outcome(*json.loads(text)) if text else Outcome(-(status & 0x7F), "", "a signal", math.inf, math.inf)


def _run_limited(folder: Path, words: list[str]) -> Outcome:
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    room = (kilobytes("VmSize") << 10) + (8 << 30)  # a file of 3 GB may be mapped twice
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    before, started = kilobytes("VmRSS"), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is no exit code 2
            code = 70
            err.write(f"{type(error).__name__}: {str(error)[:1000]}\n")
    seconds = time.perf_counter() - started
    return Outcome(code, out.getvalue(), err.getvalue(), seconds, (kilobytes("VmHWM") - before) / 1000)


def kilobytes(field: str) -> int:
    """A field of this process's memory; a fork starts with a peak of its own."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1])


def run_all(root: Path) -> None:
    torch.set_num_threads(1)
    warm = root / "good"
    write_good(warm)
    os.chdir(warm)
    with contextlib.redirect_stdout(io.StringIO()):  # imports what is imported late
        codes = [main(COMMANDS[reader].split()) for reader in ("config", "values", "given", "run")]
    assert codes == [0, 0, 0, 0], codes
    for number, case in enumerate(cases()):
        case.put(root / str(number))
        outcome = run_forked(root / str(number), COMMANDS[case.reader].split())
        print(json.dumps([case.reader, case.name, outcome]), flush=True)  # noqa: T201  # read by test_hostile_files


if __name__ == "__main__":
    run_all(Path(sys.argv[1]).absolute())
