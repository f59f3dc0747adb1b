"""From attributes to images and back: sprites drawn at a place that is asked for, and places read from images.

python examples/gallery/sprites.py --out docs/figures/gallery/sprites.png
"""

import argparse

import torch

from jointebm import load
from jointebm.plots import plot_images, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--side", type=int, default=5, help="places along each axis")
parser.add_argument("--out", help="where to draw the figure")
args = parser.parse_args()
torch.set_num_threads(1)

model = load("pretrained:dsprites")  # 32 x 32 images of an ellipse, with its place in 16 x 16 bins
levels = torch.linspace(1, 14, args.side).round().long()
vertical, horizontal = (each.flatten() for each in torch.meshgrid(levels, levels, indexing="ij"))
places = {"horizontal": horizontal, "vertical": vertical}
drawn = model.sample(args.side**2, given=places, seed=0)["image"]
read = model.predict({"image": drawn}, ["horizontal", "vertical"]).labels
near = [(read[name] - place).abs() <= 1 for name, place in places.items()]
print(f"read within one bin of the place asked for: {(near[0] & near[1]).float().mean():.1%} of {len(drawn)} images")

column = model.sample(args.side**2, given={"horizontal": horizontal}, seed=1)  # the height is drawn too
if args.out:
    axes = subplots(1, 2, size=(3.6, 3.7), titles=["drawn given both places", "drawn given the horizontal place"])[0]
    for ax, images in zip(axes, (drawn, column["image"]), strict=True):
        plot_images(images, num_columns=args.side, ax=ax)
    save_figure(axes[0].figure, args.out, dpi=105)
