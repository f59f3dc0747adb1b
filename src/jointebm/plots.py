"""Figures: the paper's, for points in the plane and for images. The only file that imports matplotlib.

Importing it changes nothing outside it: figures are made without pyplot and carry their style with them.

Legend: N samples, P grid points, C conditions, S configurations of all discrete variables, R rows of tiles.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.conditioning import MAX_CONFIGURATIONS, predict
from jointebm.conditions import Condition, configurations, sample_each, single_values, variable_names
from jointebm.data import Dataset, Toy
from jointebm.data.toy import STANDARD_DEVIATION, attributes_of, centers
from jointebm.draws import Generator
from jointebm.exact import enumerate_log_density
from jointebm.judge import image_block
from jointebm.kernels import LogDensity
from jointebm.models import Model
from jointebm.spaces import Space

try:
    import matplotlib
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("figures need matplotlib, which is not installed: pip install 'jointebm[plots]'") from error

__all__ = [
    "Figure",
    "Grid",
    "figures_of",
    "grid_densities",
    "image_figures",
    "mosaic",
    "sample_figure",
    "save_figure",
    "save_figures",
    "square_grid",
    "toy_figures",
]

LIMIT = 4.6  # half the side of the square in which the toy data are drawn
DATA, MODEL, GUIDE = "#5f6368", "#1a5fb4", "#c8c8c8"
DENSITY = LinearSegmentedColormap.from_list("density", ["white", "#a9cbf2", MODEL, "#0a2a57"])
MAX_TILES = 400
MAX_TITLE = 60
TILE = 36  # pixels that a tile has at least, so that the gap of one pixel between tiles is a thin line
STYLE: Any = {  # matplotlib types the keys of its settings one by one
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


def figures_of(model: Model, dataset: Dataset, generator: Generator) -> dict[str, Figure]:
    """The figures for a model of these data.

    Args:
        model: the model.
        dataset: the data it was trained on, which are drawn beside it.
        generator: source of all draws.

    Raises:
        ValueError: there is no figure for such data.
    """
    if isinstance(dataset, Toy):
        return toy_figures(model, generator)
    return image_figures(model, dataset.test(), generator)


def toy_figures(
    model: Model, generator: Generator, *, num_points: int = 500, num_cells: int = 200
) -> dict[str, Figure]:
    """The paper's figures of the toy data, each beside the truth.

    Args:
        model: a model of the toy data; its samples start from noise and take its own number of steps.
        generator: source of all draws.
        num_points: points per panel.
        num_cells: cells per side of the grid that densities are normalised on.

    Returns:
        "conditional-samples" (Fig. 1, 4, 5), "unconditional" (Fig. 6), "density-attributes" and
        "density-configurations" (Fig. 7-10).
    """
    toy, space = Toy(), model.space
    everything, single, joint = Condition("", {}), single_values(space), configurations(space)
    *sampled, unconditional = sample_each(model, [*single, everything], num_points, generator=generator)
    real = toy.draw(10 * num_points, generator=generator)
    grid = square_grid(num_cells, like=next(model.parameters()))
    true, ours = (
        grid_densities(log_density, space, grid, [everything, *single, *joint])
        for log_density in (toy.log_density, model)
    )
    of_single, of_joint = slice(1, 1 + len(single)), slice(1 + len(single), None)
    with matplotlib.rc_context(STYLE):
        return {
            "conditional-samples": _point_figure(
                "Samples of x given one attribute",
                single,
                [real["point"][c.holds(real)][:num_points] for c in single],
                [values["point"] for values in sampled],
            ),
            "unconditional": _unconditional_figure(
                real["point"][:num_points], unconditional["point"], true[0], ours[0], grid
            ),
            "density-attributes": _density_figure(
                "Density of x given one attribute", single, true[of_single], ours[of_single], grid
            ),
            "density-configurations": _density_figure(
                "Density of x given all three attributes", joint, true[of_joint], ours[of_joint], grid
            ),
        }


class Grid(NamedTuple):
    """Centres of the cells of a square grid, shape (P, 2), the first coordinate counting fastest; and a cell's area."""

    points: Tensor
    area: float


