"""Tiles: many small images in one grid.

Legend: N images, R rows of tiles.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.inference.model import Model
from jointebm.plots.style import GUIDE, MODEL, Axes, Figure, colormaps

__all__ = [
    "display_range",
    "draw_captioned_tiles",
    "draw_square",
    "draw_tiles",
    "grey_range",
    "mosaic",
    "padded",
    "spread",
]

MAX_TILES = 400
MAX_NOISE = 0.75  # upper limit of the noise of pixels beyond [0, 1]
TILE = 36  # smallest side of a tile in pixels, so that the gap of one pixel between tiles is a thin line


def display_range(model: Model, name: str) -> tuple[float, float]:
    """The range of the noise of a continuous block, in the units of the user; data may reach further."""
    bounds = model.space[name].decode(model.noise.parameters[name])
    return float(bounds.min()), float(bounds.max())


def grey_range(model: Model, name: str) -> tuple[float, float]:
    """The values drawn as white and black: [0, 1] for grey levels, even if the noise of the data widens them."""
    low, high = display_range(model, name)
    return (0.0, 1.0) if -MAX_NOISE < low <= 0 and 0.5 < high < 1 + MAX_NOISE else (low, high)


def spread(rows: Tensor, num: int) -> Tensor:
    """At most `num` of the rows, evenly spaced, since data may be sorted by content.

    Example:
        >>> spread(torch.arange(7), 3)
        tensor([0, 3, 6])
    """
    return rows[torch.linspace(0, len(rows) - 1, min(num, len(rows))).long()]


def mosaic(images: Tensor, num_columns: int) -> Tensor:
    """Joins images into one, with gaps of one pixel; gaps and unused tiles are NaN.

    Returns:
        Shape (R * (height + 1), num_columns * (width + 1)), R the number of rows; the gap is above and left of a tile.
    """
    num_rows = -(-len(images) // num_columns)
    tiles = padded(images, num_rows * num_columns).unflatten(0, (num_rows, num_columns))
    framed = pad(tiles, (1, 0, 1, 0), value=torch.nan)  # (R, columns, height + 1, width + 1)
    return framed.movedim(1, 2).flatten(2, 3).flatten(0, 1)


def padded(images: Tensor, num: int) -> Tensor:
    """Exactly `num` images: the first ones, padded with blanks."""
    blanks = images.new_full((max(0, num - len(images)), *images.shape[1:]), torch.nan)
    return torch.cat([images[:num], blanks])


def draw_tiles(ax: Axes, images: Tensor, num_columns: int, limits: tuple[float, float]) -> Axes:
    """Draws a mosaic in ink on paper; tile (row, column) covers the unit square that starts at (column, row)."""
    height, width = images.shape[1:]
    factor = -(-TILE // min(height, width))
    enlarged = images.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    margin = min(enlarged.shape[1:]) // 12
    framed = pad(enlarged, (margin,) * 4, value=limits[0])
    num_rows = -(-len(images) // num_columns)
    ax.imshow(
        mosaic(framed, num_columns).cpu().numpy(),
        cmap=colormaps["gray_r"].with_extremes(bad=GUIDE),
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, num_columns, num_rows, 0),
        aspect=framed.shape[1] / framed.shape[2],
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set(color=GUIDE, linewidth=0.5)
    return ax


def draw_captioned_tiles(
    ax: Axes, images: Tensor, captions: Sequence[str], num_columns: int, limits: tuple[float, float]
) -> Axes:
    """As `draw_tiles`, each tile with a strip on top that holds its caption."""
    strip = max(1, images.shape[1] // 4)
    draw_tiles(ax, pad(images, (0, 0, strip, 0), value=limits[0]), num_columns, limits)
    for index, caption in enumerate(captions):
        row, column = divmod(index, num_columns)
        ax.text(column + 0.12, row + 0.06, caption, va="top", fontsize=5.5, color=MODEL)
    return ax


def draw_square(ax: Axes | None, images: Tensor, limits: tuple[float, float], title: str) -> Axes:
    """Draws the first images in a grid that is as square as possible; None makes a figure."""
    tiles = images[:MAX_TILES]
    if len(images) > MAX_TILES:
        title += f" (the first {MAX_TILES} of {len(images)})"
    num_columns = max(1, round(math.sqrt(len(tiles))))
    num_rows = -(-len(tiles) // num_columns)
    height, width = tiles.shape[1:]
    side = min(0.6, 6 / num_columns)
    if ax is None:
        size = (side * num_columns, side * num_rows * height / width + 0.3)
        ax = Figure(figsize=size, layout="compressed").subplots()
    draw_tiles(ax, tiles, num_columns, limits).set_title(title)
    return ax
