"""Rows whose entries do not fit together, and the entry that is to blame.

python examples/gallery/anomalies.py --out docs/figures/gallery/anomalies.png

In six rows of a table one number is replaced by the median of another species. Each value is common; the row is not.
"""

import argparse
from importlib.resources import files

import numpy as np
import pandas as pd
import torch

from jointebm import JointEBM, JointEBMOutlierDetector
from jointebm.plots import plot_cells, save_figure, subplots

parser = argparse.ArgumentParser()
parser.add_argument("--visits", type=int, default=40, help="times that training visits each row")
parser.add_argument("--out", help="where to draw the figure")
args, generator = parser.parse_args(), np.random.default_rng(3)
torch.set_num_threads(1)

penguins = pd.read_csv(files("jointebm.data") / "penguins.csv.gz").dropna().drop(columns="year").reset_index(drop=True)
spoilt, planted, numbers = penguins.copy(), {}, penguins.columns[2:6]
usual = penguins.groupby("species")[list(numbers)].median()
for row in generator.permutation(len(penguins))[:6]:
    column = generator.choice(numbers)
    far = (usual[column] - usual.loc[penguins.loc[row, "species"], column]).abs().idxmax()  # the most different species
    spoilt.loc[row, column], planted[int(row)] = usual.loc[far, column], column

model = JointEBM(training={"num_visits": args.visits}).fit(spoilt)
detector = JointEBMOutlierDetector.of(model, spoilt, contamination=0.02)
order = np.argsort(detector.score_samples(spoilt))  # the strangest rows first
print(f"planted rows among the ten strangest of {len(spoilt)}: {len(planted.keys() & set(order[:10].tolist()))} of 6")

scores = model.conditional_log_score(spoilt)  # log p(entry | the rest of its row), in the units of each column
blame = scores - np.median(scores, axis=0)  # less what is usual for the column, so that columns compare
names = list(spoilt.columns)
blamed = {row: names[blame[row].argmin()] for row in planted}
print(f"the lowest score is that of the planted entry in {sum(blamed[r] == planted[r] for r in planted)} of 6 rows")
for row, column in planted.items():
    print(f"row {row}: {column} was {penguins.loc[row, column]}, is {spoilt.loc[row, column]}; blamed: {blamed[row]}")

if args.out:
    shown, titles = order[:10], ["the ten strangest rows; * had an entry replaced"]
    ax = subplots(size=(6.6, 3.2), titles=titles)[0, 0]
    rows = [f"{row}{' *' if row in planted else ''}" for row in shown]
    save_figure(plot_cells(spoilt.iloc[shown], blame[shown], rows=rows, ax=ax).figure, args.out, dpi=110)
