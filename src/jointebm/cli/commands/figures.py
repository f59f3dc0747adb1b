"""`jointebm figures`: draws the figures of a model."""

from pathlib import Path
from typing import Annotated

import typer

from jointebm.cli.options import DataDir, DeviceOption, Json, ModelName, Seed, Threads

__all__ = ["figures"]


def figures(
    model: ModelName,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the figures (default: figures-NAME)."),
    ] = None,
    seed: Seed = 0,
    data: DataDir = None,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Draw samples and densities of a model next to its data, as PNG files in a new folder."""
    from jointebm.cli.blocks.drawn_figures import draw_figures

    draw_figures(model, out, data, device=device, seed=seed, as_json=as_json)
