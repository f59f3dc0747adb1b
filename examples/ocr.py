"""Handwritten words: letters with transitions against single letters; trained on one fold of ten, tested on the other nine.

python examples/ocr.py --data DIR [--iterations 400 --every 1 --out docs/figures/words.png]   # DIR holds letters.npz
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from jointebm import kernels, sample_trajectory
from jointebm.data.letters import BLANK, letters, spell
from jointebm.energies import MLP, PerPlace, StructuredEnergy, Transitions
from jointebm.persistent import fit_conditional

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=os.environ.get("JOINTEBM_DATA"))
parser.add_argument("--out", type=Path, help="where to draw the figure")
for option, default in {"--reach": 6, "--iterations": 40, "--every": 60, "--seed": 0, "--dropout": 0.5}.items():
    parser.add_argument(option, type=type(default), default=default)  # reach of transitions, 1 test word in so many
args = parser.parse_args()
generator, data = torch.manual_seed(args.seed), letters(args.data and Path(args.data), fold=0)
rows = data.space.encode({name: torch.tensor(value) for name, value in data.train.items()})[0]
values = {name: value[:: args.every] for name, value in data.test().items()}  # the file is sorted by word
true, known = values["letters"].long(), rows["letters"][..., BLANK] == 1
written = true < BLANK
shuffled = torch.rand(true.shape, generator=generator).masked_fill(~written, 2).argsort(dim=1).argsort(dim=1)
hidden = shuffled < (written.sum(dim=1, keepdim=True) + 1) // 2  # the larger half of every word


def report(name: str, found: Tensor, asked: Tensor, started: float) -> None:
    """Letters that are right of those asked for, and words that are right as a whole (with the letters that are given)."""
    right, seconds = found == true, time.process_time() - started  # of this thread
    scores = f"letters {right[asked].float().mean():.3f}, words {(right | ~asked).all(dim=1).float().mean():.3f}"
    print(f"{name}: {scores}, {seconds:.0f} s")


started = time.process_time()
classifier = PerPlace(nn.Sequential(nn.Flatten(), nn.Dropout(args.dropout), MLP(128, (256,), 27, activation="silu")))
optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
for batch in torch.randint(len(known), (4 * args.iterations, 32), generator=generator):
    optimizer.zero_grad()
    labels = rows["letters"][batch].argmax(dim=2)[~known[batch]]
    cross_entropy(classifier(rows["image"][batch])[~known[batch]], labels).backward()
    optimizer.step()
single, guess = (classifier.eval()(images)[..., :BLANK].argmax(dim=2) for images in (values["image"], rows["image"]))
for name, asked in (asked_for := {"half of them given": hidden, "all": written}).items():
    report(f"single letters, {name}", single, asked, started)
started = time.process_time()
energy = StructuredEnergy(data.space, classifier, Transitions(BLANK + 1, reach=args.reach))
parts = [{"params": classifier.parameters(), "lr": 1e-3}, {"params": energy.interaction.parameters()}]
optimizer = torch.optim.Adam(parts, 2e-2)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, args.iterations)
start, kernel = one_hot(torch.where(known, BLANK, guess), BLANK + 1).float(), kernels.GibbsWithGradients(data.space)
run = {"num_iterations": args.iterations, "batch_size": 64, "num_steps": 10, "generator": generator}
run |= {"kernel": kernel, "optimizer": optimizer, "free": {"letters": ~known}}
# With dropout: images that are known by heart would teach nothing about transitions.
for _ in fit_conditional(energy.train(), rows, {"letters": start}, **run):
    schedule.step()
for name, asked in asked_for.items():
    given = {"image": values["image"], "letters": torch.where(asked, -1, true)}
    init = data.space.encode({**given, "letters": torch.where(asked, single, true)})[0]
    chains = {"num_chains": len(true), "num_steps": 160, "thin": 2, "generator": generator}
    trajectory = sample_trajectory(energy.eval(), data.space, kernel, given=given, init=init, **chains)
    best = trajectory.f.argmax(dim=0)  # the most probable state of each chain
    found = trajectory.values["letters"][best, torch.arange(len(best))]
    report(f"with transitions, {name}", found, asked, started)
if args.out:
    from jointebm.plots.structured import strips_figure

    shown = torch.arange(0, len(true), -(-len(true) // 18))
    one, both = (spell(torch.where(written, each, BLANK)[shown]) for each in (single, found))
    lines = zip(shown, one, both, values["image"][shown], strict=True)
    strips = {f"{row}: alone {a}, together {b}": image for row, a, b, image in lines}
    strips_figure(strips, num_columns=2, cmap="gray_r").savefig(args.out, dpi=150)
