"""Few labels and many rows: our joint model, JEM, and the same network trained on the labelled rows alone.

    python benchmarks/semi_supervised.py --out runs/semi --data DIR            # the whole grid, run by run
    python benchmarks/semi_supervised.py --out runs/semi --only digits         # a part of it
    python benchmarks/semi_supervised.py --out runs/semi --report              # only the table and the figure

| method | objective |
|---|---|
| joint | log p(x) of all rows + log p(y given x) of the labelled ones + both terms, f = net(concat(h(x), y)) |
| jem | log p(x) + log p(y given x), f = a classifier's logits (App. A.2, with the unlabelled term) |
| labelled | log p(y given x) of the labelled rows alone, the network of `joint` |

The two terms make predictions confident on all rows, and constant under small moves of x (`label_terms`). These
methods are compared over all seeds. Ablations run on the first seed of `ABLATED_ON`:

| method | objective |
|---|---|
| joint-plain | `joint` without both terms |
| joint-information | `joint` without the second one |
| labelled-information | the same without log p(x) |
| labelled-both | `joint` without log p(x) |
| jem-both | `jem` with both terms |

Every finished run is one line of OUT/results.csv. The command can be stopped at any time and repeated: finished runs are
skipped, and an interrupted run resumes from its checkpoint. At the end it prints a table, mean and standard deviation over
seeds of the error on the test rows, and draws it (OUT/semi-supervised.png). The seen labels depend on the seed alone, so
they are the same for all methods.
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
from jointebm.data import Dataset
from jointebm.data.registry import open_dataset
from jointebm.energies import ConcatSpec, JEMSpec, MLPSpec
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.kernels import KernelSpec
from jointebm.plots.style import STYLE, Figure, rc_context, save_figure
from jointebm.recipes import Recipe, override
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.spaces.noise import Noise
from jointebm.storage.atomic import lock
from jointebm.training.hiding import hide
from jointebm.training.objectives import (
    ConditionalTerm,
    InformationTerm,
    LossInputs,
    RoughnessTerm,
    SummedOut,
    Term,
)
from jointebm.training.row_completions import missing_entries
from jointebm.training.train_config import TrainConfig

COLUMNS = ("data", "seen", "seed", "method", "error", "exact_match_error", "seconds")
COMPARED = ("joint", "jem", "labelled")
ABLATIONS = ("joint-plain", "joint-information", "labelled-information", "labelled-both", "jem-both")
ABLATED_ON = (("mnist", "labels_per_class=10"), ("digits", "labels_per_class=5"))
METHODS = (*COMPARED, *ABLATIONS)
INFORMED = ("joint", "joint-information", "labelled-information", "labelled-both", "jem-both")
SMOOTH = ("joint", "labelled-both", "jem-both")
# Data, seen labels, and number of seeds.
GRID = [
    ("mnist", "labels_per_class=10", 3),
    *(("digits", f"labels_per_class={num}", 3) for num in (1, 5, 20)),
    ("mnist", "labels_per_class=100", 1),
    *(("dsprites", f"observe_labels={rate}", 1) for rate in (0.01, 0.1)),
]
# Changes of the recipe of the data (of digits: `digits_of_one_network`). Few labels need a large weight against the
# likelihood of x. Multiplying output_scale and temperature by the same number keeps the chains of x and sharpens p(y | x):
# a small change of the network, with little effect on the likelihood of x, then fits the labels.
FEW_LABELS = (
    'objective={"name": "summed"}',
    "learning_rate=0.001",
    "ema_decay=0.99",
)
CHANGES = {
    "digits": (*FEW_LABELS, "num_iterations=800", "temperature=0.1", "output_scale=5.0"),
    "mnist": (*FEW_LABELS, "num_iterations=1200", "temperature=0.05", "output_scale=5.0"),
    # Neighbouring positions are no separate classes: the two terms do not help (23.5% wrong with 1% of the labels, 17.0%
    # without them), a larger weight of the labels does (13.3%).
    "dsprites": (
        *FEW_LABELS,
        "num_iterations=1000",
        "learning_rate=0.00045",
    ),
}
# Weight of the labels, weight of both terms for rows without labels, and radius of the second.
TERMS = {"digits": (20.0, 5.0, 0.5), "mnist": (20.0, 5.0, 2.0), "dsprites": (200.0, 0.0, 1.0)}
# Replacements for the logits of a classifier, which have no output_scale.
JEM: dict[str, tuple[str, ...]] = {"digits": ("temperature=0.02",), "mnist": (), "dsprites": ()}
EVERYWHERE = ("calibration_rows=0", "checkpoint_every=250")  # a factor on f changes no error


def digits_of_one_network() -> Recipe:
    """The recipe `digits` of 0.1, with which the grid was measured: one network of image and label, x at temperature .02."""
    return Recipe(
        name="digits_of_one_network",
        summary="the bundled 8x8 handwritten digits with their labels, x at a temperature of its own",
        data="digits",
        energy=ConcatSpec(net=MLPSpec(hidden=(256, 256), activation="elu"), scale={"image": 3.0, "digit": 20.0}),
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.035, temperature=0.02),
        train=TrainConfig(
            num_iterations=2300,
            batch_size=128,
            num_steps=5,
            learning_rate=3e-3,
            warmup=200,
            decay="cosine",
            replacement_rate=0.02,
            ema_decay=0.998,
            objective=SummedOut(),
        ),
    )


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
    """The runs of the grid: the compared methods, seed by seed, then the ablations."""
    settings = [setting for setting in GRID if only in (None, setting[0])]
    for data, seen, num_seeds in settings:
        for seed in range(num_seeds):
            yield from (Cell(data, seen, seed, method) for method in COMPARED)
    for data, seen, _ in settings:
        if (data, seen) in ABLATED_ON:
            yield from (Cell(data, seen, 0, method) for method in ABLATIONS)


def recipe_of(cell: Cell, assignments: list[str]) -> Recipe:
    """The recipe of the data with labels hidden; for JEM with a classifier as the network."""
    fields = [*CHANGES[cell.data], cell.seen, f"hiding_seed={cell.seed}", *EVERYWHERE, *assignments]
    of_labels, of_rows, radius = TERMS[cell.data]
    terms: list[Term] = [ConditionalTerm(of_labels, labelled_batch_size=64)]
    if of_rows and cell.method in INFORMED:
        terms.append(InformationTerm(of_rows))
    if of_rows and cell.method in SMOOTH:
        terms.append(RoughnessTerm(of_rows, radius))
    base = digits_of_one_network() if cell.data == "digits" else find(cell.data)
    recipe = override(base, fields)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"terms": tuple(terms)})})
    assert isinstance(recipe.energy, ConcatSpec)
    if not cell.method.startswith("jem"):
        return recipe
    scale = {name: value for name, value in recipe.energy.scale.items() if name == "image"}
    energy = JEMSpec(net=recipe.energy.net, encoder=recipe.energy.encoder, scale=scale)
    return override(recipe.model_copy(update={"energy": energy}), JEM[cell.data])


def trained(recipe: Recipe, folder: Path, seed: int, data_dir: Path | None) -> tuple[Model, float]:
    """The model of a new or resumed run."""
    done = resume if (folder / "recipe.json").exists() else None
    run = done(folder, data_dir=data_dir) if done else train(recipe, folder, seed=seed, data_dir=data_dir)
    return run.model, run.seconds


def trained_on_labels(recipe: Recipe, data: Dataset, seed: int) -> tuple[Model, float]:
    """Minimises -mean log p(y | x) of the labelled rows plus the weighted terms of all rows, with the optimizer of a run."""
    started = time.perf_counter()
    config, generator = recipe.train, torch.Generator().manual_seed(seed)
    model = initial_model(recipe, data, seed=seed)
    seen = hide(data, config.hide)
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
    """Errors in per cent per setting and method, over seeds, in the order of the grid."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {(data, seen): {} for data, seen, _ in GRID}
    for line in lines:
        of_setting = found.setdefault((line["data"], line["seen"]), {})
        of_setting.setdefault(line["method"], []).append(100 * float(line["error"]))
    return {setting: of_method for setting, of_method in found.items() if of_method}


def table(lines: list[dict[str, str]]) -> str:
    """The compared methods, mean and standard deviation over seeds, and the ablations on seed 0, in Markdown."""
    rows = ["| data | seen | joint | JEM | labelled rows alone | seeds |", "|---|---|---|---|---|---|"]
    for (data, seen), of_method in errors(lines).items():
        cells = [_written(of_method.get(method, [])) for method in COMPARED]
        rows.append(f"| {data} | {seen} | {' | '.join(cells)} | {max(map(len, of_method.values()))} |")
    rows += ["", f"| data | seen | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]
    first = errors([line for line in lines if line["seed"] == "0"])
    for data, seen in ABLATED_ON:
        cells = [_written(first.get((data, seen), {}).get(method, [])) for method in METHODS]
        rows.append(f"| {data} | {seen} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _written(values: list[float]) -> str:
    return "" if not values else f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def figure_of(lines: list[dict[str, str]]) -> Figure:
    """One group of bars per setting, one bar per compared method, a dot per seed."""
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
    parser.add_argument("--data", type=Path, default=None, help="folder of data files")
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
