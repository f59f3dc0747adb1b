"""Composition: "left AND large" from two models that each know one condition, in a space with known truth.

python examples/composition.py --iterations 1000 --out docs/figures/composition.png

One model knows the side of a thing, the other its size; no row has both labels. A thing is its place and size.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from jointebm import Categorical, ConcatEnergy, Continuous, KernelSpec, Space, TrainConfig, Trainer, objectives, sample
from jointebm.energies import MLP, ConditionalEnergy, WeightedSum
from jointebm.kernels import MALA

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)
thing = Space(thing=Continuous(2))  # its place (left is negative) and its size (large is positive)
SHARES, SPREAD = torch.tensor([0.3, 0.1, 0.3, 0.3]), 0.35  # of left small, left large, right small, right large


def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Things (num, 2), whether they are right (num,), whether they are large (num,)."""
    kind = torch.multinomial(SHARES, num, replacement=True, generator=generator)
    right, large = kind // 2, kind % 2
    signs = 2 * torch.stack([right, large], dim=1) - 1
    return signs + SPREAD * torch.randn(num, 2, generator=generator), right, large


def learn(label: str, which: int, seed: int) -> tuple[ConcatEnergy, Space]:
    """A joint energy of things and one label, from rows with this label only."""
    space = Space(thing=Continuous(2), **{label: Categorical(2)})

    def batch(num: int, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = draw(num, generator)
        return space.encode({"thing": drawn[0], label: drawn[which]})[0]

    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.4).build(space)
    energy = ConcatEnergy(space, MLP(4, (64, 64)))
    chains = {"num_steps": 5, "replacement_rate": 0.02, "buffer_size": 2000, "objective": objectives.SummedOut()}
    config = TrainConfig(num_iterations=args.iterations, batch_size=256, learning_rate=3e-3, decay="cosine", **chains)
    trainer = Trainer(energy, space, batch, kernel=kernel, config=config, seed=seed)
    list(trainer.run())
    return trainer.average, space


started, _ = time.process_time(), torch.manual_seed(0)
side, side_space = learn("right", 1, 0)
size, size_space = learn("large", 2, 1)
print(f"trained two models, {time.process_time() - started:.0f} CPU seconds, one thread")
left, large = ConditionalEnergy(side, side_space, {"right": 0}), ConditionalEnergy(size, size_space, {"large": 1})
everything = ConditionalEnergy(side, side_space, summed_out=("right",))
compositions = {
    "left": left,
    "large": large,
    "left x large": WeightedSum((left, large)),  # a plain product counts p(thing) twice
    "left x large / all": WeightedSum((left, large, everything), (1.0, 1.0, -1.0)),
}
things, right, is_large = draw(40_000, generator)
found = {"truth": things[(right == 0) & (is_large == 1)]}
for name, energy in compositions.items():
    start = {"thing": 4 * torch.rand(2000, 2, generator=generator) - 2}
    chains = {"num_chains": 2000, "num_steps": 300, "init": start, "generator": generator}
    found[name] = sample(energy, thing, MALA("thing", 0.4), **chains).values["thing"]
for name, values in found.items():
    inside = values[(values[:, 0] < 0) & (values[:, 1] > 0)]
    spread = inside.std(dim=0).mean()
    print(f"{name}: {len(inside) / len(values):.3f} are left and large, with spread {spread:.3f} per axis")
if args.out:
    from jointebm.plots.panels import points_figure

    points_figure(found, num_columns=5, size=2).savefig(args.out, dpi=150)
