"""The Ising model at its critical point: single spins forget slowly, clusters do not.

python examples/gallery/ising_critical.py --out docs/figures/gallery/ising_critical.png
"""

import argparse

import torch

from jointebm import Binary, Space, kernels, sample, sample_trajectory
from jointebm.energies import IsingEnergy
from jointebm.plots import COLOURS, plot_images, save_figure, subplots
from jointebm.testing import CRITICAL_COUPLING, ising_critical_square

parser = argparse.ArgumentParser()
parser.add_argument("--side", type=int, default=32, help="spins along each side")
parser.add_argument("--steps", type=int, default=1000, help="sweeps of each chain")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)

space = Space(spins=Binary((args.side, args.side)))
up = {"spins": torch.ones(10, args.side, args.side)}
critical, traces = IsingEnergy(space, coupling=CRITICAL_COUPLING), {}
for kind in (kernels.ChromaticGibbs, kernels.SwendsenWang):
    kernel = kind.verified(space, critical, {"spins": torch.zeros(2, args.side, args.side)}, generator=generator)
    chains = {"num_chains": 10, "num_steps": args.steps, "init": up, "generator": generator}
    values = sample_trajectory(critical, space, kernel, **chains).values["spins"].float()
    traces[kind.__name__] = m = 2 * values.mean(dim=(2, 3)) - 1  # magnetisation, (steps, chains)
    square = m[args.steps // 4 :].square().mean(dim=0)  # of each chain, after a quarter as burn-in
    error = square.std() / len(square) ** 0.5
    print(f"{kind.__name__}: <m^2> {square.mean():.3f} +- {error:.3f}, exact {ising_critical_square(args.side):.3f}")

if args.out:
    grids = {}
    for text, coupling in (("cold, T = 2", 0.5), ("critical, T = 2.269", CRITICAL_COUPLING), ("warm, T = 3", 1 / 3)):
        energy = IsingEnergy(space, coupling=coupling)
        kernel = kernels.SwendsenWang.verified(space, energy, {"spins": up["spins"][:2]}, generator=generator)
        chains = {"num_chains": 1, "num_steps": 60, "generator": generator}
        grids[text] = sample(energy, space, kernel, **chains).values["spins"].float()
    axes = subplots(1, 5, size=(2.2, 2.2), titles=[*grids, *(f"{name}, two chains" for name in traces)])[0]
    for ax, image in zip(axes, grids.values(), strict=False):
        plot_images(image, num_columns=1, ax=ax)
    for ax, trace in zip(axes[3:], traces.values(), strict=True):
        for chain, colour in enumerate(COLOURS[:2]):
            ax.plot(trace[:200, chain].numpy(), linewidth=0.9, color=colour)
        ax.set(xlabel="sweep", ylabel="magnetisation", ylim=(-1.05, 1.05))
    save_figure(axes[0].figure, args.out, dpi=110)
