"""The cost of missing entries: a training step on incomplete rows against one on complete rows, as in the paper.

    python benchmarks/completion.py [--rounds 10] [--threads 1] [--only toy_paper]

Every row lacks its labels, half of its reals (every other pixel), or both. The steps are those of `Trainer`, in turn, each
on its own trainer, in processor time; compare the ratio of medians. Data are random numbers, which do not affect the time.
"""

import argparse
import time
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from jointebm import Categorical, Continuous, Trainer, recipes
from jointebm.data.datasets import Batch
from jointebm.data.registry import open_dataset
from jointebm.recipes import Recipe
from jointebm.spaces.space import Space

PAPER = ("toy_paper", "mnist_paper", "dsprites_paper")
MISSING_PARTS = {"complete": (False, False), "labels": (True, False), "half of x": (False, True), "both": (True, True)}


def space_of(recipe: Recipe) -> Space:
    """The space of the data of a recipe, without reading them."""
    image = {"mnist": Space(image=Continuous((28, 28)), digit=Categorical(10))}
    sprites = Space(image=Continuous((32, 32)), horizontal=Categorical(16), vertical=Categorical(16))
    return open_dataset("toy").space if recipe.data == "toy" else image.get(recipe.data, sprites)


@dataclass
class Rows:
    """1,000 random rows that lack their labels, every other real, both or neither."""

    space: Space
    labels: bool
    reals: bool
    position: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.position, _ = self.space.clamp(None, num_chains=1000, generator=generator)
        for name in self.space.discrete if self.labels else ():
            self.position[name] = torch.full_like(self.position[name], torch.nan)
        for name in self.space.continuous if self.reals else ():
            self.position[name] = self.position[name].clone()
            self.position[name].reshape(1000, -1)[:, ::2] = torch.nan

    def __call__(self, num: int, *, generator: torch.Generator) -> Batch:
        numbers = torch.randint(1000, (num,), generator=generator)
        return Batch({name: value[numbers] for name, value in self.position.items()}, numbers)


def trainer_of(recipe: Recipe, missing: tuple[bool, bool]) -> Trainer:
    space = space_of(recipe)
    torch.manual_seed(0)
    return Trainer(
        recipe.energy.build(space),
        space,
        Rows(space, *missing),
        kernel=recipe.kernel.build(space),
        config=recipe.train.model_copy(update={"snapshot_every": 10**9}),
        seed=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each, in turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=PAPER, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads; medians of {arguments.rounds} rounds, milliseconds a step"
    )
    print(f"{'recipe':<16}{'steps':>8}{'complete':>10}" + "".join(f"{name:>18}" for name in list(MISSING_PARTS)[1:]))
    for name in PAPER if arguments.only is None else (arguments.only,):
        recipe = recipes.find(name)
        trainers = {missing: trainer_of(recipe, which) for missing, which in MISSING_PARTS.items()}
        times: dict[str, list[float]] = {missing: [] for missing in MISSING_PARTS}
        for number in range(arguments.rounds + 2):
            for missing, trainer in trainers.items():
                started = time.process_time()
                trainer.step()
                if number >= 2:  # the first two warm up
                    times[missing].append(time.process_time() - started)
        ms = {missing: 1000 * median(values) for missing, values in times.items()}
        steps = f"{recipe.train.num_steps}+{recipe.train.num_completion_steps}"
        cells = "".join(
            f"{ms[missing]:>10.1f}{ms[missing] / ms['complete']:>7.2f}x" for missing in list(MISSING_PARTS)[1:]
        )
        print(f"{name:<16}{steps:>8}{ms['complete']:>10.1f}{cells}", flush=True)


if __name__ == "__main__":
    main()