def square_grid(num_cells: int, *, like: Tensor) -> Grid:
    """The grid of `num_cells` by `num_cells` cells over the toy data, with the dtype and device of `like`."""
    side = 2 * LIMIT / num_cells
    ticks = (torch.arange(num_cells, dtype=like.dtype, device=like.device) + 0.5) * side - LIMIT
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return Grid(torch.stack([x.flatten(), y.flatten()], dim=1), side**2)


def grid_densities(log_density: LogDensity, space: Space, grid: Grid, conditions: Sequence[Condition]) -> Tensor:
    """Densities p(x | condition) on a grid: the sum over y of exp f(x, y), normalised over the grid.

    Args:
        log_density: f, shape (N,).
        space: one continuous block of shape (2,), and the discrete blocks that are summed over.
        grid: where.
        conditions: which configurations are summed over, C times.

    Returns:
        Shape (C, P); each row times the area of a cell sums to 1.

    Example:
        >>> grid = square_grid(100, like=torch.empty(0))
        >>> density = grid_densities(Toy().log_density, Toy().space, grid, [Condition("", {})])
        >>> density.shape, round(float(density.sum()) * grid.area, 4)
        (torch.Size([1, 10000]), 1.0)
    """
    pieces = [f for _, f in enumerate_log_density(log_density, space, {space.continuous[0]: grid.points})]
    f = torch.cat(pieces, dim=1)  # (P, S)
    labels = space.decode(space.configurations(device=f.device))
    kept = [condition.holds(labels) for condition in conditions]
    return torch.stack([f[:, columns].logsumexp(dim=1).softmax(dim=0) for columns in kept]) / grid.area


def image_figures(
    model: Model, real: Mapping[str, Tensor], generator: Generator, *, num_columns: int = 10, num_rows: int = 6
) -> dict[str, Figure]:
    """Class-conditional and unconditional samples of images, beside real ones.

    Args:
        model: a model with one continuous block of shape (height, width); its samples start from noise and take its own
            number of steps.
        real: real rows, by block.
        generator: source of all draws.
        num_columns: images per row.
        num_rows: rows of images of the unconditional figure.

    Returns:
        "conditional-NAME" per discrete variable, one row of images per class, and "unconditional", with the labels that
        the model predicts for its samples.

    Raises:
        ValueError: the space has no image, or more continuous blocks than that.
    """
    space, image = model.space, image_block(model.space)
    if image is None or space.continuous != (image,):
        raise ValueError(
            f"figures: drawn for one block of images, (height, width), or for the toy data; this is {space}"
        )
    limits = display_range(model, image)
    conditions = single_values(space)
    sampled = sample_each(model, conditions, num_columns, generator=generator)
    (free,) = sample_each(model, [Condition("", {})], num_rows * num_columns, generator=generator)
    rows = [
        (condition, _padded(real[image][condition.holds(real)], num_columns), values[image])
        for condition, values in zip(conditions, sampled, strict=True)
    ]
    names = [variable for name in space.discrete for variable in variable_names(space, name)]
    with matplotlib.rc_context(STYLE):
        figures = {
            f"conditional-{name}": _class_figure(
                name, [row for row in rows if row[0].text.startswith(f"{name} = ")], limits
            )
            for name in names
        }
        predicted = _predicted(model, image, free[image], generator)
        shown = {name: value[: num_rows * num_columns] for name, value in real.items()}
        figures["unconditional"] = _labelled_figure(
            {
                "data, true labels": (shown[image], _captions(space, shown)),
                "samples, predicted labels": (free[image], _captions(space, predicted)),
            },
            num_columns,
            limits,
        )
    return figures


