"""Few labels and many rows: our joint model, JEM, and the same network trained on the labelled part alone.

    python benchmarks/semi_supervised.py --out runs/semi --data DIR            # the whole grid, one run after the other
    python benchmarks/semi_supervised.py --out runs/semi --only digits         # a part of it
    python benchmarks/semi_supervised.py --out runs/semi --report              # only the table and the figure

| method | what is maximised |
|---|---|
| joint | log p(x) of all rows + log p(y given x) of the labelled ones + both terms, f = net(concat(h(x), y)) |
| jem | log p(x) + log p(y given x), f = a classifier's logits (App. A.2, with the unlabelled term) |
| labelled | log p(y given x) of the labelled rows alone, the network of `joint` |

Both terms: all rows are to be sure of their labels, and to keep them where x moves a little (`label_terms`). These
methods are compared over all seeds. What each part is worth is taken apart on the first seed of `TAKEN_APART_ON`:

| method | what is maximised |
|---|---|
| joint-plain | `joint` without both terms |
| joint-information | `joint` without the second one |
| labelled-information | the same without log p(x) |
| labelled-both | `joint` without log p(x) |
| jem-both | `jem` with both terms |

Every finished run is one line of OUT/results.csv. The command can be stopped at any time and given again: what is in that
file is not done again, and a run that was interrupted goes on from its checkpoint. When all is done it prints the table,
mean and standard deviation over seeds of the error on the test rows, and draws it (OUT/semi-supervised.png). The labels that
are seen are those of the seed, the same for all methods.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from jointebm import Model
from jointebm.data import ArrayDataset
from jointebm.data.registry import open_dataset
from jointebm.energies import ConcatSpec, JEMSpec
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.plots import STYLE, Figure, rc_context, save_figure
from jointebm.recipes import Recipe, override
from jointebm.recipes.registry import find
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.spaces.noise import Noise
from jointebm.storage.atomic import lock
from jointebm.training.hiding import hide
from jointebm.training.objectives import ConditionalTerm, InformationTerm, LossInputs, RoughnessTerm, Term
from jointebm.training.row_completions import missing_entries

COLUMNS = ("data", "seen", "seed", "method", "error", "exact_match_error", "seconds")
COMPARED = ("joint", "jem", "labelled")
TAKEN_APART = ("joint-plain", "joint-information", "labelled-information", "labelled-both", "jem-both")
TAKEN_APART_ON = (("mnist", "labels_per_class=10"), ("digits", "labels_per_class=5"))
METHODS = (*COMPARED, *TAKEN_APART)
INFORMED = ("joint", "joint-information", "labelled-information", "labelled-both", "jem-both")
SMOOTH = ("joint", "labelled-both", "jem-both")
# Data, what is seen of the labels, and how many seeds.
GRID = [
    ("mnist", "labels_per_class=10", 3),
    *(("digits", f"labels_per_class={num}", 3) for num in (1, 5, 20)),
    ("mnist", "labels_per_class=100", 1),
    *(("dsprites", f"observe_labels={rate}", 1) for rate in (0.01, 0.1)),
]
# What is changed in the recipe of the data. Few labels need a large weight, or they are lost beside the likelihood of x.
# With output_scale and the temperature both multiplied by a number, chains of x stay as they are and p(y | x) becomes
# sharper: labels are fitted by a small change of the network, which the likelihood of x hardly notices.
FEW_LABELS = (
    'objective={"name": "summed"}',
    "learning_rate=0.001",
    "ema_decay=0.99",
)
CHANGES = {
    "digits": (*FEW_LABELS, "num_iterations=800", "temperature=0.1", "output_scale=5.0"),
    "mnist": (*FEW_LABELS, "num_iterations=1200", "temperature=0.05", "output_scale=5.0"),
    # Places next to one another are no clear classes: both terms are of no use (23.5% wrong with 1% of the labels, 17.0%
    # without), but a larger weight of the labels is (13.3%).
    "dsprites": (
        *FEW_LABELS,
        "num_iterations=1000",
        "learning_rate=0.00045",
    ),
}
# Weight of the labels, weight of both terms for rows without labels, and radius of the second.
TERMS = {"digits": (20.0, 5.0, 0.5), "mnist": (20.0, 5.0, 2.0), "dsprites": (200.0, 0.0, 1.0)}
# In place of those, for a classifier's logits, which have no output_scale.
JEM: dict[str, tuple[str, ...]] = {"digits": ("temperature=0.02",), "mnist": (), "dsprites": ()}
EVERYWHERE = ("calibration_rows=0", "checkpoint_every=250")  # a factor on f changes no error


class Cell(NamedTuple):
    """One run of the grid."""

    data: str
    seen: str
    seed: int
    method: str

    @property
    def name(self) -> str:
        return f"{self.data}-{self.seen.replace('=', '-')}-{self.seed}-{self.method}"


def cells(only: str | None) -> Iterator[Cell]:
    """The runs of the grid: what is compared, all methods of a seed together, and then what it is taken apart into."""
    settings = [setting for setting in GRID if only in (None, setting[0])]
    for data, seen, num_seeds in settings:
        for seed in range(num_seeds):
            yield from (Cell(data, seen, seed, method) for method in COMPARED)
    for data, seen, _ in settings:
        if (data, seen) in TAKEN_APART_ON:
            yield from (Cell(data, seen, 0, method) for method in TAKEN_APART)


def recipe_of(cell: Cell, assignments: list[str]) -> Recipe:
    """The recipe of the data with labels hidden; that of JEM with a classifier in the place of the network."""
    fields = [*CHANGES[cell.data], cell.seen, f"hiding_seed={cell.seed}", *EVERYWHERE, *assignments]
    of_labels, of_rows, radius = TERMS[cell.data]
    terms: list[Term] = [ConditionalTerm(of_labels, labelled_batch_size=64)]
    if of_rows and cell.method in INFORMED:
        terms.append(InformationTerm(of_rows))
    if of_rows and cell.method in SMOOTH:
        terms.append(RoughnessTerm(of_rows, radius))
    recipe = override(find(cell.data), fields)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"terms": tuple(terms)})})
    assert isinstance(recipe.energy, ConcatSpec)
    if not cell.method.startswith("jem"):
        return recipe
    scale = {name: value for name, value in recipe.energy.scale.items() if name == "image"}
    energy = JEMSpec(net=recipe.energy.net, encoder=recipe.energy.encoder, scale=scale)
    return override(recipe.model_copy(update={"energy": energy}), JEM[cell.data])


def trained(recipe: Recipe, folder: Path, seed: int, data_dir: Path | None) -> tuple[Model, float]:
    """The model of a run that begins, goes on, or is done."""
    done = resume if (folder / "recipe.json").exists() else None
    run = done(folder, data_dir=data_dir) if done else train(recipe, folder, seed=seed, data_dir=data_dir)
    return run.model, run.seconds


def trained_on_labels(recipe: Recipe, data: ArrayDataset, seed: int) -> tuple[Model, float]:
    """The network with -mean log p(y | x) of the labelled rows descended, and the terms for all rows that have a weight.

    By the same Adam, schedule and average as in a run.
    """
    started = time.perf_counter()
    config, generator = recipe.train, torch.Generator().manual_seed(seed)
    model = initial_model(recipe, data, seed=seed)
    seen = hide(data, config.hide)
    assert isinstance(seen, ArrayDataset)
    optimizer = torch.optim.Adam(model.energy.parameters(), lr=config.learning_rate, betas=(config.beta_1, 0.999))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_iterations)
    average = AveragedModel(model.energy, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    for _ in range(config.num_iterations):
        loss, all_rows = torch.zeros(()), None
        for term in config.terms:
            if term.labelled_batch_size:
                rows = seen.labelled(term.labelled_batch_size, generator=generator).position
            else:
                rows = all_rows = all_rows or data.batch(config.batch_size, generator=generator)
            samples = LossInputs(rows, {}, seen.space, missing_entries(seen.space, rows), generator)
            loss = loss + term.weight * term.loss(model.energy, samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        average.update_parameters(model.energy)
    noise = Noise.from_batch(data.space, data.batch(128, generator=generator), labels="uniform")
    return Model(model.config, energy=average.module, noise=noise).eval(), time.perf_counter() - started


def run_cell(cell: Cell, out: Path, data_dir: Path | None, assignments: list[str]) -> dict[str, object]:
    """Trains and evaluates one run, as a line of the results."""
    recipe = recipe_of(cell, assignments)
    data = open_dataset(recipe.data, data_dir)
    assert isinstance(data, ArrayDataset)
    if cell.method.startswith("labelled"):
        model, seconds = trained_on_labels(recipe, data, cell.seed)
    else:
        model, seconds = trained(recipe, out / cell.name, cell.seed, data_dir)
    accuracies, _ = evaluate_model(model, data.test(), methods=("exact",), generator=torch.Generator().manual_seed(0))
    figures = (1 - accuracies["exact"].mean, 1 - accuracies["exact"].exact_match)
    return dict(zip(COLUMNS, (*cell, *(round(value, 5) for value in figures), round(seconds, 1)), strict=True))


def results(path: Path) -> list[dict[str, str]]:
    """The finished runs."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def errors(lines: list[dict[str, str]]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Errors in per cent of every setting and method, over seeds, in the order of the grid."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {(data, seen): {} for data, seen, _ in GRID}
    for line in lines:
        of_setting = found.setdefault((line["data"], line["seen"]), {})
        of_setting.setdefault(line["method"], []).append(100 * float(line["error"]))
    return {setting: of_method for setting, of_method in found.items() if of_method}


