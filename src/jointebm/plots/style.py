"""The style of all figures, and PNG files of them; the only module that imports matplotlib.

Importing it changes no global setting: figures are made without pyplot and carry their own style.
"""

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

try:
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.dates import AutoDateLocator, date2num, num2date
    from matplotlib.figure import Figure as PlainFigure
    from matplotlib.figure import SubFigure
except ImportError as error:
    raise ImportError("figures need matplotlib, which is not installed: pip install 'jointebm[plots]'") from error

from jointebm.storage.atomic import new_folder, replace_file

__all__ = [
    "COLOURS",
    "DATA",
    "DENSITY",
    "GUIDE",
    "MAX_TITLE",
    "MODEL",
    "STYLE",
    "AutoDateLocator",
    "Axes",
    "Figure",
    "LinearSegmentedColormap",
    "colormaps",
    "date2num",
    "num2date",
    "rc_context",
    "save_figure",
    "save_figures",
    "subplots",
]

DATA, MODEL, GUIDE = "#5f6368", "#1a5fb4", "#c8c8c8"
COLOURS = (MODEL, "#c64600", "#2e8b57", "#813d9c", DATA)
"""Colours of groups, in the order in which figures take them.

Example:
    >>> len(COLOURS)
    5
"""
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
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.05,
}


class Figure(PlainFigure):
    """A figure of matplotlib without pyplot; a notebook shows it as the last value of a cell."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        save_figure(self, buffer, dpi=110)
        return buffer.getvalue()


def subplots(
    num_rows: int = 1, num_columns: int = 1, *, size: tuple[float, float] = (3.2, 2.4), titles: Sequence[str] = ()
) -> npt.NDArray[Any]:
    """A new figure with axes in the style of all figures; nothing is shown, and pyplot is not used.

    Args:
        num_rows: rows of axes.
        num_columns: columns of axes.
        size: width and height of one of them, inches.
        titles: of the axes, row by row; those without one have none.

    Returns:
        Axes, shape (num_rows, num_columns); `axes[0, 0].figure` is the figure.

    Raises:
        ValueError: there are more titles than axes.

    Example:
        >>> axes = subplots(1, 2, titles=["data", "model"])
        >>> axes.shape, axes[0, 1].get_title()
        ((1, 2), 'model')
    """
    if len(titles) > num_rows * num_columns:
        raise ValueError(f"subplots: got {len(titles)} titles, expected at most {num_rows * num_columns}")
    with rc_context(STYLE):
        figure = Figure(figsize=(size[0] * num_columns, size[1] * num_rows), layout="constrained")
        axes: npt.NDArray[Any] = np.asarray(figure.subplots(num_rows, num_columns, squeeze=False))
        for ax, title in zip(axes.flat, titles, strict=False):
            ax.set_title(title)
    return axes


def save_figure(figure: PlainFigure | SubFigure, file: BinaryIO | str | os.PathLike[str], *, dpi: float = 200) -> None:
    """Writes a figure as PNG to an open file, or to a path, where it replaces what is there once it is complete.

    Args:
        figure: the figure; `axes.figure` of what a plot returns. Of a part of a figure the whole is written.
        file: an open file, or the path of one.
        dpi: pixels per inch.

    Example:
        >>> axes, file = subplots(), BytesIO()
        >>> save_figure(axes[0, 0].figure, file)
        >>> file.getvalue()[1:4]
        b'PNG'
    """
    if isinstance(file, str | os.PathLike):
        buffer = BytesIO()
        save_figure(figure, buffer, dpi=dpi)
        replace_file(Path(file), buffer.getvalue())
        return
    with rc_context(STYLE):
        figure.figure.savefig(file, format="png", dpi=dpi)


def save_figures(figures: Mapping[str, Figure], out_dir: str | os.PathLike[str]) -> list[Path]:
    """Writes figures as NAME.png into a new folder, which appears complete or not at all.

    Raises:
        FileExistsError: the folder exists.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     [path.name for path in save_figures({"empty": subplots()[0, 0].figure}, Path(folder) / "figures")]
        ['empty.png']
    """
    out_dir = Path(out_dir)
    with new_folder(out_dir) as scratch:
        for name, figure in figures.items():
            with (scratch / f"{name}.png").open("wb") as file:
                save_figure(figure, file)
    return [out_dir / f"{name}.png" for name in figures]
