"""A condition with probability one in a million: what is given is clamped, never waited for.

python examples/gallery/rare_conditions.py --out docs/figures/gallery/rare_conditions.png
"""

import argparse
import math

import torch
from torch import Tensor

from jointebm import kernels, sample
from jointebm.data import Toy
from jointebm.data.toy import modes_of, nearest_mode
from jointebm.plots import plot_points, save_figure, subplots
from jointebm.spaces.space import Position

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=1500, help="draws of each density")
parser.add_argument("--steps", type=int, default=100, help="steps of each chain")
parser.add_argument("--out", help="where to draw the figure")
args = parser.parse_args()
torch.set_num_threads(1)

toy, RARE = Toy(), 1e-6  # eight Gaussians with three attributes; `bottom` holds half of them
space = toy.space


def tilted(position: Position) -> Tensor:
    """The true log p with p(bottom = 1) = 1e-6 instead of 1/2, and all else given `bottom` as it was."""
    return toy.log_density(position) + math.log(RARE / (1 - RARE)) * position["bottom"][:, 1]


kernel = kernels.Cycle((kernels.Gibbs(space), kernels.MALA("point", step_size=0.3)))
questions, drawn = {"bottom": {"bottom": 1}, "bottom and left": {"bottom": 1, "left": 1}}, {}
for question, given in questions.items():
    for text, log_density in (("p = 1/2", toy.log_density), ("p = 1e-6", tilted)):
        generator = torch.Generator().manual_seed(0)
        chains = {"num_chains": args.num, "num_steps": args.steps, "given": given, "generator": generator}
        drawn[f"given {question}, {text}"] = values = sample(log_density, space, kernel, **chains).values
        right = nearest_mode(values["point"]) == modes_of(values)
        print(f"given {question}, {text}: {right.float().mean():.2%} of the points lie in the mode of their attributes")
first, second = list(drawn.values())[:2]
print(f"largest difference of a coordinate, common and rare: {(first['point'] - second['point']).abs().max():.1e}")

if args.out:
    real = toy.draw(args.num, generator=generator)
    axes = subplots(1, 5, size=(2.0, 2.0), titles=["the toy data", *drawn])[0]
    plot_points(real["point"], by=["bottom" if each else "top" for each in real["bottom"]], ax=axes[0])
    for ax, values in zip(axes[1:], drawn.values(), strict=True):
        plot_points(values["point"], like=real["point"], ax=ax)
    save_figure(axes[0].figure, args.out, dpi=110)