def display_range(model: Model, name: str) -> tuple[float, float]:
    """The values of a continuous block that are drawn black and white: the range of the noise, in the user's units."""
    bounds = model.space[name].decode(model.noise.parameters[name])
    return float(bounds.min()), float(bounds.max())


def mosaic(images: Tensor, num_columns: int) -> Tensor:
    """Lays images side by side with a gap of one pixel, which is NaN, as are tiles that are left over.

    Args:
        images: shape (N, height, width).
        num_columns: tiles per row.

    Returns:
        Shape (R * (height + 1), num_columns * (width + 1)), R the number of rows; the gap is above and left of a tile.

    Example:
        >>> mosaic(torch.ones(3, 1, 1), 2)
        tensor([[nan, nan, nan, nan],
                [nan, 1., nan, 1.],
                [nan, nan, nan, nan],
                [nan, 1., nan, nan]])
    """
    num_rows = -(-len(images) // num_columns)
    tiles = _padded(images, num_rows * num_columns).unflatten(0, (num_rows, num_columns))
    framed = pad(tiles, (1, 0, 1, 0), value=torch.nan)  # (R, columns, height + 1, width + 1)
    return framed.movedim(1, 2).flatten(2, 3).flatten(0, 1)


def _padded(images: Tensor, num: int) -> Tensor:
    """Exactly `num` images: the first ones, and blanks if there are too few."""
    blanks = images.new_full((max(0, num - len(images)), *images.shape[1:]), torch.nan)
    return torch.cat([images[:num], blanks])


def sample_figure(model: Model, values: Mapping[str, Tensor], title: str) -> Figure | None:
    """One picture of samples: a grid of the first images, a scatter of points in the plane, or None if neither fits.

    Args:
        model: what drew them.
        values: per block, shape (N, *variable_shape).
        title: what they are, such as "horizontal = 3".
    """
    space, image = model.space, image_block(model.space)
    plane = next((name for name in space.continuous if space[name].variable_shape == (2,)), None)
    title = title if len(title) <= MAX_TITLE else f"{title[:MAX_TITLE]}..."
    with matplotlib.rc_context(STYLE):
        if image is not None:
            return _image_figure(values[image], display_range(model, image), title)
        if plane is not None:
            return _plane_figure(values[plane], display_range(model, plane), plane, title)
    return None


def _image_figure(images: Tensor, limits: tuple[float, float], title: str) -> Figure:
    """The first images in a grid as square as it gets."""
    tiles = images[:MAX_TILES]
    if len(images) > MAX_TILES:
        title += f" (the first {MAX_TILES} of {len(images)})"
    num_columns = max(1, round(math.sqrt(len(tiles))))
    num_rows = -(-len(tiles) // num_columns)
    height, width = tiles.shape[1:]
    side = min(0.6, 6 / num_columns)
    figure = Figure(figsize=(side * num_columns, side * num_rows * height / width + 0.3), layout="compressed")
    _tiles(figure.subplots(), tiles, num_columns, limits).set_title(title)
    return figure


def _plane_figure(points: Tensor, limits: tuple[float, float], name: str, title: str) -> Figure:
    """A scatter in a frame that holds all noise and all points, so that it is the same whatever is given."""
    low, high = min(limits[0], float(points.min())), max(limits[1], float(points.max()))
    margin = 0.05 * (high - low)
    figure = Figure(figsize=(3.6, 3.8), layout="compressed")
    ax = figure.subplots()
    _scatter(ax, points, MODEL)
    frame = (low - margin, high + margin)
    ax.set(title=title, xlabel=f"{name}[0]", ylabel=f"{name}[1]", xlim=frame, ylim=frame, aspect="equal")
    return figure


def save_figure(figure: Figure, file: BinaryIO) -> None:
    """Writes a figure as PNG to an open file."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="png")


def save_figures(figures: Mapping[str, Figure], out_dir: str | os.PathLike[str]) -> list[Path]:
    """Writes figures as NAME.png into a new folder, which appears whole or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    out_dir = Path(out_dir)
    if out_dir.exists():
        raise FileExistsError(f"{out_dir}: exists; choose another folder or remove it")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}-", dir=out_dir.parent))
    try:
        for name, figure in figures.items():
            with (scratch / f"{name}.png").open("wb") as file:
                save_figure(figure, file)
        scratch.chmod(0o755)
        scratch.rename(out_dir)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return [out_dir / f"{name}.png" for name in figures]


def _panels(num_rows: int, num_columns: int, side: float) -> tuple[Figure, Any]:
    """Square panels that share their axes, in inches."""
    figure = Figure(figsize=(side * num_columns + 0.4, side * num_rows + 0.6), layout="compressed")
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat:
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=(-4, 0, 4), yticks=(-4, 0, 4), aspect="equal")
    return figure, axes


