"""Four digits with a blot on one: a model of single digits and a rule for all four, multiplied when they are asked.

python examples/gallery/digits_and_blot.py --out docs/figures/gallery/digits_and_blot.png

Strips are made of four test images whose digits sum to a multiple of ten. The model has never seen a strip, or the rule.
"""

import argparse

import torch

from jointebm import Categorical, Space, load
from jointebm.data import digits
from jointebm.plots import plot_images, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=200, help="strips")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)

data = digits().test()
rows = torch.randint(len(data["digit"]), (20 * args.num, 4), generator=generator)
rows = rows[data["digit"][rows].sum(dim=1) % 10 == 0][: args.num]
images, true = data["image"][rows], data["digit"][rows]  # (N, 4, 8, 8), (N, 4)
covered = torch.randint(4, (args.num,), generator=generator)
blotted = images.clone()
blotted[torch.arange(args.num), covered] = torch.nan  # the blot: nothing of this image is known

model = load("pretrained:digits_any")  # log p(digit | any part of an image), by one pass
log_p = model.predict({"image": blotted.flatten(0, 1)}, "digit").probs["digit"].log().unflatten(0, (-1, 4))
strings = Space(digits=Categorical((10, 10, 10, 10)))
every = strings.configurations()["digits"]  # all 10,000, one-hot, (10000, 40)
labels = strings.decode({"digits": every})["digits"].long()
allowed = torch.where(labels.sum(dim=1) % 10 == 0, 0.0, -torch.inf)  # the rule, as a log-density
answers = {"single digits": log_p.flatten(1) @ every.T, "with the rule": log_p.flatten(1) @ every.T + allowed}
probs = {name: f.softmax(dim=1) for name, f in answers.items()}  # exact: the sum over all strings is taken
found = {name: labels[p.argmax(dim=1)] for name, p in probs.items()}
for name, best in found.items():
    blot = (best == true)[torch.arange(args.num), covered].float().mean()
    whole = (best == true).all(dim=1).float().mean()
    print(f"{name}: {whole:.1%} of the strips right, {blot:.1%} of the blotted digits")

if args.out:
    shown = blotted[:10].movedim(1, 2).flatten(2)  # four images side by side, (10, 8, 32)
    alone, ruled = (["".join(map(str, best.tolist())) for best in each[:10]] for each in found.values())
    sure = probs["with the rule"].amax(dim=1)
    texts = [f"{a} alone, {b} with the rule ({p:.0%})" for a, b, p in zip(alone, ruled, sure, strict=False)]
    ax = subplots(size=(6.2, 3.6), titles=["four digits that sum to a multiple of ten, one of them under a blot"])[0, 0]
    save_figure(plot_images(shown, num_columns=2, captions=texts, ax=ax).figure, args.out, dpi=110)
