"""Iterations per second of training with eager and with compiled steps of the chains.

    python benchmarks/compiled_training.py toy_paper toy digits mnist mnist_paper [--data DIR] [--rounds 5] [--iterations 3]

trains both from the same seed in this process, in turn, on one thread, and prints medians of CPU time. Chains move from
the first iteration on, jumps from a reference included. "moves" is the share of an eager iteration that moves of chains
take, "compiling" the CPU time of the first compiled iteration, compilers included, and "pays after" the iterations that
win it back. It is that of a cold cache only if TORCHINDUCTOR_CACHE_DIR names a new folder.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from unittest import mock

import torch

from jointebm import Trainer
from jointebm.data.registry import open_dataset
from jointebm.recipes.catalogue import find
from jointebm.recipes.recipe import Recipe
from jointebm.runs.training_run import initial_model
from jointebm.training import block_problem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each, in turn")
    parser.add_argument("--iterations", type=int, default=3, help="of a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch._inductor.config.compile_threads = 1  # in processes that this one waits for, and whose time it knows
    print("| recipe | eager it/s (moves) | compiled it/s | ratio | compiling | pays after |\n|---|---|---|---|---|---|")
    for name in arguments.recipes:
        print(row(find(name), arguments.data, arguments.rounds, arguments.iterations), flush=True)
    return 0


def row(recipe: Recipe, data: Path | None, rounds: int, num_iterations: int) -> str:
    """One line of the table."""
    trainers = {compiled: trainer_of(recipe, data, compiled=compiled) for compiled in (False, True)}
    first = {compiled: with_children(trainer) for compiled, trainer in trainers.items()}
    times: dict[bool, list[tuple[float, float]]] = {compiled: [] for compiled in trainers}
    for _ in range(rounds):
        for compiled, trainer in trainers.items():
            times[compiled].append(seconds_of(trainer, num_iterations))
    eager, compiled = (median(whole for whole, _ in times[each]) / num_iterations for each in (False, True))
    moves = median(moved / whole for whole, moved in times[False])
    compiling = first[True] - first[False]
    pays = f"{compiling / (eager - compiled):.0f}" if compiled < eager else "never"
    return (
        f"| {recipe.name} | {1 / eager:.2f} ({moves:.0%}) | {1 / compiled:.2f} | {eager / compiled:.2f} | "
        f"{compiling:.0f} s | {pays} |"
    )


def trainer_of(recipe: Recipe, data: Path | None, *, compiled: bool) -> Trainer:
    """A trainer of the recipe whose chains move at once."""
    dataset = open_dataset(recipe.data, data)
    model = initial_model(recipe, dataset, seed=0)
    config = recipe.train.model_copy(update={"compile": compiled})
    trainer = Trainer(model.energy, dataset.space, dataset.rows, kernel=model.kernel, config=config, seed=0)
    state = trainer.state()
    if "weights.draws_afresh" in state.tensors:
        tensors = {**state.tensors, "weights.draws_afresh": torch.tensor(False)}
        trainer.restore(state._replace(tensors=tensors))
    return trainer


def with_children(trainer: Trainer) -> float:
    """CPU seconds of an iteration, those of processes that it starts included."""
    before = os.times()
    trainer.step()
    return sum(now - then for now, then in zip(os.times()[:4], before[:4], strict=True))


def seconds_of(trainer: Trainer, num_iterations: int) -> tuple[float, float]:
    """CPU seconds of some iterations, and of the moves of chains in them."""
    spent, move = 0.0, block_problem.move

    def timed(*arguments: object, **options: object) -> object:
        nonlocal spent
        started = time.thread_time()
        moved = move(*arguments, **options)  # type: ignore[arg-type]
        spent += time.thread_time() - started
        return moved

    started = time.thread_time()
    with mock.patch.object(block_problem, "move", timed):
        for _ in range(num_iterations):
            trainer.step()
    return time.thread_time() - started, spent


if __name__ == "__main__":
    sys.exit(main())
