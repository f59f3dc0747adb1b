"""What missing entries cost: a training step on rows with gaps against one on whole rows, at the paper's settings.

    python benchmarks/completion.py [--rounds 10] [--threads 1] [--only toy_paper]

Every row has a gap: its labels, half of its reals (every other pixel), or both. The steps are those of `Trainer`, in turn,
each on a trainer of its own, in processor time; the ratio of medians is what counts, and is to be at most 1.5. Data are
random numbers: what they are makes no difference to the time.
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
GAPS = {"whole": (False, False), "labels": (True, False), "half of x": (False, True), "both": (True, True)}


def space_of(recipe: Recipe) -> Space:
    """The space of a recipe's data, without reading them."""

    image = {"mnist": Space(image=Continuous((28, 28)), digit=Categorical(10))}
    sprites = Space(image=Continuous((32, 32)), horizontal=Categorical(16), vertical=Categorical(16))
    return open_dataset("toy").space if recipe.data == "toy" else image.get(recipe.data, sprites)


@dataclass
class Rows:
    """1,000 random rows with gaps in their labels, in every other real, in both or in none."""

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


def trainer_of(recipe: Recipe, gaps: tuple[bool, bool]) -> Trainer:
    space = space_of(recipe)
    torch.manual_seed(0)
    return Trainer(
        recipe.energy.build(space),
        space,
        Rows(space, *gaps),
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
    print(f"{'recipe':<16}{'steps':>8}{'whole':>10}" + "".join(f"{name:>18}" for name in list(GAPS)[1:]))
    for name in PAPER if arguments.only is None else (arguments.only,):
        recipe = recipes.find(name)
        trainers = {gaps: trainer_of(recipe, which) for gaps, which in GAPS.items()}
        times: dict[str, list[float]] = {gaps: [] for gaps in GAPS}
        for number in range(arguments.rounds + 2):
            for gaps, trainer in trainers.items():
                started = time.process_time()
                trainer.step()
                if number >= 2:  # the first two warm up
                    times[gaps].append(time.process_time() - started)
        ms = {gaps: 1000 * median(values) for gaps, values in times.items()}
        steps = f"{recipe.train.num_steps}+{recipe.train.num_completion_steps}"
        cells = "".join(f"{ms[gaps]:>10.1f}{ms[gaps] / ms['whole']:>7.2f}x" for gaps in list(GAPS)[1:])
        print(f"{name:<16}{steps:>8}{ms['whole']:>10.1f}{cells}", flush=True)


if __name__ == "__main__":
    main()
