"""The style of all figures, and PNG files of them; the only module that imports matplotlib.

Importing it changes no global setting: figures are made without pyplot and carry their own style.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

try:
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("figures need matplotlib, which is not installed: pip install 'jointebm[plots]'") from error

from jointebm.storage.atomic import new_folder

__all__ = [
    "DATA",
    "DENSITY",
    "GUIDE",
    "MAX_TITLE",
    "MODEL",
    "STYLE",
    "Axes",
    "Figure",
    "colormaps",
    "rc_context",
    "save_figure",
    "save_figures",
]

DATA, MODEL, GUIDE = "#5f6368", "#1a5fb4", "#c8c8c8"
DENSITY = LinearSegmentedColormap.from_list("density", ["white", "#a9cbf2", MODEL, "#0a2a57"])
MAX_TITLE = 60
STYLE: Any = {  # matplotlib declares a type for each key
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlepad": 4,
    "axes.labelsize": 8,
    "axes.linewidth": 0.5,
    "axes.edgecolor": "#9a9a9a",
    "figure.titlesize": 9,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "text.parse_math": False,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.05,
}


def save_figure(figure: Figure, file: BinaryIO) -> None:
    """Writes a figure as PNG to an open file."""
    with rc_context(STYLE):
        figure.savefig(file, format="png")


def save_figures(figures: Mapping[str, Figure], out_dir: str | os.PathLike[str]) -> list[Path]:
    """Writes figures as NAME.png into a new folder, which appears complete or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    out_dir = Path(out_dir)
    with new_folder(out_dir) as scratch:
        for name, figure in figures.items():
            with (scratch / f"{name}.png").open("wb") as file:
                save_figure(figure, file)
    return [out_dir / f"{name}.png" for name in figures]