def _point_figure(
    title: str, conditions: Sequence[Condition], real: Sequence[Tensor], ours: Sequence[Tensor]
) -> Figure:
    """Data above, samples below, one column per condition; the rings are the modes that the condition allows."""
    figure, axes = _panels(2, len(conditions), 1.45)
    figure.suptitle(title)
    for row, (label, colour, columns) in enumerate((("data", DATA, real), ("model", MODEL, ours))):
        axes[row, 0].set_ylabel(label)
        for ax, condition, points in zip(axes[row], conditions, columns, strict=True):
            _rings(ax, condition)
            _scatter(ax, points, colour)
            if row == 0:
                ax.set_title(condition.text)
    return figure


def _density_figure(title: str, conditions: Sequence[Condition], true: Tensor, ours: Tensor, grid: Grid) -> Figure:
    """Truth above, model below, one column per condition, all on one scale."""
    figure, axes = _panels(2, len(conditions), 1.3)
    figure.suptitle(title)
    top = float(torch.cat([true, ours]).max())
    for row, (label, densities) in enumerate((("truth", true), ("model", ours))):
        axes[row, 0].set_ylabel(label)
        for ax, condition, density in zip(axes[row], conditions, densities, strict=True):
            _density(ax, density, top)
            if row == 0:
                ax.set_title(condition.text.replace(", ", "\n"))
    for ax, distance in zip(axes[1], _total_variation(true, ours, grid), strict=True):
        _note_distance(ax, distance)
    return figure


def _unconditional_figure(real: Tensor, ours: Tensor, true_density: Tensor, our_density: Tensor, grid: Grid) -> Figure:
    figure, axes = _panels(1, 4, 1.9)
    for ax, title in zip(axes[0], ("data", "samples", "true density p(x)", "model density p(x)"), strict=True):
        ax.set_title(title)
    _scatter(axes[0, 0], real, DATA)
    _scatter(axes[0, 1], ours, MODEL)
    top = float(torch.stack([true_density, our_density]).max())
    _density(axes[0, 2], true_density, top)
    _density(axes[0, 3], our_density, top)
    _note_distance(axes[0, 3], _total_variation(true_density[None], our_density[None], grid)[0])
    return figure


def _scatter(ax: Axes, points: Tensor, colour: str) -> None:
    x, y = points.cpu().T.numpy()
    ax.scatter(x, y, s=2.5, c=colour, alpha=0.6, linewidths=0)


def _rings(ax: Axes, condition: Condition) -> None:
    """Circles of two standard deviations around the modes that meet a condition."""
    angle = np.linspace(0, 2 * math.pi, 60)
    circle = 2 * STANDARD_DEVIATION * np.stack([np.cos(angle), np.sin(angle)])
    for center in centers()[condition.holds(attributes_of(torch.arange(8)))].numpy():
        ax.plot(*(center[:, None] + circle), color=GUIDE, linewidth=0.6, zorder=0)


