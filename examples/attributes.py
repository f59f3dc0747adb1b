"""Attributes given other attributes and one coordinate: any conditional of one toy model, next to the truth.

python examples/attributes.py --repeats 20 --out docs/figures/toy-attributes.png
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

from jointebm import load, predict
from jointebm.data.toy import STANDARD_DEVIATION, attributes_of, centers

parser = argparse.ArgumentParser()
parser.add_argument("--repeats", type=int, default=2, help="independent predictions of each, by 10 chains")
parser.add_argument("--steps", type=int, default=50, help="sweeps per chain")
parser.add_argument("--out", type=Path, help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
with as_file(files("jointebm") / "pretrained" / "toy") as folder:
    model = load(folder)


def truth(target: str, x: Tensor, given: dict[str, int]) -> Tensor:
    """p(target = 1 | horizontal coordinate, some attributes): the weight of the modes that meet them."""
    attributes = attributes_of(torch.arange(8))
    weights = (-(x[:, None] - centers()[:, 0]).square() / (2 * STANDARD_DEVIATION**2)).softmax(dim=1)
    for name, label in given.items():
        weights = weights * (attributes[name] == label)
    return (weights * attributes[target]).sum(dim=1) / weights.sum(dim=1)


QUESTIONS = [
    ("bottom", {}),
    ("bottom", {"diagonal": 1}),
    ("bottom", {"diagonal": 1, "left": 0}),
    ("left", {"bottom": 1}),
]
x, answers = torch.linspace(-3, 3, 13), []
for target, given in QUESTIONS:
    rows = torch.full((len(x) * args.repeats, 2), torch.nan)  # the vertical coordinate is not given
    rows[:, 0] = x.repeat_interleave(args.repeats)
    values = {"point": rows} | {name: torch.full((len(rows),), label) for name, label in given.items()}
    probs = predict(model, values, target, method="gibbs", num_steps=args.steps, generator=generator).probs[target]
    answers.append(probs[:, 1].reshape(len(x), args.repeats))
    gap = (answers[-1].mean(dim=1) - truth(target, x, given)).abs()
    said = ", ".join(["horizontal coordinate", *(f"{name} = {label}" for name, label in given.items())])
    print(f"p({target} = 1 | {said}): off by {gap.mean():.3f} on average, {gap.max():.3f} at most")
if args.out:
    from jointebm.plots import panels, plot_measurements, save_figure

    fine, shown = torch.linspace(-3, 3, 121), {}
    for (target, given), answer in zip(QUESTIONS, answers, strict=True):
        title = f"{target}, given x" + "".join(f", {name} = {label}" for name, label in given.items())
        shown[title] = (answer, (fine.tolist(), truth(target, fine, given).tolist()))
    ask = {"label": "x, the horizontal coordinate"}
    axes = panels(
        shown,
        lambda each, ax: plot_measurements(x, each[0], curve=each[1], **ask, ax=ax),
        num_columns=len(shown),
        size=(2.4, 2.2),
    )
    save_figure(axes[0, 0].figure, args.out, dpi=150)
