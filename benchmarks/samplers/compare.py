"""Compares kernels with samplers of other libraries on densities with known answers, by effective samples per CPU second.

Every sampler runs 100 chains (PyMC 4, one after another) in a process of its own on one thread, gets one warm-up of 500
steps, and then windows of the same CPU time, in turn with the others. The effective sample size is ours
(`jointebm.sampling.effective_draws`) for all, of the least well known quantity. "stuck" marks a sampler whose chains
disagree (split R-hat above 1.2) or never change a quantity: its number is the floor that chains which never move have,
too. Compiling and warm-up count as "ready", not as sampling.

    python benchmarks/samplers/compare.py [TARGET ...] --peers PEERS/bin/python [--seconds 1] [--rounds 3]
        [--libraries NAME ...] [--out RESULTS.json]

PEERS is made as `requirements.txt` says. Prints one line per sampler, then the table of ratios. Targets that RESULTS.json
has already are not run again: delete the file, or name another, to start afresh. Messages of a worker that failed are
printed.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sampler_targets import TARGETS, Mixed, Pairwise, toy
from sampler_truths import truth_of

from jointebm import load
from jointebm.sampling import effective_draws, split_r_hat

HERE = Path(__file__).parent
CHROMATIC, CLUSTERS = ("jointebm", "ChromaticGibbs"), ("jointebm", "SwendsenWang")
GIBBS = ("thrml", "block Gibbs")
GRADIENTS, PYMC = ("ebmkit", "Gibbs-with-Gradients"), ("pymc", "BinaryGibbsMetropolis")
REALS = (
    ("jointebm", "Gibbs, MALA"),
    ("jointebm", "ShiftedGibbs, MALA"),
    ("jointebm", "Jump, MALA"),
    ("numpyro", "NUTS, y summed out"),
    ("numpyro", "MixedHMC"),
    ("blackjax", "NUTS, y summed out"),
    ("blackjax", "HMC(5) and Gibbs"),
    ("ebmkit", "AdaptiveMALA, y summed out"),
    ("ebmkit", "ParallelTempering, y summed out"),
    ("torchebm", "HMC(5), y summed out"),
)
ENTRIES: dict[str, tuple[tuple[str, str], ...]] = {
    "ising-10-.2": (CHROMATIC, ("jointebm", "DMALA"), GIBBS, GRADIENTS, PYMC),
    "ising-10-.4": (CHROMATIC, CLUSTERS, GIBBS, GRADIENTS),
    "ising-10-.55": (CHROMATIC, CLUSTERS, GIBBS, GRADIENTS),
    "ising-30-.44": (CHROMATIC, CLUSTERS, GIBBS),
    "potts-.8": (CHROMATIC, CLUSTERS, GIBBS, GRADIENTS),
    "potts-1.1": (CHROMATIC, CLUSTERS, GIBBS),
    "ragged": (CHROMATIC, GIBBS),
    "rbm": (CHROMATIC, GIBBS, ("ebmkit", "block Gibbs"), PYMC),
    "dense-16": (CHROMATIC, ("jointebm", "DMALA"), GIBBS, GRADIENTS, PYMC),
    "dense-16-strong": (CHROMATIC, GIBBS, GRADIENTS),
    "potts-fields": (CHROMATIC, GIBBS, GRADIENTS),
    "fhmm": (CHROMATIC, GIBBS, GRADIENTS),
    "gaussians-overlapping": REALS,
    "gaussians-apart": REALS,
    "conditional": (
        ("jointebm", "Gibbs, HMC"),
        ("jointebm", "Gibbs sweep, HMC"),
        ("numpyro", "MixedHMC"),
        ("numpyro", "HMC within Gibbs"),
        ("blackjax", "HMC(5) and Gibbs"),
        ("blackjax", "HMC(15) and Gibbs"),
    ),
    "toy": tuple(each for each in REALS if each[1] != "ShiftedGibbs, MALA"),
}
MAX_SETUP = 600.0  # wall seconds
STUCK = 1.2


@dataclass
class Entry:
    """A running sampler and what it has done."""

    library: str
    sampler: str
    process: "subprocess.Popen[str]"
    errors: Path
    ready: float = 0.0
    rates: list[float] = field(default_factory=list)  # least ESS per CPU second of each window
    kept: list[dict[str, np.ndarray]] = field(default_factory=list)
    failure: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=list(ENTRIES))
    parser.add_argument(
        "--peers", type=Path, help="python of the environment with the peers; without it ours alone run"
    )
    parser.add_argument("--libraries", nargs="*", help="run these alone")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for all results")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.out is not None and arguments.out.exists():
        rows = json.loads(arguments.out.read_text())
    done = {row["key"] for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "toy.npz", **toy_arrays())
        for key in (key for key in arguments.targets if key not in done):
            rows += of_target(key, arguments, folder)
            if arguments.out is not None:
                arguments.out.write_text(json.dumps(rows, indent=1))
    print("\n" + table(rows))


def toy_arrays() -> dict[str, np.ndarray]:
    """The weights of `pretrained:toy`."""
    tensors = {**dict(load("pretrained:toy").named_parameters()), **dict(load("pretrained:toy").named_buffers())}
    wanted = {
        name: name.split("residual.")[-1].split("products.")[-1] for name in tensors if name.startswith("energy.")
    }
    return {short: tensors[name].detach().numpy() for name, short in wanted.items()}


def of_target(key: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Runs all samplers of a target, each for one window in turn, and prints a line for each."""
    target = toy(dict(np.load(folder / "toy.npz"))) if key == "toy" else TARGETS[key]()
    print(f"\n{target.name}", flush=True)
    entries = []
    for library, sampler in ENTRIES[key]:
        if (library != "jointebm" and arguments.peers is None) or library not in (arguments.libraries or [library]):
            continue
        python = sys.executable if library == "jointebm" else str(arguments.peers)
        errors = folder / f"{key}-{len(entries)}.txt"
        command = [library, key, sampler, "--weights", str(folder / "toy.npz")]
        entry = Entry(library, sampler, started(python, command, errors), errors)
        answer = answer_of(entry, MAX_SETUP)
        entry.ready = answer.get("ready", 0.0)
        print(f"  {library} {sampler}: {entry.failure or f'ready after {entry.ready:.0f} CPU s'}", flush=True)
        entries.append(entry)
    for _ in range(arguments.rounds):
        for entry in entries:
            if entry.failure:
                continue
            file = folder / f"{key}.npz"
            print(f"{arguments.seconds} {file}", file=entry.process.stdin, flush=True)
            answer = answer_of(entry, 60 * arguments.seconds + 60)
            if not entry.failure:
                states = dict(np.load(file))
                entry.rates.append(least_ess(states) / answer["cpu"])
                entry.kept.append({name: value[:: max(1, len(value) // 500)] for name, value in states.items()})
    rows = [{"key": key, **row_of(target, entry)} for entry in entries]
    for entry, row in zip(entries, rows, strict=True):
        entry.process.kill()
        entry.process.wait()
        print(line_of(row), flush=True)
    return rows


def started(python: str, arguments: list[str], errors: Path) -> "subprocess.Popen[str]":
    """A worker on one thread, with what it complains about in a file."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    command = [python, str(HERE / "sampler_worker.py"), *arguments]
    with errors.open("w") as file:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=environment
        )


def answer_of(entry: Entry, seconds: float) -> dict[str, Any]:
    """The next line of JSON of a worker; notes a failure if none comes in time."""
    assert entry.process.stdout is not None
    ready, _, _ = select.select([entry.process.stdout], [], [], seconds)
    line = entry.process.stdout.readline() if ready else ""
    if not line.startswith("{"):
        last = (entry.errors.read_text().strip().splitlines() or ["no message"])[-1]
        entry.failure = f"failed: {last:.200}" if ready else f"no answer in {seconds:.0f} s"
        entry.process.kill()
        return {}
    return json.loads(line)


def least_ess(states: dict[str, np.ndarray]) -> float:
    """Effective draws of the least well known quantity; quantities that never change count as none."""
    each = [effective_draws(torch.tensor(value, dtype=torch.float64)) for value in states.values()]
    return min(0.0 if np.isnan(ess) else ess for ess in each)


def row_of(target: Pairwise | Mixed, entry: Entry) -> dict[str, Any]:
    """What is known of an entry after all windows."""
    row: dict[str, Any] = {
        "target": target.name,
        "library": entry.library,
        "sampler": entry.sampler,
        "ready": entry.ready,
    }
    if entry.failure or not entry.kept:
        return row | {"failure": entry.failure or "not run"}
    joined = {name: np.concatenate([each[name] for each in entry.kept]) for name in entry.kept[0]}
    truth = truth_of(target)
    errors = [
        abs(float(joined[name].mean()) - mean) / max(float(joined[name].std()), 1e-3) for name, mean in truth.items()
    ]
    r_hat = max(split_r_hat(torch.tensor(value)) for value in joined.values())
    return row | {"rates": entry.rates, "error": max(errors), "r_hat": r_hat}


def is_stuck(row: dict[str, Any]) -> bool:
    """Whether chains disagree, or none of them ever changed some quantity."""
    return row["r_hat"] > STUCK or max(row["rates"]) == 0


def line_of(row: dict[str, Any]) -> str:
    name = f"  {row['library']:<9} {row['sampler']:<32}"
    if "failure" in row:
        return f"{name} {row['failure']}"
    stuck = "  stuck" if is_stuck(row) else ""
    low, high = min(row["rates"]), max(row["rates"])
    return (
        f"{name} {median(row['rates']):10.0f} ESS/s ({low:.0f} to {high:.0f})  error {row['error']:.3f} sd  "
        f"R-hat {row['r_hat']:.2f}  ready {row['ready']:.0f} s{stuck}"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Ours against the best peer that is not stuck, as Markdown."""
    lines = [
        "| target | ours | ESS/s | best peer | ESS/s | ratio (range) |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["target"] for row in rows):
        own = best([row for row in rows if row["target"] == name and row["library"] == "jointebm"])
        peer = best([row for row in rows if row["target"] == name and row["library"] != "jointebm"])
        ratio = "-"
        if own and peer and (is_stuck(own) or is_stuck(peer)):
            ratio = "not compared"
        elif own and peer:
            each = [a / b for a, b in zip(own["rates"], peer["rates"], strict=True)]
            middle = median(own["rates"]) / median(peer["rates"])
            ratio = f"{short(middle)} ({short(min(each))}-{short(max(each))})"
        lines.append(f"| {name} | {shown(own)} | {shown_peer(peer)} | {ratio} |")
    return "\n".join(lines)


def short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest; of stuck ones only if all are."""
    run = [row for row in rows if "rates" in row]
    free = [row for row in run if not is_stuck(row)]
    return max(free or run, key=lambda row: median(row["rates"]), default=None)


def shown(row: dict[str, Any] | None) -> str:
    if row is None:
        return "- | -"
    stuck = ", stuck" if is_stuck(row) else ""
    return f"{row['sampler']}{stuck} | {median(row['rates']):.0f}"


def shown_peer(row: dict[str, Any] | None) -> str:
    return shown(row) if row is None else f"{row['library']}, {shown(row)}"


if __name__ == "__main__":
    main()
