"""`jointebm figures`: the figures of the paper, for one model."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from jointebm.cli.console import print_json
from jointebm.cli.files import open_data_of, open_model
from jointebm.cli.options import DataDir, Json, ModelName, Seed, Threads
from jointebm.storage.atomic import check_new

__all__ = ["figures"]


def figures(
    model: ModelName,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the figures; default is figures-NAME."),
    ] = None,
    seed: Seed = 0,
    data: DataDir = None,
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Draws samples and densities of a model beside its data, as PNG files in a new folder."""
    from jointebm.plots import save_figures
    from jointebm.plots.figures import figures_of

    path, opened = open_model(model)
    folder = out or Path(f"figures-{opened.config.name}")
    check_new(folder)
    dataset = open_data_of(opened, data)
    with Console(stderr=True).status(f"drawing {opened.config.name}"):
        drawn = figures_of(opened, dataset, torch.Generator().manual_seed(seed))
        written = save_figures(drawn, folder)
    if as_json:
        print_json({"model": str(path), "out": str(folder), "figures": [str(file) for file in written]})
    else:
        for file in written:
            typer.echo(file)
