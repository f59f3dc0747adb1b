"""Two processes on two cores against one: iterations per second of training, in turn in one run.

    python benchmarks/two_processes.py --data DIR [--rounds 5] [--seconds 10]

All processes have one thread and stay loaded; while one side works the other waits. A round is some seconds of one process
and the same number of iterations of two, whose batches, chains and buffers together are those of the one. Printed are
medians over rounds: iterations per second of one process and of two, and CPU seconds per iteration of the one and of the
busier of the two. On busy cores the ratio of speeds says nothing; that of CPU seconds is what it would be if no process
waited for the other.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from jointebm import Trainer, recipes
from jointebm.data.registry import open_dataset
from jointebm.runs.training_run import initial_model
from jointebm.training.process_group import processes

RECIPES = ("toy_paper", "mnist")
WARM_UP = 3  # iterations that are not timed


def work(name: str, data: Path | None, rank: int | None, meeting: str, orders: Connection) -> None:
    """A process: does as many iterations as it is told, and answers with the CPU seconds that they took."""
    torch.set_num_threads(1)
    if rank is not None:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    recipe = getattr(recipes, name)()
    dataset = open_dataset(recipe.data, data)
    with processes("cpu", meeting=meeting) as world:
        model = initial_model(recipe, dataset, seed=0)
        rows = dataset.part(world.rank, world.size)
        trainer = Trainer(
            model.energy,
            dataset.space,
            rows.rows,
            kernel=model.kernel,
            config=recipe.train,
            seed=0,
            labelled=dataset.labelled,
            device="cpu",
            world=world,
        )
        orders.send(recipe.train.batch_size)
        while num := orders.recv():
            before = time.process_time()
            for _ in range(num):
                trainer.step()
            orders.send(time.process_time() - before)


def started(name: str, data: Path | None, meeting: str, ranks: Sequence[int | None]) -> tuple[list[Connection], int]:
    """Processes that are ready, and the rows of an iteration."""
    context, pipes = multiprocessing.get_context("spawn"), []
    for rank in ranks:
        here, there = context.Pipe()
        context.Process(target=work, args=(name, data, rank, meeting, there), daemon=True).start()
        pipes.append(here)
    sizes = [pipe.recv() for pipe in pipes]
    return pipes, sizes[0]


def seconds_of(pipes: list[Connection], num: int) -> tuple[float, float]:
    """Seconds that processes take for iterations, and CPU seconds of the busiest of them."""
    began = time.perf_counter()
    for pipe in pipes:
        pipe.send(num)
    cpu = max(pipe.recv() for pipe in pipes)
    return time.perf_counter() - began, cpu


def measured(name: str, data: Path | None, rounds: int, seconds: float) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        (one, batch_size), (two, _) = started(name, data, meeting, [None]), started(name, data, meeting, [0, 1])
        pace = max(seconds_of(pipes, WARM_UP)[0] for pipes in (one, two)) / WARM_UP
        num = max(1, round(seconds / pace))
        times = [(seconds_of(one, num), seconds_of(two, num)) for _ in range(rounds)]
        for pipe in (*one, *two):
            pipe.send(0)
    seconds, cpu = ([[each[side][kind] for each in times] for side in (0, 1)] for kind in (0, 1))
    speeds = [num / statistics.median(side) for side in seconds]
    each_cpu = [statistics.median(side) / num for side in cpu]
    ratios = [statistics.median(alone / both for alone, both in zip(*kind, strict=True)) for kind in (seconds, cpu)]
    return (
        f"| {name} | {batch_size} | {speeds[0]:.3g} / {speeds[1]:.3g} | {ratios[0]:.2f} | "
        f"{each_cpu[0]:.3g} / {each_cpu[1]:.3g} | {ratios[1]:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data files of mnist; without it, mnist is left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one side of a round, about")
    options = parser.parse_args(arguments)
    print("| recipe | batch | it/s, one / two | ratio | CPU s per iteration, one / each of two | ratio |")
    print("|---|---|---|---|---|---|")
    for name in RECIPES:
        if name == "mnist" and options.data is None:
            print("left out: mnist: pass --data DIR")
            continue
        print(measured(name, options.data, options.rounds, options.seconds), flush=True)
    print(f"\nload of the machine: {', '.join(f'{each:.1f}' for each in os.getloadavg())} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
