"""Profile of a training iteration: the share of each kind of tensor operation.

    python benchmarks/profile_iteration.py mnist --data DIR

prints seconds per iteration, measured without the profiler, and a table: the kind of operation, its share of the processor
time of all operations, and its calls per iteration. The table leaves out time spent in Python between operations.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from jointebm import Trainer
from jointebm.data.registry import open_dataset
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import initial_model

# An operation is of the first kind that has a word in its name.
KINDS = {
    "convolution": ("conv",),
    "matrix product": ("mm", "bmm", "matmul", "linear"),
    "activation": ("silu", "elu"),
    "copies between float32 and bfloat16, and of layouts": ("copy", "_to_", "contiguous", "clone", "cat", "stack"),
    "random draws": ("normal_", "uniform_", "random", "randperm", "exponential", "bernoulli", "gumbel"),
    "optimizer and moving average": ("foreach", "lerp", "addcdiv", "addcmul", "adam"),
}


def kind_of(operation: str) -> str:
    """The kind of an operation such as "aten::mm"."""
    return next((kind for kind, words in KINDS.items() if any(word in operation for word in words)), "everything else")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = find(arguments.recipe)
    dataset = open_dataset(recipe.data, arguments.data)
    model = initial_model(recipe, dataset, seed=0)
    trainer = Trainer(model.energy, dataset.space, dataset.rows, kernel=model.kernel, config=recipe.train, seed=0)
    for _ in range(5):
        trainer.step()
    started = time.perf_counter()
    for _ in range(arguments.iterations):
        trainer.step()
    wall = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(arguments.iterations):
            trainer.step()
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in profiler.key_averages():
        kind = kind_of(event.key.lower())
        seconds[kind] += event.self_cpu_time_total / 1e6
        calls[kind] += event.count
    total = sum(seconds.values())
    print(f"{arguments.recipe}: {wall / arguments.iterations:.3f} s per iteration without the profiler")
    print("| kind of operation | share | calls per iteration |\n|---|---|---|")
    for kind in sorted(seconds, key=lambda name: -seconds[name]):
        print(f"| {kind} | {seconds[kind] / total:.0%} | {calls[kind] / arguments.iterations:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
