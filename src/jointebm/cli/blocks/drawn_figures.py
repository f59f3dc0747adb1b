"""Draws the figures of a model into a folder."""

from pathlib import Path

import torch
import typer
from rich.console import Console

from jointebm.cli.blocks.models import open_data_of, open_model, shown_model
from jointebm.cli.console import print_json
from jointebm.plots import save_figures
from jointebm.plots.figures import figures_of
from jointebm.randomness.device_names import DeviceName
from jointebm.storage.atomic import check_new

__all__ = ["draw_figures"]


def draw_figures(
    name: str, out: Path | None, data_dir: Path | None, *, device: DeviceName, seed: int, as_json: bool
) -> None:
    """Draws all figures of a model and prints the names of the files."""
    path, model = open_model(name, device)
    folder = out or Path(f"figures-{model.config.name}")
    check_new(folder)
    dataset = open_data_of(model, data_dir)
    with Console(stderr=True).status(f"drawing {model.config.name}"):
        figures = figures_of(model, dataset, torch.Generator(model.device).manual_seed(seed))
        written = save_figures(figures, folder)
    if as_json:
        print_json({"model": shown_model(name, path), "out": str(folder), "figures": [str(file) for file in written]})
    else:
        for file in written:
            typer.echo(file)
