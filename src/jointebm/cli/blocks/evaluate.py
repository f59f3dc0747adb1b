"""Evaluates a model of blocks and prints the report."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import typer
from rich.console import Console

from jointebm.cli.blocks.caption_lines import of_captions, print_captions
from jointebm.cli.blocks.models import open_data_of, open_model, shown_model
from jointebm.cli.blocks.parts import first_rows, of_parts, percent, print_parts
from jointebm.cli.console import print_json, print_table, say
from jointebm.data import Dataset
from jointebm.energies.caption import CaptionEnergy
from jointebm.energies.picture import PictureEnergy
from jointebm.evaluation import judge_for, judge_samples
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.evaluation.out_of_distribution import SCORES, outlier_images, separation
from jointebm.inference.exact_predictions import MAX_CONFIGURATIONS
from jointebm.inference.model import Model
from jointebm.randomness.device_names import DeviceName

__all__ = ["Reported", "evaluation", "print_evaluation", "run_evaluation"]

MAX_CLASSES = 100  # of all labels together, up to which the decoder 'gibbs' runs by default
MAX_VARIABLES_SHOWN = 32

Method = Literal["sample", "gibbs", "exact"]
METHODS: tuple[Method, ...] = get_args(Method)  # calibration is reported for the last one that runs
MEANING = {"sample": "sample-based", "gibbs": "Rao-Blackwellised", "exact": "energy-based"}


class Reported(NamedTuple):
    """What a report holds besides accuracy and calibration."""

    methods: str | None  # decoders, separated by commas; None: all that are affordable
    num_rows: int | None  # first test rows; None is all
    num_samples: int | None  # judged samples for each value of each label; None is none
    outliers: bool  # whether test rows are told from other images
    parts: bool  # whether labels are read from parts


def run_evaluation(
    name: str, data_dir: Path | None, reported: Reported, *, device: DeviceName, seed: int, as_json: bool
) -> None:
    """Evaluates a model on the test rows of its data and prints the report."""
    chosen = None if reported.methods is None else _parse_methods(reported.methods)
    num_rows, num_samples = reported.num_rows, reported.num_samples
    path, model = open_model(name, device)
    dataset = open_data_of(model, data_dir)
    generator = torch.Generator(model.device).manual_seed(seed)
    outliers = outlier_images(dataset, data_dir, generator=generator) if reported.outliers else None
    report = evaluation(
        model, dataset, path, seed=seed, methods=chosen, num_rows=num_rows, num_samples=num_samples, outliers=outliers
    )
    if reported.parts:
        report |= of_parts(model, dataset, seed=seed, num_rows=num_rows, num_samples=num_samples)
    report["model"] = shown_model(name, path)
    if as_json:
        print_json(report)
    else:
        print_evaluation(report)


def _parse_methods(text: str) -> list[Method]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            raise ValueError(f"--methods {text!r}: got {name!r}, expected some of {', '.join(METHODS)}")
    return [method for method in METHODS if method in names]


def evaluation(
    model: Model,
    dataset: Dataset,
    path: Path,
    *,
    seed: int,
    methods: Sequence[Method] | None = None,
    num_rows: int | None = None,
    num_samples: int | None = None,
    outliers: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """The report of a model, as `--json` prints it."""
    started = time.perf_counter()
    values = first_rows(dataset, num_rows)
    generator = torch.Generator(model.device).manual_seed(seed)
    with Console(stderr=True).status(f"evaluating {model.config.name}"):
        report: dict[str, Any] = {
            "model": str(path),
            "data": model.config.data,
            "rows": len(next(iter(values.values()))),
        }
        if isinstance(model.energy, CaptionEnergy):
            report["captions"] = of_captions(
                model, dataset, num_rows=num_rows, num_images=num_samples, generator=generator
            )
            return {**report, "seconds": round(time.perf_counter() - started, 2)}
        if model.space.continuous or methods is not None:
            accuracies, calibration = evaluate_model(
                model, values, methods=_affordable(model) if methods is None else methods, generator=generator
            )
            report["accuracy"] = {method: accuracy._asdict() for method, accuracy in accuracies.items()}
            report["calibration"] = calibration._asdict()
        if num_samples is not None:
            judgement = judge_samples(
                model, dataset, judge_for(dataset, seed=seed), num=num_samples, generator=generator
            )
            report["samples"] = asdict(judgement)
        if outliers is not None:
            report["ood_auroc"] = separation(model, values, outliers)
            report["temperature_of_x"] = model.config.kernel.temperature
    return {**report, "seconds": round(time.perf_counter() - started, 2)}


def _affordable(model: Model) -> tuple[Method, ...]:
    num = model.space.num_configurations
    if isinstance(model.energy, PictureEnergy):
        return ("exact",)  # by a product of matrices; chains take far longer
    if num <= MAX_CONFIGURATIONS:
        return METHODS
    count = str(num) if num < 10**9 else f"10^{math.log10(num):.0f}"
    say(
        f"skipping the decoder 'exact': {count} configurations are too many to enumerate (at most {MAX_CONFIGURATIONS})"
    )
    classes = sum(sum(model.space.num_classes(name)) for name in model.space.discrete)
    if classes <= MAX_CLASSES:
        return ("sample", "gibbs")
    say(
        f"skipping the decoder 'gibbs': a sweep evaluates all {classes} classes of y one by one; --methods gibbs runs it"
    )
    return ("sample",)


def print_evaluation(report: Mapping[str, Any], note: str = "") -> None:
    """Prints a report as tables, followed by a note."""
    if "accuracy" in report:
        _print_accuracy(report)
    if "captions" in report:
        print_captions(report)
    if "samples" in report:
        _print_samples(report["samples"])
    if "parts" in report:
        print_parts(report)
    if "ood_auroc" in report:
        _print_separation(report["ood_auroc"], report["temperature_of_x"])
    if "calibration" in report:
        calibration, last = report["calibration"], list(report["accuracy"])[-1]
        typer.echo(f"calibration of {last}: ECE {calibration['ece']:.4f}, Brier score {calibration['brier']:.4f}")
    if note:
        typer.echo(note)
    typer.echo(f"{'training' if 'run' in report else 'evaluation'}: {report['seconds']:.1f} s")


def _print_accuracy(report: Mapping[str, Any]) -> None:
    """Prints the accuracy of each variable, unless there are many, and the means."""
    accuracies = report["accuracy"]
    names = list(next(iter(accuracies.values()))["per_attribute"])
    if len(names) > MAX_VARIABLES_SHOWN:
        names = []
    rows = [[name, *(percent(a["per_attribute"][name]) for a in accuracies.values())] for name in names]
    rows += [
        [text, *(percent(accuracy[key]) for accuracy in accuracies.values())]
        for text, key in (("mean", "mean"), ("exact match", "exact_match"))
    ]
    print_table(
        f"{report['model']}: accuracy on {report['rows']} test rows of {report['data']}",
        ["", *(f"{MEANING[method]} ({method})" for method in accuracies)],
        rows,
    )


def _print_samples(samples: Mapping[str, Any]) -> None:
    has_modes = bool(samples["num_modes"])
    rows = []
    for text, share in samples["per_condition"].items():
        modes = (
            f"{samples['num_modes'][text]} of {samples['num_modes_data'][text]}" if text in samples["num_modes"] else ""
        )
        ratio, of_data = samples["variance_ratio"][text], samples["per_condition_data"][text]
        ends = [modes] * has_modes + ["" if ratio is None else f"{ratio:.2f}"]
        rows.append([text, percent(share), "" if of_data is None else percent(of_data), *ends])
    means = ["mean", percent(samples["agreement"]), percent(samples["judge_accuracy"])]
    print_table(
        f"{samples['num_per_condition']} samples from noise given each condition",
        ["given", "as asked", "data", *["modes"] * has_modes, "variance ratio"],
        [*rows, [*means, *[""] * has_modes, ""]],
        caption=f"judged by: {samples['judge']}, which is right on {percent(samples['judge_accuracy'])} of the test rows "
        "(column data); variance ratio: samples over data",
    )
    if samples["nearest"] is not None:
        _print_nearest({**samples["nearest_per_condition"], "all": samples["nearest"]})
    if samples["placement"] is not None:
        _print_placement(samples["placement"], samples["placement_data"])
    if samples["frechet"] is not None:
        frechet = samples["frechet"]
        typer.echo(
            f"Frechet distance in {frechet['features']}: samples {frechet['samples']:.4g}, data {frechet['data']:.4g} "
            f"({frechet['num_rows']} rows each)"
        )


def _print_nearest(nearest: Mapping[str, Mapping[str, float] | None]) -> None:
    keys = ("training", "training_data", "other", "other_data")
    print_table(
        "median distance to the nearest training row of the condition, and to the nearest other sample",
        ["given", "to training", "(test rows)", "to each other", "(test rows)"],
        [[text, *("" if of is None else f"{of[key]:.3f}" for key in keys)] for text, of in nearest.items()],
        caption="Euclidean, with the noise of the data; as many test rows as samples",
    )


def _print_placement(samples: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    print_table(
        "samples given every variable: the bin of the centre against the bin asked for",
        ["", "as asked", "within one", "(test rows)", "(within one)"],
        [
            [name, *(percent(of[key][name]) for of in (samples, data) for key in ("exact", "within_one"))]
            for name in samples["exact"]
        ],
    )


def _print_separation(areas: Mapping[str, Mapping[str, float]], temperature: float) -> None:
    kinds = list(next(iter(areas.values())))
    meaning = "log sum_y exp f is log p(x) + log Z"
    if temperature != 1:
        meaning = f"x moves at temperature {temperature:g} and y at 1, so log sum_y exp f is a heuristic, not log p(x)"
    print_table(
        "AUROC of the test rows against other images",
        ["score", *kinds],
        [[SCORES[score], *(f"{of[kind]:.4f}" for kind in kinds)] for score, of in areas.items()],
        caption="1: test rows always score higher; .5: no better than chance; 0: test rows always score lower. "
        + meaning,
    )