def _density(ax: Axes, density: Tensor, top: float) -> None:
    side = math.isqrt(len(density))
    image = density.reshape(side, side).cpu().numpy()
    extent = (-LIMIT, LIMIT, -LIMIT, LIMIT)
    ax.imshow(image, origin="lower", extent=extent, vmin=0, vmax=top, cmap=DENSITY, interpolation="bilinear")


def _total_variation(true: Tensor, ours: Tensor, grid: Grid) -> list[float]:
    distances: list[float] = ((true - ours).abs().sum(dim=1) * (grid.area / 2)).tolist()
    return distances


def _note_distance(ax: Axes, distance: float) -> None:
    ax.text(0.97, 0.03, f"TV {distance:.3f}", transform=ax.transAxes, ha="right", va="bottom", fontsize=6, color=DATA)


def _class_figure(name: str, rows: Sequence[tuple[Condition, Tensor, Tensor]], limits: tuple[float, float]) -> Figure:
    """One row of tiles per class: real images on the left, samples on the right."""
    num_columns, height, width = rows[0][1].shape
    side = 3.3 / num_columns
    figure = Figure(figsize=(7, len(rows) * side * height / width + 0.4), layout="compressed")
    axes = figure.subplots(1, 2)
    panels = {f"data given {name}": [row[1] for row in rows], f"samples given {name}": [row[2] for row in rows]}
    for ax, (title, images) in zip(axes, panels.items(), strict=True):
        _tiles(ax, torch.cat(images), num_columns, limits).set_title(title)
    labels = [condition.text.rpartition(" ")[2] for condition, _, _ in rows]
    axes[0].set_yticks([row + 0.5 for row in range(len(rows))], labels)
    return figure


def _labelled_figure(
    panels: Mapping[str, tuple[Tensor, Sequence[str]]], num_columns: int, limits: tuple[float, float]
) -> Figure:
    """Panels of tiles side by side, a caption above each image."""
    first = next(iter(panels.values()))[0]
    height, width = first.shape[1:]
    strip = max(1, height // 4)
    side = 3.3 / num_columns
    figure = Figure(
        figsize=(7, -(-len(first) // num_columns) * side * (height + strip) / width + 0.4), layout="compressed"
    )
    for ax, (title, (images, captions)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _tiles(ax, pad(images, (0, 0, strip, 0), value=limits[0]), num_columns, limits).set_title(title)
        for index, caption in enumerate(captions):
            row, column = divmod(index, num_columns)
            ax.text(column + 0.12, row + 0.06, caption, va="top", fontsize=5.5, color=MODEL)
    return figure


def _tiles(ax: Axes, images: Tensor, num_columns: int, limits: tuple[float, float]) -> Axes:
    """Draws a mosaic in ink on paper; tile (row, column) covers the unit square that starts at (column, row)."""
    height, width = images.shape[1:]
    factor = -(-TILE // min(height, width))
    enlarged = images.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    margin = min(enlarged.shape[1:]) // 12
    framed = pad(enlarged, (margin,) * 4, value=limits[0])
    num_rows = -(-len(images) // num_columns)
    ax.imshow(
        mosaic(framed, num_columns).cpu().numpy(),
        cmap=matplotlib.colormaps["gray_r"].with_extremes(bad=GUIDE),
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


def _predicted(model: Model, image: str, images: Tensor, generator: Generator) -> dict[str, Tensor]:
    exact = model.space.num_configurations <= MAX_CONFIGURATIONS
    method: Literal["exact", "gibbs"] = "exact" if exact else "gibbs"
    return predict(model, {image: images}, model.space.discrete, method=method, generator=generator).labels


def _captions(space: Space, values: Mapping[str, Tensor]) -> list[str]:
    """All labels of each row, separated by commas."""
    joined = torch.cat([values[name].reshape(len(values[name]), -1) for name in space.discrete], dim=1)
    return [",".join(map(str, row)) for row in joined.tolist()]
