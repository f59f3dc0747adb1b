"""Figures of points in the plane: samples and densities of the toy data next to the truth (Figs. 1, 4-10).

Legend: N samples, P grid points, C conditions, S configurations of all discrete variables.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.data import Toy
from jointebm.data.toy import STANDARD_DEVIATION, attributes_of, centers
from jointebm.inference.conditions import Condition, configurations, sample_each, single_values
from jointebm.inference.model import Model
from jointebm.kernels import LogDensity
from jointebm.plots.sample_plots import plot_points
from jointebm.plots.style import DATA, DENSITY, GUIDE, MODEL, STYLE, Axes, Figure, rc_context
from jointebm.randomness.draws import Generator
from jointebm.sampling.enumeration import enumerate_log_density
from jointebm.spaces.space import Space

__all__ = ["SquareGrid", "draw_plane", "grid_densities", "plot_density", "square_grid", "toy_figures"]

LIMIT = 4.6  # half the side of the square in which the toy data are drawn
SQUARE = torch.tensor([[-LIMIT, -LIMIT], [LIMIT, LIMIT]]) / 1.12  # with the margin of `plot_points`


def toy_figures(
    model: Model, generator: Generator, *, num_points: int = 500, num_cells: int = 200
) -> dict[str, Figure]:
    """The figures of the paper for the toy data, each next to the truth.

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
    with rc_context(STYLE):
        return {
            "conditional-samples": _point_figure(
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


class SquareGrid(NamedTuple):
    """Centres of the cells of a square grid, shape (P, 2), the first coordinate fastest; and the area of a cell."""

    points: Tensor
    area: float


def square_grid(num_cells: int, *, like: Tensor) -> SquareGrid:
    """The grid of `num_cells` by `num_cells` cells over the toy data, with the dtype and device of `like`."""
    side = 2 * LIMIT / num_cells
    ticks = (torch.arange(num_cells, dtype=like.dtype, device=like.device) + 0.5) * side - LIMIT
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return SquareGrid(torch.stack([x.flatten(), y.flatten()], dim=1), side**2)


def grid_densities(log_density: LogDensity, space: Space, grid: SquareGrid, conditions: Sequence[Condition]) -> Tensor:
    """Densities p(x | condition) on a grid: the sum over y of exp f(x, y), normalised over the grid.

    The space has one continuous block, of shape (2,).

    Returns:
        Shape (C, P); each row times the area of a cell sums to 1.
    """
    pieces = [f for _, f in enumerate_log_density(log_density, space, {space.continuous[0]: grid.points})]
    f = torch.cat(pieces, dim=1)  # (P, S)
    labels = space.decode(space.configurations(device=f.device))
    kept = [condition.holds(labels) for condition in conditions]
    return torch.stack([f[:, columns].logsumexp(dim=1).softmax(dim=0) for columns in kept]) / grid.area


def _panels(num_rows: int, num_columns: int, side: float) -> tuple[Figure, Any]:
    """Square panels that share their axes, in inches."""
    figure = Figure(figsize=(side * num_columns + 0.4, side * num_rows + 0.6), layout="compressed")
    axes = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat:
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=(-4, 0, 4), yticks=(-4, 0, 4), aspect="equal")
    return figure, axes


def _rows(
    title: str,
    conditions: Sequence[Condition],
    names: tuple[str, str],
    side: float,
    draw: Callable[[Axes, int, int], None],
) -> tuple[Figure, Any]:
    """Two named rows of panels, one column per condition; `draw` takes the row and the column."""
    figure, axes = _panels(2, len(conditions), side)
    figure.suptitle(title)
    for column, condition in enumerate(conditions):
        axes[0, column].set_title(condition.text.replace(", ", "\n"))
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name)
        for column, ax in enumerate(axes[row]):
            draw(ax, row, column)
    return figure, axes


def _point_figure(conditions: Sequence[Condition], real: Sequence[Tensor], ours: Sequence[Tensor]) -> Figure:
    """Data above, samples below; rings mark the modes that meet the condition."""

    def draw(ax: Axes, row: int, column: int) -> None:
        _rings(ax, conditions[column])
        _scatter(ax, (real, ours)[row][column], (DATA, MODEL)[row])

    return _rows("Samples of x given one attribute", conditions, ("data", "model"), 1.45, draw)[0]


