"""`jointebm evaluate`: how good a model is on the test rows of its data."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import typer
from rich.console import Console

from jointebm.cli.console import print_json, print_table, say
from jointebm.cli.files import open_data_of, open_model
from jointebm.cli.options import DataDir, Json, ModelName, Seed, Threads, whole_number
from jointebm.conditioning import MAX_CONFIGURATIONS
from jointebm.data import Dataset
from jointebm.evaluation import evaluate_model
from jointebm.judge import judge_for, judge_samples
from jointebm.models import Model

__all__ = ["evaluate", "evaluation", "print_evaluation"]

Method = Literal["sample", "gibbs", "exact"]
# Calibration is that of the last one.
METHODS: tuple[Method, ...] = get_args(Method)
MEANING = {"sample": "sample-based", "gibbs": "Rao-Blackwellised", "exact": "energy-based"}


def evaluate(
    model: ModelName,
    *,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="A,B",
            help="Decoders: sample, gibbs, exact. Default is all, without exact if there is too much to enumerate.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", parser=whole_number(1), metavar="N", help="Only the first N test rows.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            parser=whole_number(1),
            metavar="N",
            help="Also judge N samples given each value of each label.",
        ),
    ] = None,
    seed: Seed = 0,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Evaluates a model on the test rows of its data: accuracy by decoder, calibration, and samples if asked for."""
    chosen = None if methods is None else _parse_methods(methods)
    path, opened = open_model(model)
    dataset = open_data_of(opened, data)
    report = evaluation(opened, dataset, path, seed=seed, methods=chosen, num_rows=rows, num_samples=samples)
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
) -> dict[str, Any]:
    """The report of a model, as `--json` prints it.

    Args:
        model: the model.
        dataset: the data whose test rows are predicted.
        path: where the model was found.
        seed: of all draws.
        methods: decoders; None is all that are possible.
        num_rows: only the first test rows; None is all.
        num_samples: samples per condition that are judged; None leaves them out.
    """
    started = time.perf_counter()
    values = _first_rows(dataset, num_rows)
    generator = torch.Generator().manual_seed(seed)
    with Console(stderr=True).status(f"evaluating {model.config.name}"):
        accuracies, calibration = evaluate_model(
            model, values, methods=_possible(model) if methods is None else methods, generator=generator
        )
        report: dict[str, Any] = {
            "model": str(path),
            "data": model.config.data,
            "rows": len(next(iter(values.values()))),
            "accuracy": {method: accuracy._asdict() for method, accuracy in accuracies.items()},
            "calibration": calibration._asdict(),
        }
        if num_samples is not None:
            judgement = judge_samples(
                model, dataset, judge_for(dataset, seed=seed), num=num_samples, generator=generator
            )
            report["samples"] = judgement._asdict()
    return {**report, "seconds": round(time.perf_counter() - started, 2)}


def _possible(model: Model) -> tuple[Method, ...]:
    num = model.space.num_configurations
    if num <= MAX_CONFIGURATIONS:
        return METHODS
    say(
        f"leaves out the decoder 'exact': {num} configurations are too many to enumerate (at most {MAX_CONFIGURATIONS})"
    )
    return tuple(method for method in METHODS if method != "exact")


def _first_rows(dataset: Dataset, num: int | None) -> Mapping[str, torch.Tensor]:
    values = dataset.test()
    available = len(next(iter(values.values())))
    if num is not None and num > available:
        raise ValueError(
            f"--rows {num}: the data {dataset.name!r} have {available} test rows; ask for at most that many"
        )
    return {name: value[:num] for name, value in values.items()}


def print_evaluation(report: Mapping[str, Any], note: str = "") -> None:
    """Prints a report as tables, with a last line of notes."""
    accuracies = report["accuracy"]
    names = list(next(iter(accuracies.values()))["per_attribute"])
    rows = [[name, *(_percent(a["per_attribute"][name]) for a in accuracies.values())] for name in names]
    rows += [
        [text, *(_percent(accuracy[key]) for accuracy in accuracies.values())]
        for text, key in (("mean", "mean"), ("exact match", "exact_match"))
    ]
    calibration, last = report["calibration"], list(accuracies)[-1]
    print_table(
        f"{report['model']}: accuracy on {report['rows']} test rows of {report['data']}",
        ["", *(f"{MEANING[method]} ({method})" for method in accuracies)],
        rows,
    )
    if "samples" in report:
        _print_samples(report["samples"])
    typer.echo(f"calibration of {last}: ECE {calibration['ece']:.4f}, Brier score {calibration['brier']:.4f}")
    if note:
        typer.echo(note)
    typer.echo(f"{'training' if 'run' in report else 'evaluation'}: {report['seconds']:.1f} s")


def _print_samples(samples: Mapping[str, Any]) -> None:
    rows = []
    for text, share in samples["per_condition"].items():
        modes = (
            f"{samples['num_modes'][text]} of {samples['num_modes_data'][text]}" if text in samples["num_modes"] else ""
        )
        ratio = samples["variance_ratio"][text]
        rows.append([text, _percent(share), modes, "" if ratio is None else f"{ratio:.2f}"])
    print_table(
        f"{samples['num_per_condition']} samples from noise given each condition",
        ["given", "as asked", "modes", "variance / data"],
        [*rows, ["mean", _percent(samples["agreement"]), "", ""]],
        caption=f"judged by: {samples['judge']}, itself {_percent(samples['judge_accuracy'])} right on the test rows",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
