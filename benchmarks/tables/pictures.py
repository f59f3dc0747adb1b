"""Pictures of docs/tables.md: data beside samples, and conditional distributions beside what the data say.

    python benchmarks/tables/pictures.py --data DIR      (after adult.py, whose model it draws)

writes tables-pairs.png, tables-adult-pairs.png and tables-conditional.png into docs/figures.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ours import codes_of
from tables_data import adult, arguments_of

from jointebm.estimators import JointEBM
from jointebm.plots.style import DATA, MODEL, STYLE, Figure, rc_context, save_figure

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
COLOURS = (MODEL, "#c64600", "#2e8b57", "#8e44ad")
Labels = dict[str, str]


def pair_figure(data: pd.DataFrame, samples: pd.DataFrame, labels: Labels, by: str | None, title: str) -> Figure:
    """Data below the diagonal, samples above it, both on it; colours are the categories of one column."""
    names = list(labels)
    figure = Figure(figsize=(1.55 * len(names) + 0.3, 1.55 * len(names) + 0.5), layout="compressed")
    axes = figure.subplots(len(names), len(names))
    generator = np.random.default_rng(0)
    for i, below in enumerate(names):
        for j, across in enumerate(names):
            ax, frame = axes[i, j], data if i > j else samples
            if i == j:
                edges = np.linspace(data[below].min(), data[below].max(), 25)
                ax.hist(data[below].dropna(), edges, density=True, color=DATA, alpha=0.45)
                ax.hist(samples[below], edges, density=True, histtype="step", color=MODEL)
                ax.set_yticks([])
            else:
                rows = frame[[across, below]].dropna()
                jitter = [generator.uniform(-0.4, 0.4, len(rows)) * _step(data[name]) for name in (across, below)]
                colours = DATA if i > j else MODEL
                if by is not None:
                    codes = frame.loc[rows.index, by].map({each: k for k, each in enumerate(sorted(set(data[by])))})
                    colours = [COLOURS[code] for code in codes]
                ax.scatter(rows[across] + jitter[0], rows[below] + jitter[1], s=3, c=colours, alpha=0.5, linewidths=0)
                ax.locator_params(nbins=4, integer=True, axis="y")
                ax.set(xlim=_limits(data[across]), ylim=_limits(data[below]))
            ax.locator_params(nbins=4, integer=True, axis="x")
            ax.set_xlabel(labels[across] if i == len(names) - 1 else "")
            ax.set_ylabel(labels[below] if j == 0 else "")
            ax.tick_params(labelbottom=i == len(names) - 1, labelleft=j == 0 and i != j)
    figure.suptitle(title)
    return figure


def conditional_figure(penguins: JointEBM, data: pd.DataFrame, census: JointEBM, train: pd.DataFrame) -> Figure:
    """Left: body mass of penguins given species and sex. Right: p(income > 50K) given age and education."""
    figure = Figure(figsize=(7.2, 2.9), layout="compressed")
    left, right = figure.subplots(1, 2)
    edges = np.arange(2600, 6500, 150)
    kinds = [("Adelie", "female"), ("Adelie", "male"), ("Gentoo", "female"), ("Gentoo", "male")]
    for colour, (species, sex) in zip(COLOURS, kinds, strict=True):
        rows = data.query("species == @species and sex == @sex").body_mass_g.dropna()
        drawn = penguins.sample(2000, given={"species": species, "sex": sex}).body_mass_g
        left.hist(rows, edges, density=True, color=colour, alpha=0.25)
        left.hist(drawn, edges, density=True, histtype="step", color=colour, label=f"{species}, {sex}")
    left.set(xlabel="body mass, g", yticks=[], title="body mass given species and sex")
    left.legend(frameon=False, fontsize=6, ncols=2, loc="upper left")
    left.set_ylim(top=1.25 * left.get_ylim()[1])
    ages = np.arange(18, 76, 3)
    for colour, education in zip(COLOURS, ("HS-grad", "Bachelors", "Masters"), strict=False):
        asked = pd.DataFrame({"age": ages, "education": education})
        codes, place = torch.from_numpy(codes_of(census, asked)), census.codec_.index("income")
        rich = census.model_.predictive(codes, place, num_draws=300, seed=0).exp()[
            :, 1
        ]  # more draws than a default answer
        right.plot(ages, rich, color=colour, label=education)
        rows = train[train.education == education]
        groups = (rows.income == ">50K").groupby((rows.age - 17) // 3 * 3 + 18).agg(["mean", "size"])
        groups = groups[(groups["size"] >= 30) & (groups.index <= ages[-1])]
        right.scatter(groups.index, groups["mean"], s=6, color=colour, alpha=0.6, linewidths=0)
    right.set(xlabel="age, years", ylabel="p(income > 50K)", title="income given age and education", ylim=(0, 1))
    right.legend(frameon=False, fontsize=6, loc="upper left")
    figure.suptitle("Filled bars and points: data; lines: the model, with all other columns summed out")
    return figure


def _step(column: pd.Series) -> float:
    """Distance of neighbouring values: points of a grid are spread over it."""
    values = np.unique(column.dropna())
    return float(np.diff(values).min())


def _limits(column: pd.Series) -> tuple[float, float]:
    margin = 0.05 * (column.max() - column.min())
    return column.min() - margin, column.max() + margin


def main() -> None:
    arguments = arguments_of(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    data = pd.read_csv(files("jointebm.data") / "penguins.csv.gz", compression="gzip")
    penguins = JointEBM().fit(data)
    train, _ = adult(arguments.data)
    census = JointEBM.load(arguments.out / "adult-model")
    lengths = {"bill_length_mm": "bill length, mm", "bill_depth_mm": "bill depth, mm"}
    lengths |= {"flipper_length_mm": "flipper, mm", "body_mass_g": "body mass, g"}
    numbers = {"age": "age", "education_num": "education, years", "hours_per_week": "hours per week"}
    some = train.sample(1000, random_state=0)
    with rc_context(STYLE):
        figures = {
            "tables-pairs": pair_figure(
                data, penguins.sample(len(data), seed=1), lengths, "species", "Penguins: data below, samples above"
            ),
            "tables-adult-pairs": pair_figure(
                some, census.sample(1000, seed=1), numbers, "income", "Adult: data below, samples above; by income"
            ),
            "tables-conditional": conditional_figure(penguins, data, census, train),
        }
    for name, figure in figures.items():
        with (FIGURES / f"{name}.png").open("wb") as file:
            save_figure(figure, file)


if __name__ == "__main__":
    main()
