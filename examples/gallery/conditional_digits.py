"""Digits drawn given their label, by a model of images and labels together.

python examples/gallery/conditional_digits.py --out docs/figures/gallery/conditional_digits.png
"""

import argparse

import torch

from jointebm import load
from jointebm.data import digits
from jointebm.plots import plot_images, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=8, help="images of each digit")
parser.add_argument("--out", help="where to draw the figure")
args = parser.parse_args()
torch.set_num_threads(1)

model, classes = load("pretrained:digits"), torch.arange(10)
asked = classes.repeat_interleave(args.num)
drawn = model.sample(10 * args.num, given={"digit": asked}, seed=0)["image"]  # the label is clamped, the image moves
read = model.predict({"image": drawn}, "digit").labels["digit"]  # the same density, asked the other way round
print(f"of {len(asked)} images drawn given a label, {(read == asked).float().mean():.1%} are read as that label")

if args.out:
    data = digits().test()
    real = torch.cat([data["image"][data["digit"] == label][: args.num] for label in classes])
    axes = subplots(1, 2, size=(0.42 * args.num + 0.2, 4.4), titles=["data", "drawn given the label"])[0]
    plot_images(real, num_columns=args.num, rows=[str(label) for label in range(10)], ax=axes[0])
    plot_images(drawn, num_columns=args.num, ax=axes[1])
    save_figure(axes[0].figure, args.out, dpi=110)
