"""Which entries are missing together, and what a missing entry tells: a density of rows as they are recorded.

python examples/gallery/missing_patterns.py --out docs/figures/gallery/missing_patterns.png

A survey whose truth is known: people with high pay often leave it out, and who leaves it out often leaves out age too.
"""

import argparse

import numpy as np
import pandas as pd
import torch

from jointebm import JointEBM
from jointebm.plots import plot_missing, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--num", type=int, default=1500, help="people")
parser.add_argument("--visits", type=int, default=20, help="times that training visits each row")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), np.random.default_rng(0)
torch.set_num_threads(1)

job = generator.choice(["clerk", "cook", "judge"], args.num, p=[0.5, 0.3, 0.2])
age = generator.integers(20, 65, args.num).astype(float)
pay = np.select([job == "cook", job == "clerk"], [22, 28], 60) + generator.integers(0, 10, args.num).astype(float)
silent = generator.random(args.num) < np.where(job == "judge", 0.6, 0.1)
survey = pd.DataFrame({"job": job, "age": age, "pay": np.where(silent, np.nan, pay)})
survey.loc[generator.random(args.num) < np.where(silent, 0.5, 0.05), "age"] = np.nan
survey.loc[generator.random(args.num) < 0.1, "job"] = None

models = {}
for missingness in ("ignored", "model"):
    models[missingness] = JointEBM(missingness=missingness, training={"num_visits": args.visits}).fit(survey)
drawn = models["model"].sample(args.num, missingness="model")  # rows as they are recorded, with missing entries
unknown = pd.DataFrame({"pay": [np.nan]})  # a person who left the pay out, of whom nothing else is asked
for name, model in models.items():
    judge = model.predict_proba(unknown, "job")[0, list(model.classes("job")).index("judge")]
    print(f"missingness {name}: p(judge | pay is missing) = {judge:.2f}")
known = pd.Series(job)[silent]
print(f"among those who left it out, {(known == 'judge').mean():.2f} are judges, of all {(job == 'judge').mean():.2f}")

if args.out:
    axes = subplots(1, 2, size=(2.6, 2.6), titles=["data", "drawn by the model"])[0]
    for ax, frame in zip(axes, (survey, drawn), strict=True):
        plot_missing(frame, like=survey, ax=ax)
    axes[0].set_ylabel("share of rows; blue is missing")
    save_figure(axes[0].figure, args.out, dpi=110)
