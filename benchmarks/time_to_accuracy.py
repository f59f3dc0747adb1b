"""Accuracy against time: evaluates every checkpoint of a run and draws error against minutes of training.

    jointebm train mnist --set checkpoint_every=500 --set keep_checkpoints=1000 --out runs/mnist
    python benchmarks/time_to_accuracy.py runs/mnist --data DIR --out docs/figures/mnist-time

writes OUT.png and OUT.csv, one line per checkpoint: iterations, seconds of training (without evaluation), rows evaluated by
f and by the encoder in training so far, energy-based accuracy on the test rows with averaged parameters.
"""

import argparse
import csv
import sys
from pathlib import Path

import torch

from jointebm import Model, Trainer
from jointebm.data.registry import open_dataset
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.plots.style import STYLE, Figure, rc_context, save_figure
from jointebm.runs.training_run import initial_model, recipe_of
from jointebm.storage.checkpoint import read

COLUMNS = ("iteration", "seconds", "evaluations_of_f", "evaluations_of_encoder", "accuracy")
COUNTED = 20  # iterations


def rows_per_iteration(trainer: Trainer) -> tuple[int, int]:
    """Mean rows evaluated by the head (every f) and by the encoder in an iteration, counted in the network."""
    counts = {"f": 0, "encoder": 0}
    hooks = [
        trainer.log_density.net[-1].register_forward_hook(lambda *a: counts.__setitem__("f", counts["f"] + len(a[2])))
    ]
    if trainer.log_density.encoder is not None:
        hooks.append(
            trainer.log_density.encoder.register_forward_hook(
                lambda *a: counts.__setitem__("encoder", counts["encoder"] + len(a[2]))
            )
        )
    for _ in range(COUNTED):
        trainer.step()
    for hook in hooks:
        hook.remove()
    return counts["f"] // COUNTED, counts["encoder"] // COUNTED


def draw(lines: list[tuple[float, ...]], title: str, path: Path) -> None:
    """Error against minutes, from the lines of the table."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.8), layout="constrained")
        ax = figure.subplots()
        ax.plot([line[1] / 60 for line in lines], [100 * (1 - line[4]) for line in lines], marker="o", markersize=3)
        ax.set(xlabel="minutes of training", ylabel="energy-based error on test rows, %", yscale="log", title=title)
        ax.minorticks_off()
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if min(100 * (1 - line[4]) for line in lines) < 2 * tick]
        ax.set_yticks(ticks, [str(tick) for tick in ticks])
    with path.open("xb") as file:
        save_figure(figure, file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    parser.add_argument("--rows", type=int, default=None, help="only the first test rows")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for path in (arguments.out.with_suffix(".csv"), arguments.out.with_suffix(".png")):
        if path.exists():
            parser.error(f"{path} exists; choose another --out or remove it")
    recipe = recipe_of(arguments.run)
    dataset = open_dataset(recipe.data, arguments.data)
    values = {name: value[: arguments.rows] for name, value in dataset.test().items()}
    model = initial_model(recipe, dataset, seed=0)
    trainer = Trainer(model.energy, dataset.space, dataset.rows, kernel=model.kernel, config=recipe.train, seed=0)
    per_iteration = rows_per_iteration(trainer)
    lines = []
    for folder in sorted((arguments.run / "checkpoints").iterdir()):
        trainer.restore(read(folder))
        average = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
        accuracy, _ = evaluate_model(average, values, methods=("exact",), generator=torch.Generator().manual_seed(0))
        lines.append(
            (
                trainer.iteration,
                round(trainer.seconds, 1),
                *(rows * trainer.iteration for rows in per_iteration),
                round(accuracy["exact"].mean, 5),
            )
        )
        print(dict(zip(COLUMNS, lines[-1], strict=True)), flush=True)
    with arguments.out.with_suffix(".csv").open("x", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(lines)
    draw(lines, f"{recipe.name}: {arguments.threads} thread", arguments.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
