"""`jointebm evaluate`: how good a model is on the test rows of its data."""

from typing import Annotated

import torch
import typer

from jointebm.cli.blocks.evaluate import METHODS, Method, evaluation, print_evaluation
from jointebm.cli.console import print_json
from jointebm.cli.files import open_data_of, open_model
from jointebm.cli.options import DataDir, Json, ModelName, Seed, Threads, whole_number
from jointebm.evaluation.out_of_distribution import outlier_images

__all__ = ["evaluate"]


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
    ood: Annotated[
        bool,
        typer.Option(
            "--ood",
            help="Also tell the test rows from Fashion-MNIST, uniform noise and shuffled pixels (28 x 28 images).",
        ),
    ] = False,
    seed: Seed = 0,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Evaluates a model on the test rows of its data: accuracy by decoder, calibration, and if asked for, its samples
    and how well it tells other images from its data."""
    chosen = None if methods is None else _parse_methods(methods)
    path, opened = open_model(model)
    dataset = open_data_of(opened, data)
    outliers = outlier_images(dataset, data, generator=torch.Generator().manual_seed(seed)) if ood else None
    report = evaluation(
        opened, dataset, path, seed=seed, methods=chosen, num_rows=rows, num_samples=samples, outliers=outliers
    )
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
