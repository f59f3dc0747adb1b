"""The Ising model (Sec. 2.2), against enumeration on 4 x 4 and against Onsager, Yang and Kaufman on 32 x 32.

python examples/ising.py --sweeps 8000 --chains 8 --out docs/figures/ising.png
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from jointebm import Binary, Space, kernels
from jointebm.energies import IsingEnergy
from jointebm.plots import plot_measurements, plot_strip, save_figure, subplots
from jointebm.testing import CRITICAL_COUPLING, ising_critical_square, ising_interaction, ising_magnetization

parser = argparse.ArgumentParser()
parser.add_argument("--sweeps", type=int, default=40, help="sweeps of 32 x 32, a quarter of them burn-in")
parser.add_argument("--chains", type=int, default=4, help="chains per temperature, on 32 x 32")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator, _ = parser.parse_args(), torch.Generator().manual_seed(0), torch.set_num_threads(1)


def measure(side: int, couplings: list[float], num_chains: int, num_steps: int, kind: type) -> tuple[Tensor, Tensor]:
    """Time averages of m, |m|, m^2 and -u of each chain, (4, couplings, chains), and the last spins."""
    space = Space(spins=Binary((side, side)))
    ising, coupling = IsingEnergy(space, coupling=1.0), torch.tensor(couplings).repeat_interleave(num_chains)
    board = {"spins": (torch.arange(side)[:, None] + torch.arange(side)) % 2}
    kernel = kind(space, board) if kind is kernels.ChromaticGibbs else kind(space)
    noise = (torch.rand(len(coupling), side, side, generator=generator) < 0.5).float()
    # Gibbs evaluates all candidates of a chain together, so the coupling of each chain is repeated.
    f = lambda position: coupling.repeat_interleave(len(position["spins"]) // len(coupling)) * ising(position)  # noqa: E731
    start = torch.where(coupling[:, None, None] > CRITICAL_COUPLING, 1.0, noise)
    chain, sums = kernels.evaluate(f, {"spins": start}), torch.zeros(4, len(coupling), dtype=torch.float64)
    for step in range(num_steps):
        chain, _ = kernel.step(f, chain, free={"spins": torch.tensor(True)}, generator=generator)
        if step >= num_steps // 4:
            m = 2 * chain.position["spins"].mean(dim=(1, 2)) - 1
            sums += torch.stack([m, m.abs(), m.square(), chain.f / coupling / side**2])
    means = sums / (num_steps - num_steps // 4)
    return means.reshape(4, len(couplings), num_chains), chain.position["spins"]


def report(name: str, coupling: float, chains: Tensor, exact: float) -> float:
    """Prints mean, standard error over independent chains and closed form; returns their distance in standard errors."""
    mean, error = float(chains.mean()), max(float(chains.std()) / len(chains) ** 0.5, 1e-4)
    z = (mean - exact) / error
    print(f"T = {1 / coupling:.3f}  {name}: {mean:.4f} +- {error:.4f}, exact {exact:.4f} ({z:+.1f} errors)")
    return z


few, z = [1 / t for t in (1.5, 2.27, 3.0, 5.0)], []
grid = Space(spins=Binary((4, 4))).configurations(dtype=torch.float64)["spins"] * 2 - 1  # all 65,536
pairs = (grid * (grid.roll(1, dims=1) + grid.roll(1, dims=2))).sum(dim=(1, 2))
for kind, steps in ((kernels.GibbsWithGradients, 1000), (kernels.Gibbs, 1000), (kernels.ChromaticGibbs, 100)):
    _, m, _, u = measure(4, few, 100, steps, kind)[0]
    for row, coupling in enumerate(few):
        weights, name = (pairs * coupling).softmax(dim=0) / 16, f"4 x 4, {kind.__name__}"
        z += [report(f"{name}, |m|", coupling, m[row], float(weights @ grid.sum(dim=(1, 2)).abs()))]
        z += [report(f"{name}, -u", coupling, u[row], float(weights @ pairs))]
assert max(map(abs, z)) < 5  # of 24 figures with 99 degrees of freedom: one false alarm in 16,000 runs

many = [*(1 / t for t in (1.6, 2.0, 2.2)), CRITICAL_COUPLING, *(1 / t for t in (2.35, 2.5, 3.0, 4.0))]
(m, size, square, u), spins = measure(32, many, args.chains, args.sweeps, kernels.ChromaticGibbs)
for row, coupling in enumerate(many):
    report("32 x 32, -u (Kaufman)", coupling, u[row], ising_interaction(coupling, 32, 32))
    name, mean = ("|m| (Yang)", size) if coupling > CRITICAL_COUPLING else ("m", m)  # its sign may flip
    report(f"32 x 32, {name}", coupling, mean[row], ising_magnetization(coupling))
report("32 x 32, m^2 (torus)", CRITICAL_COUPLING, square[3], ising_critical_square(32))
if args.out:
    x, t = torch.linspace(1.5, 4.1, 200).tolist(), 1 / torch.tensor(many)
    yang, kaufman = [ising_magnetization(1 / at) for at in x], [ising_interaction(1 / at, 32, 32) for at in x]
    names = ["|magnetisation| per spin", "minus energy per spin", *(f"T = {t[k]:.3g}" for k in (1, 3, 6))]
    axes = subplots(1, 5, size=(1.9, 2.2), titles=names)[0]
    for ax, found, curve in ((axes[0], size, yang), (axes[1], u, kaufman)):
        plot_measurements(t, found, curve=(x, curve), label="temperature", ax=ax)
    for ax, k in zip(axes[2:], (1, 3, 6), strict=True):
        plot_strip(spins[k * args.chains][None], ax=ax)
    save_figure(axes[0].figure, args.out, dpi=150)
