"""The Ising model (Sec. 2.2), held against enumeration on 4 x 4 and against Onsager, Yang and Kaufman on 32 x 32.

python examples/ising.py --steps 30000 --chains 16 --out docs/figures/ising.png
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from jointebm import Binary, Space, kernels, sample_trajectory
from jointebm.energies import IsingEnergy
from jointebm.testing import CRITICAL_COUPLING, ising_interaction, ising_magnetization

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400, help="of Gibbs-with-Gradients on 32 x 32; half are burn-in")
parser.add_argument("--chains", type=int, default=4, help="per temperature, on 32 x 32")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)


def measure(
    side: int, temperatures: Tensor, num_chains: int, num_steps: int, kind: type
) -> tuple[Tensor, Tensor, Tensor]:
    """Magnetisation and interaction per spin, time averages of each chain (temperatures, chains), and the last spins."""
    space = Space(spins=Binary((side, side)))
    ising, coupling = IsingEnergy(space, coupling=1.0), (1 / temperatures).repeat_interleave(num_chains)
    total = len(coupling)
    noise = (torch.rand(total, side, side, generator=generator) < 0.5).float()
    trajectory = sample_trajectory(
        # Gibbs evaluates candidates of a chain side by side, so each chain's coupling is repeated for them.
        lambda position: coupling.repeat_interleave(len(position["spins"]) // total) * ising(position),
        space,
        kind(space),
        num_chains=total,
        num_steps=num_steps,
        thin=num_steps // 200,
        init={"spins": torch.where(coupling[:, None, None] > CRITICAL_COUPLING, 1.0, noise)},
        generator=generator,
    )
    spins = 2 * trajectory.values["spins"][100:].float() - 1  # (kept, chains, side, side)
    interaction = spins * (spins.roll(1, dims=2) + spins.roll(1, dims=3))
    magnetization = spins.mean(dim=(2, 3)).abs() if side == 4 else spins.mean(dim=(2, 3))  # a small grid turns over
    m, u = (each.mean(dim=0).reshape(-1, num_chains) for each in (magnetization, interaction.mean(dim=(2, 3))))
    return m, u, (spins[-1] + 1) / 2


def report(name: str, means: Tensor, exact: list[float], temperatures: Tensor) -> Tensor:
    """Prints mean, standard error over independent chains and closed form; returns how many errors lie between."""
    error = (means.std(dim=1) / means.shape[1] ** 0.5).clamp(min=1e-4)
    z = (means.mean(dim=1) - torch.tensor(exact)) / error
    for row in zip(temperatures, means.mean(dim=1), error, exact, z, strict=True):
        print("T = {:.3f}  {}: {:.4f} +- {:.4f}, exactly {:.4f} ({:+.1f} errors)".format(row[0], name, *row[1:]))
    return z


few = torch.tensor([1.5, 2.27, 3.0, 5.0])
grid = Space(spins=Binary((4, 4))).configurations(dtype=torch.float64)["spins"] * 2 - 1  # all 65,536
pairs = (grid * (grid.roll(1, dims=1) + grid.roll(1, dims=2))).sum(dim=(1, 2))
weights = (pairs[:, None] / few).softmax(dim=0)  # (65536, temperatures)
exact_m, exact_u = ((value @ weights / 16).tolist() for value in (grid.sum(dim=(1, 2)).abs(), pairs))
for kind in (kernels.GibbsWithGradients, kernels.Gibbs):
    m, u, _ = measure(4, few, 100, 1000, kind)
    z = [report(f"4 x 4, {kind.__name__}, {n}", *r, few) for n, r in (("|m|", (m, exact_m)), ("-u", (u, exact_u)))]
    assert torch.stack(z).abs().max() < 5  # of 16 figures with 99 degrees of freedom: one false alarm in 25,000 runs

many = torch.tensor([1.6, 2.0, 2.2, 2.269, 2.35, 2.5, 3.0, 4.0])
m, u, spins = measure(32, many, args.chains, args.steps, kernels.GibbsWithGradients)
report("32 x 32, m (Yang)", m, [ising_magnetization(1 / t) for t in many.tolist()], many)
report("32 x 32, -u (Kaufman)", u, [ising_interaction(1 / t, 32, 32) for t in many.tolist()], many)
if args.out:
    from jointebm.plots.structured import Panel, measured_figure

    x = torch.linspace(1.5, 4.1, 200).tolist()
    yang, kaufman = [ising_magnetization(1 / t) for t in x], [ising_interaction(1 / t, 32, 32) for t in x]
    panels = [Panel("magnetisation per spin", many, m, x, yang), Panel("minus energy per spin", many, u, x, kaufman)]
    pictures = {f"T = {many[k]:.3g}": spins[k * args.chains] for k in (1, 3, 6)}
    measured_figure(panels, pictures, label="temperature").savefig(args.out, dpi=150)
