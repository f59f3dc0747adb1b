"""The rest of an image given a part of it: drawn several times, because several digits may fit.

python examples/gallery/inpainting.py --out docs/figures/gallery/inpainting.png
"""

import argparse

import torch

from jointebm import load
from jointebm.data import digits
from jointebm.plots import plot_images, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=12, help="images")
parser.add_argument("--out", help="where to draw the figure")
args = parser.parse_args()
torch.set_num_threads(1)

model = load("pretrained:digits_any")
images = digits().test()["image"][: args.num]
given = images.clone()
given[:, 4:] = torch.nan  # NaN is what is not known: the bottom half

draws = model.impute({"image": given}, num=3, seed=0)  # image and digit together, three times
probs = model.predict({"image": given}, "digit").probs["digit"]  # from the top half alone, in one pass
assert all(draw["image"][:, :4].equal(images[:, :4]) for draw in draws)  # what is given keeps every bit
best = probs.topk(2, dim=1)
for row in range(min(4, args.num)):
    texts = [f"{int(k)} ({p:.0%})" for p, k in zip(best.values[row], best.indices[row], strict=True)]
    print(f"top half of image {row}: {', '.join(texts)}; drawn: {[int(draw['digit'][row]) for draw in draws]}")

if args.out:
    names, shown = ["data", "given", "draw 1", "draw 2", "draw 3"], [images, given, *(draw["image"] for draw in draws)]
    captions = ["" for _ in range(2 * args.num)] + [str(int(label)) for draw in draws for label in draw["digit"]]
    titles = ["the bottom half and the digit, drawn given the top half"]
    ax = subplots(size=(0.5 * args.num + 0.7, 3.3), titles=titles)[0, 0]
    plot_images(torch.cat(shown), num_columns=args.num, rows=names, captions=captions, ax=ax)
    save_figure(ax.figure, args.out, dpi=110)
