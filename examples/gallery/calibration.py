"""Calibration: whether a label with probability 80% is right in 80% of the cases, from all of an image and from parts.

python examples/gallery/calibration.py --out docs/figures/gallery/calibration.png
"""

import argparse

import torch

from jointebm import load
from jointebm.data import digits
from jointebm.plots import plot_calibration, plot_images, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=359, help="test images, at most 359")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), torch.Generator().manual_seed(0)
torch.set_num_threads(1)

model = load("pretrained:digits_any")  # reads the digit from any part of an image in one pass
data = digits().test()
images, true = data["image"][: args.num], data["digit"][: args.num]
top, some = torch.zeros(8, 8, dtype=torch.bool), torch.rand(args.num, 8, 8, generator=generator) < 0.25
top[:4] = True
parts = {"whole image": torch.ones_like(some), "top half": top.expand_as(some), "a quarter of the pixels": some}
shown = {name: torch.where(seen, images, torch.nan) for name, seen in parts.items()}
probs = {name: model.predict({"image": part}, "digit").probs["digit"] for name, part in shown.items()}
for name, p in probs.items():
    sure, right = p.max(dim=1), (p.argmax(dim=1) == true).float()
    print(f"{name}: mean confidence {sure.values.mean():.3f}, accuracy {right.mean():.3f}, {len(true)} images")

if args.out:
    axes = subplots(1, 2, size=(3.1, 2.7), titles=["what is given", "how often the most probable digit is right"])[0]
    tiles = torch.cat([part[:6] for part in shown.values()])
    plot_images(tiles, num_columns=6, rows=["whole", "top half", "a quarter"], ax=axes[0])
    for name, p in probs.items():
        plot_calibration(p, true, label=name, ax=axes[1])
    save_figure(axes[0].figure, args.out, dpi=120)
