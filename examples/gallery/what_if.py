"""What if: one fit of a table answers for any columns given any others, intervals and sets included.

python examples/gallery/what_if.py --out docs/figures/gallery/what_if.png
"""

import argparse
from importlib.resources import files

import pandas as pd
import torch

from jointebm import JointEBM
from jointebm.plots import plot_conditional, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--visits", type=int, default=250, help="times that training visits each row")
parser.add_argument("--num", type=int, default=1000, help="draws of each question")
parser.add_argument("--out", help="where to draw the figure")
args = parser.parse_args()
torch.set_num_threads(1)

penguins = pd.read_csv(files("jointebm.data") / "penguins.csv.gz")
model = JointEBM(training={"num_visits": args.visits}).fit(penguins)

bird = pd.DataFrame({"species": ["Gentoo"], "island": ["Biscoe"], "bill_length_mm": [47.0]})
for sex in ("female", "male"):  # the same bird, if it were ...
    low, middle, high = model.predict_quantiles(bird, "body_mass_g", given={"sex": sex}).to_numpy()[0]
    print(f"if it were {sex}: {middle:.0f} g, nine of ten from {low:.0f} to {high:.0f} g")
light = model.predict_proba(bird.drop(columns="island"), "sex", given={"body_mass_g": (None, 4800)})
print(f"and if it weighed at most 4.8 kg: p({model.classes('sex')[0]}) = {light[0, 0]:.2f}")

questions = [
    ("body_mass_g", {"species": "Gentoo", "sex": "female"}),
    ("body_mass_g", {"species": "Gentoo", "sex": "male"}),
    ("species", {"flipper_length_mm": (None, 195), "bill_length_mm": (44, None)}),
]
if args.out:
    axes = subplots(1, len(questions), size=(2.9, 2.2))[0]
    for ax, (target, given) in zip(axes, questions, strict=True):
        plot_conditional(model, target, given, data=penguins, num=args.num, ax=ax)
    save_figure(axes[0].figure, args.out, dpi=110)
