"""Pictures of docs/tables.md: data next to samples, and conditional distributions next to those of the data.

    python benchmarks/tables/pictures.py --data DIR      (after adult.py, which fits the model)

writes tables-pairs.png, tables-adult-pairs.png, tables-conditional.png and tables-report.png into docs/figures.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from command_line import arguments_of
from tables_data import adult

from jointebm.estimators import JointEBM
from jointebm.plots import plot_conditional, plot_pairs, plot_report
from jointebm.plots.style import MODEL, STYLE, Figure, rc_context, save_figure

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
COLOURS = (MODEL, "#c64600", "#2e8b57")
Labels = Mapping[str, str]


def pair_figure(data: pd.DataFrame, samples: pd.DataFrame, labels: Labels, by: str, titles: tuple[str, str]) -> Figure:
    """All pairs of some columns, data on the left and samples on the right; colours are the categories of `by`."""
    size = len(labels)
    figure = Figure(figsize=(2.4 * size + 0.8, 1.2 * size + 0.5), layout="constrained")
    halves = figure.subfigures(1, 2, wspace=0.04)
    for half, frame, title in zip(halves, (data, samples), titles, strict=True):
        half.suptitle(title)
        axes = plot_pairs(frame, labels, by=by, like=data, ax=half.subplots(size, size, squeeze=False))
        half.align_ylabels(axes[1:, 0])
    return figure


def conditional_figure(penguins: JointEBM, birds: pd.DataFrame, census: JointEBM, people: pd.DataFrame) -> Figure:
    """Body mass of penguins given species and sex; species given bill length; income given age and education.

    Probabilities are means over groups of 2 mm and of 3 years, as the shares in the data are.
    """
    figure = Figure(figsize=(11.4, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_masses(left, penguins, birds)

    lengths = np.arange(34.0, 56.0, 0.5)
    probs = penguins.predict_proba(pd.DataFrame({"bill_length_mm": lengths}), "species")
    groups = 2 * (birds.bill_length_mm // 2) + 1
    for number, (level, colour) in enumerate(zip(penguins.classes("species"), COLOURS, strict=True)):
        middle.plot(lengths[2::4], probs[:, number].reshape(-1, 4).mean(axis=1), color=colour, label=level)
        _draw_shares(middle, birds.species == level, groups, at_least=8, colour=colour)
    middle.set(xlabel="bill length, mm", title="p(species | bill length)", ylim=(-0.03, 1.25), yticks=[0, 0.5, 1])
    middle.legend(frameon=False, fontsize=7, ncols=3, loc="upper center")

    ages = np.arange(18, 75)
    for education, colour in zip(("HS-grad", "Bachelors", "Masters"), COLOURS, strict=True):
        asked = pd.DataFrame({"age": ages, "education": education})
        rich = census.predict_proba(asked, "income")[:, list(census.classes("income")).index(">50K")]
        right.plot(ages[1::3], rich.reshape(-1, 3).mean(axis=1), color=colour, label=education)
        rows = people[people.education == education]
        _draw_shares(right, rows.income == ">50K", 3 * ((rows.age - 18) // 3) + 19, at_least=40, colour=colour)
    right.set(xlabel="age, years", title="p(income > 50K | age, education)", ylim=(-0.03, 1.25), yticks=[0, 0.5, 1])
    right.legend(frameon=False, fontsize=7, ncols=3, loc="upper center")
    figure.suptitle("Given some columns, the others summed out: data (filled, points) and the model (lines)")
    return figure


def report_figure(penguins: JointEBM, birds: pd.DataFrame) -> Figure:
    """The report of a fit, and two conditional distributions next to those of the data."""
    figure = Figure(figsize=(9.6, 2.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    plot_report(penguins, ax=left)
    plot_conditional(penguins, "body_mass_g", {"species": "Gentoo"}, data=birds, ax=middle)
    plot_conditional(penguins, "species", {"bill_length_mm": (45, 50)}, data=birds, ax=right)
    return figure


def _draw_masses(ax: object, penguins: JointEBM, birds: pd.DataFrame) -> None:
    """A ridge per species and sex."""
    edges = np.arange(2600, 6500, 150)
    for row, species in enumerate(sorted(set(birds.species))):
        for place, sex in enumerate(("female", "male")):
            drawn = penguins.sample(1000, given={"species": species, "sex": sex}).body_mass_g
            seen = birds[(birds.species == species) & (birds.sex == sex)].body_mass_g.dropna()
            foot = 2 * row + place
            heights = [4 * np.histogram(each, edges)[0] / len(each) for each in (seen, drawn)]
            ax.stairs(foot + heights[0], edges, baseline=foot, fill=True, color=COLOURS[row], alpha=0.35)
            ax.stairs(foot + heights[1], edges, baseline=foot, color=COLOURS[row])
    labels = [f"{species}, {sex}" for species in sorted(set(birds.species)) for sex in ("female", "male")]
    ax.set_yticks(np.arange(len(labels)) + 0.3, labels)
    ax.tick_params(left=False)
    ax.set(xlabel="body mass, g", title="p(body mass | species, sex)", xlim=(edges[0], edges[-1]))


def _draw_shares(ax: object, is_so: pd.Series, groups: pd.Series, *, at_least: int, colour: str) -> None:
    """The share of rows in each group with enough of them."""
    found = is_so.groupby(groups).agg(["mean", "size"])
    found = found[found["size"] >= at_least]
    ax.scatter(found.index, found["mean"], s=10, color=colour, alpha=0.6, linewidths=0)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(__doc__, argv)
    birds = pd.read_csv(files("jointebm.data") / "penguins.csv.gz", compression="gzip")
    penguins = JointEBM().fit(birds)
    people, _ = adult(arguments.data)
    census = JointEBM.load(arguments.out / "adult-model")
    lengths = {"bill_length_mm": "bill length, mm", "bill_depth_mm": "bill depth, mm"}
    lengths |= {"flipper_length_mm": "flipper, mm", "body_mass_g": "body mass, g"}
    numbers = {"age": "age, years", "education_num": "education, years", "hours_per_week": "hours per week"}
    some = people.sample(1500, random_state=0)
    titles = f"{len(birds)} penguins: data", f"{len(birds)} samples of the model"
    census_titles = f"Adult: {len(some)} rows of data", f"{len(some)} samples of the model"
    with rc_context(STYLE):
        figures = {
            "tables-pairs": pair_figure(birds, penguins.sample(len(birds), seed=1), lengths, "species", titles),
            "tables-adult-pairs": pair_figure(some, census.sample(len(some), seed=1), numbers, "income", census_titles),
            "tables-conditional": conditional_figure(penguins, birds, census, people),
            "tables-report": report_figure(penguins, birds),
        }
    for name, figure in figures.items():
        with (FIGURES / f"{name}.png").open("wb") as file:
            save_figure(figure, file)


if __name__ == "__main__":
    main()
