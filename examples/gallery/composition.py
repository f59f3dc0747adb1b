"""Composition: "left AND large" from two models that each know one condition, in a space with known truth.

python examples/gallery/composition.py --iterations 1000 --out docs/figures/gallery/composition.png
"""

import argparse

import torch

from jointebm import Categorical, Continuous, KernelSpec, Space, TrainConfig, Trainer, kernels, objectives, sample
from jointebm.energies import MLP, ConcatEnergy, ConditionalEnergy, WeightedSum
from jointebm.plots import plot_points, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--out", help="where to draw the figure")
args, generator, _ = parser.parse_args(), torch.Generator().manual_seed(0), torch.set_num_threads(1)
SHARES, SPREAD = torch.tensor([0.3, 0.1, 0.3, 0.3]), 0.35  # of left small, left large, right small, right large
chains = {"num_steps": 5, "replacement_rate": 0.02, "buffer_size": 2000, "objective": objectives.SummedOut()}
config = TrainConfig(num_iterations=args.iterations, batch_size=256, learning_rate=3e-3, decay="cosine", **chains)


def draw(num: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Things, their place (left is negative) and their size (large is positive), with both labels."""
    kind = torch.multinomial(SHARES, num, replacement=True, generator=generator)
    signs = 2 * torch.stack([kind // 2, kind % 2], dim=1) - 1
    things = signs + SPREAD * torch.randn(num, 2, generator=generator)
    return {"thing": things, "right": kind // 2, "large": kind % 2}


def learn(label: str, seed: int) -> tuple[ConcatEnergy, Space]:
    """A joint energy of things and one label; no row has both labels."""
    space = Space(thing=Continuous(2), **{label: Categorical(2)})
    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.4).build(space)
    batch = lambda num, generator: space.encode({n: v for n, v in draw(num, generator).items() if n in space})[0]  # noqa: E731
    trainer = Trainer(ConcatEnergy(space, MLP(4, (64, 64))), space, batch, kernel=kernel, config=config, seed=seed)
    list(trainer.run())
    return trainer.average, space


torch.manual_seed(0)
(side, side_space), (size, size_space) = learn("right", 0), learn("large", 1)
left, large = ConditionalEnergy(side, side_space, {"right": 0}), ConditionalEnergy(size, size_space, {"large": 1})
everything, rows = ConditionalEnergy(side, side_space, summed_out=("right",)), draw(40_000, generator)
densities = {"left": left, "large": large, "left x large": WeightedSum((left, large))}  # counts p(thing) twice
densities["left x large / all"] = WeightedSum((left, large, everything), (1.0, 1.0, -1.0))
found = {"truth": rows["thing"][(rows["right"] == 0) & (rows["large"] == 1)]}
alone, mala = Space(thing=Continuous(2)), kernels.MALA("thing", 0.4)
asked = {"num_steps": 300, "generator": generator}
for name, f in densities.items():
    init = {"thing": 4 * torch.rand(2000, 2, generator=generator) - 2}
    found[name] = sample(f, alone, mala, num_chains=2000, init=init, **asked).values["thing"]
for name, values in found.items():
    inside = values[(values[:, 0] < 0) & (values[:, 1] > 0)]
    print(f"{name}: {len(inside) / len(values):.3f} are left and large, spread {inside.std(dim=0).mean():.3f} per axis")
if args.out:
    for ax, values in zip(axes := subplots(1, 5, size=(1.8, 1.9), titles=[*found])[0], found.values(), strict=True):
        plot_points(values[:2000], like=rows["thing"], ax=ax)
    save_figure(axes[0].figure, args.out, dpi=110)