def table(lines: list[dict[str, str]]) -> str:
    """What is compared, mean and standard deviation over seeds, and what it is taken apart into on seed 0, in Markdown."""
    rows = ["| data | seen | joint | JEM | labelled rows alone | seeds |", "|---|---|---|---|---|---|"]
    for (data, seen), of_method in errors(lines).items():
        cells = [_written(of_method.get(method, [])) for method in COMPARED]
        rows.append(f"| {data} | {seen} | {' | '.join(cells)} | {max(map(len, of_method.values()))} |")
    rows += ["", f"| data | seen | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]
    first = errors([line for line in lines if line["seed"] == "0"])
    for data, seen in TAKEN_APART_ON:
        cells = [_written(first.get((data, seen), {}).get(method, [])) for method in METHODS]
        rows.append(f"| {data} | {seen} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _written(values: list[float]) -> str:
    return "" if not values else f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def figure_of(lines: list[dict[str, str]]) -> Figure:
    """One group of bars per setting, one bar per method that is compared, a dot per seed."""
    found = errors(lines)
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        ax = figure.subplots()
        for number, method in enumerate(COMPARED):
            for place, of_method in enumerate(found.values()):
                values, at = of_method.get(method, []), place + 0.27 * (number - 1)
                if values:
                    ax.bar(at, mean(values), 0.25, color=f"C{number}", alpha=0.5, label=method if place == 0 else None)
                    ax.plot([at] * len(values), values, ".", color=f"C{number}", markersize=4)
        names = [f"{data}\n{seen.replace('_', ' ').replace('=', ' ')}" for data, seen in found]
        ax.set_xticks(range(len(names)), names, fontsize=6)
        ax.set(ylabel="error on test rows, %", yscale="log")
        ax.minorticks_off()
        lowest = min(value for of_method in found.values() for values in of_method.values() for value in values)
        ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if lowest < 2 * tick]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(COMPARED), fontsize=7)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, which may exist")
    parser.add_argument("--data", type=Path, default=None, help="folder where data files lie")
    parser.add_argument("--only", choices=sorted({data for data, _, _ in GRID}), default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a field of every recipe"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "results.csv"
    with lock(arguments.out / "lock"):
        done = {tuple(line[key] for key in COLUMNS[:4]) for line in results(path)}
        for cell in cells(arguments.only) if not arguments.report else ():
            if tuple(map(str, cell)) in done:
                continue
            line = run_cell(cell, arguments.out, arguments.data, arguments.set)
            begins = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if begins:
                    writer.writeheader()
                writer.writerow(line)
            print(line, flush=True)
    lines = results(path)
    print(table(lines))
    if lines:
        with (arguments.out / "semi-supervised.png").open("wb") as file:
            save_figure(figure_of(lines), file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
