"""Handwritten words: letters with transitions against single letters; one fold for training, nine for testing.

python examples/ocr.py --data DIR [--iterations 800 --every 1 --out docs/figures/words.png]   # DIR holds letters.npz
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from jointebm import predict, recipes
from jointebm.data import letters
from jointebm.data.letters import BLANK, spell
from jointebm.energies import StructuredSpec
from jointebm.runs.training_run import train

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=os.environ.get("JOINTEBM_DATA"))
parser.add_argument("--out", type=Path, help="where to draw the figure")
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--every", type=int, default=60, help="take every N-th test word; the file is sorted by word")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.set_num_threads(1)
folder, generator = args.data and Path(args.data), torch.Generator().manual_seed(args.seed)
data, recipe = letters(folder), recipes.override(recipes.words(), [f"num_iterations={args.iterations}"])
values = {name: value[:: args.every] for name, value in data.test().items()}
true = values["letters"].long()
written = true < BLANK
shuffled = torch.rand(true.shape, generator=generator).masked_fill(~written, 2).argsort(dim=1).argsort(dim=1)
hidden = shuffled < (written.sum(dim=1, keepdim=True) + 1) // 2  # the larger half of every word


def report(name: str, found: Tensor, asked: Tensor, started: float) -> None:
    """Share of correct letters among those asked for, and of words that are correct as a whole (with given letters)."""
    correct, seconds = found == true, time.process_time() - started
    scores = f"letters {correct[asked].float().mean():.3f}, words {(correct | ~asked).all(dim=1).float().mean():.3f}"
    print(f"{name}: {scores}, {seconds:.0f} CPU seconds, one thread")


started = time.process_time()
torch.manual_seed(args.seed)
single = StructuredSpec(unary=recipe.energy.unary).build(data.space)  # the same network, without transitions
optimizer = torch.optim.Adam(single.parameters(), 2e-3)
for _ in range(4 * args.iterations):
    rows = data.batch(32, generator=generator)
    known = rows["letters"][..., BLANK] == 0
    logits = single.encode(rows).unflatten(1, (-1, BLANK + 1))
    optimizer.zero_grad()
    cross_entropy(logits[known], rows["letters"].argmax(dim=2)[known]).backward()
    optimizer.step()
logits = single.encode({"image": values["image"].float()}).unflatten(1, (-1, BLANK + 1))
alone = logits[..., :BLANK].argmax(dim=2)
for name, asked in (asked_for := {"half of them given": hidden, "all": written}).items():
    report(f"single letters, {name}", alone, asked, started)

started = time.process_time()
with tempfile.TemporaryDirectory() as scratch:
    model = train(recipe, Path(scratch) / "run", seed=args.seed, data_dir=folder).model
for name, asked in asked_for.items():
    given = {"image": values["image"], "letters": torch.where(asked, -1, true)}
    found = predict(model, given, "letters", method="sample", generator=generator).labels["letters"]
    report(f"with transitions, {name}", found, asked, started)
if args.out:
    from jointebm.plots import panels, plot_strip, save_figure

    shown = torch.arange(0, len(true), -(-len(true) // 18))
    one, both = (spell(torch.where(written, each, BLANK)[shown]) for each in (alone, found))
    lines = zip(shown, one, both, values["image"][shown], strict=True)
    strips = {f"{row}: alone {a}, together {b}": image for row, a, b, image in lines}
    axes = panels(strips, lambda x, ax: plot_strip(x, ink="dark", ax=ax), num_columns=2, size=(3.75, 0.85))
    save_figure(axes[0, 0].figure, args.out, dpi=150)
