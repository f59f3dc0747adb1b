"""Evaluates a model of any subset: labels from parts, draws from the highest noise, in-paintings; and prints them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import typer

from jointebm.cli.console import print_table
from jointebm.data import Dataset
from jointebm.evaluation import judge_for
from jointebm.evaluation.parts import draw_report, label_report
from jointebm.inference.model import Model

__all__ = ["first_rows", "of_parts", "percent", "print_parts"]


def of_parts(
    model: Model, dataset: Dataset, *, seed: int, num_rows: int | None, num_samples: int | None
) -> dict[str, Any]:
    """The part of a report that only a model of any subset has."""
    generator = torch.Generator().manual_seed(seed)
    values = first_rows(dataset, num_rows)
    found: dict[str, Any] = {"parts": asdict(label_report(model, values, generator))}
    if num_samples is not None:
        judge = judge_for(dataset, seed=seed)
        found["draws"] = asdict(draw_report(model, values, judge, num=num_samples, generator=generator))
    return found


def first_rows(dataset: Dataset, num: int | None) -> Mapping[str, torch.Tensor]:
    values = dataset.test()
    available = len(next(iter(values.values())))
    if num is not None and num > available:
        raise ValueError(f"--rows {num}: data {dataset.name!r} have {available} test rows; ask for at most that many")
    return {name: value[:num] for name, value in values.items()}


def print_parts(report: Mapping[str, Any]) -> None:
    """Prints labels from parts, and draws if there are any."""
    parts, names = report["parts"], list(report["parts"]["noisy"])
    rows = [
        [part, *(percent(accuracy[name]) for name in names), f"{parts['ece'][part]:.4f}"]
        for part, accuracy in parts["accuracy"].items()
    ]
    print_table(
        "labels given a part of each row",
        ["given", *names, "ECE"],
        [*rows, ["all, six times the noise", *(percent(parts["noisy"][name]) for name in names), ""]],
        caption=f"one pass; {parts['rows_per_second']:.0f} rows per second",
    )
    if "draws" not in report:
        return
    draws = report["draws"]
    typer.echo(
        f"{draws['num']} draws from the highest noise: label frequencies, total variation {draws['frequencies']:.3f} (test "
        f"rows {draws['frequencies_data']:.3f}); below all test rows in F {percent(draws['below_data'])}; median F "
        f"{draws['median_gap']:+.1f} nats from that of test rows"
    )
    if draws["num_ambiguous"]:
        typer.echo(
            f"in-paintings of {draws['num_ambiguous']} ambiguous top halves: labels, total variation "
            f"{draws['paintings']:.3f} from p(label | half); two of a row differ {percent(draws['disagreement'])}, by "
            f"p(label | half) {percent(draws['disagreement_expected'])}"
        )


def percent(share: float) -> str:
    """A share, as reports print it."""
    return f"{100 * share:.2f}%"