def _density_figure(
    title: str, conditions: Sequence[Condition], true: Tensor, ours: Tensor, grid: SquareGrid
) -> Figure:
    """Truth above, model below, all on one scale."""
    top = float(torch.cat([true, ours]).max())

    def draw(ax: Axes, row: int, column: int) -> None:
        _density(ax, (true, ours)[row][column], top)

    figure, axes = _rows(title, conditions, ("truth", "model"), 1.3, draw)
    for ax, distance in zip(axes[1], _total_variation(true, ours, grid), strict=True):
        _note_distance(ax, distance)
    return figure


def _unconditional_figure(
    real: Tensor, ours: Tensor, true_density: Tensor, our_density: Tensor, grid: SquareGrid
) -> Figure:
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
    plot_points(points, like=SQUARE, colours=(colour,), size=2.5, ax=ax)


def _rings(ax: Axes, condition: Condition) -> None:
    """Circles of two standard deviations around the modes that meet a condition."""
    angle = np.linspace(0, 2 * math.pi, 60)
    circle = 2 * STANDARD_DEVIATION * np.stack([np.cos(angle), np.sin(angle)])
    for center in centers()[condition.holds(attributes_of(torch.arange(8)))].numpy():
        ax.plot(*(center[:, None] + circle), color=GUIDE, linewidth=0.6, zorder=0)


def plot_density(
    density: Tensor, *, extent: tuple[float, float, float, float], top: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draws a density over the plane, the darker the higher.

    Args:
        density: at the centres of the cells of a grid, shape (height, width), at least 0; rows go up the second coordinate.
        extent: left, right, bottom and top of the grid.
        top: density that is drawn darkest, above 0, so that panels can be compared; None is the largest of `density`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `density` has another shape, or `top` is not above 0.

    Example:
        >>> ax = plot_density(torch.rand(3, 4), extent=(-1, 1, 0, 1))
        >>> ax.get_images()[0].get_extent()
        [-1, 1, 0, 1]
    """
    if density.ndim != 2:
        raise ValueError(f"plot_density: got a density of shape {tuple(density.shape)}, expected (height, width)")
    if top is not None and not top > 0:
        raise ValueError(f"plot_density: top: got {top}, expected a density above 0")
    image = density.detach().cpu().numpy()
    with rc_context(STYLE):
        ax = Figure(figsize=(2.6, 2.6), layout="compressed").subplots() if ax is None else ax
        ax.imshow(image, origin="lower", extent=extent, vmin=0, vmax=top, cmap=DENSITY, interpolation="bilinear")
    return ax


def _density(ax: Axes, density: Tensor, top: float) -> None:
    """A density on the square grid of the toy data, shape (P,)."""
    side = math.isqrt(len(density))
    plot_density(density.reshape(side, side), extent=(-LIMIT, LIMIT, -LIMIT, LIMIT), top=top, ax=ax)


def _total_variation(true: Tensor, ours: Tensor, grid: SquareGrid) -> list[float]:
    distances: list[float] = ((true - ours).abs().sum(dim=1) * (grid.area / 2)).tolist()
    return distances


def _note_distance(ax: Axes, distance: float) -> None:
    ax.text(0.97, 0.03, f"TV {distance:.3f}", transform=ax.transAxes, ha="right", va="bottom", fontsize=6, color=DATA)


def draw_plane(ax: Axes | None, points: Tensor, limits: tuple[float, float], name: str, title: str) -> Axes:
    """A scatter plot in a frame that holds all noise and all points, so that it does not depend on what is given."""
    low, high = min(limits[0], float(points.min())), max(limits[1], float(points.max()))
    ax = Figure(figsize=(3.6, 3.8), layout="compressed").subplots() if ax is None else ax
    plot_points(points, like=torch.tensor([[low, low], [high, high]]), size=2.5, ax=ax)
    ax.set(title=title, xlabel=f"{name}[0]", ylabel=f"{name}[1]")
    return ax
