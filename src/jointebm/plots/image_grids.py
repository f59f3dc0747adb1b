"""Figures of images: class-conditional and unconditional grids beside data (Figs. 2, 3, 11-23).

Legend: N samples, R rows of tiles.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.inference.conditions import Condition, sample_each, single_values, variable_names
from jointebm.inference.model import Model
from jointebm.inference.predict import MAX_CONFIGURATIONS, predict
from jointebm.plots.style import GUIDE, MODEL, STYLE, Axes, Figure, colormaps, rc_context
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Space, image_block

__all__ = ["display_range", "draw_tiles", "grey_range", "image_figure", "image_figures", "mosaic"]

MAX_TILES = 400
MAX_GRIDS = 10
MAX_NOISE = 0.75  # how far noise takes pixels beyond [0, 1]
TILE = 36  # pixels that a tile has at least, so that the gap of one pixel between tiles is a thin line


def image_figures(
    model: Model,
    real: Mapping[str, Tensor],
    generator: Generator,
    *,
    num_columns: int = 10,
    num_rows: int = 6,
    num_per_class: int = 36,
) -> dict[str, Figure]:
    """Class-conditional and unconditional samples of images, beside real ones.

    Args:
        model: a model with one continuous block of shape (height, width); its samples start from noise and take its own
            number of steps.
        real: real rows, by block.
        generator: source of all draws.
        num_columns: images per row.
        num_rows: rows of images of the unconditional figure.
        num_per_class: images per class in the grids of single classes, at least `num_columns`.

    Returns:
        "conditional-NAME" per discrete variable, one row of images per class (Fig. 2, right); "classes-NAME", a grid of
        samples per class, or for six of many classes (Figs. 11-15, 17-22); "unconditional", with the labels that the model
        predicts for its samples (Figs. 2, left, 16, 23); and with several discrete variables "fixed", rows of images fixed
        on the first beside columns fixed on the second (Fig. 3).

    Raises:
        ValueError: the space has no image, or more continuous blocks than that.
    """
    space, image = model.space, image_block(model.space)
    if image is None or space.continuous != (image,):
        raise ValueError(
            f"figures: drawn for one block of images, (height, width), or for the toy data; this is {space}"
        )
    limits = grey_range(model, image)
    conditions = single_values(space)
    sampled = sample_each(model, conditions, max(num_columns, num_per_class), generator=generator)
    (free,) = sample_each(model, [Condition("", {})], num_rows * num_columns, generator=generator)
    drawn = {condition.text: values[image] for condition, values in zip(conditions, sampled, strict=True)}
    rows = [
        (
            condition,
            _padded(spread(real[image][condition.holds(real)], num_columns), num_columns),
            drawn[condition.text][:num_columns],
        )
        for condition in conditions
    ]
    names = [variable for name in space.discrete for variable in variable_names(space, name)]
    with rc_context(STYLE):
        figures = {
            f"conditional-{name}": _class_figure(
                name, [row for row in rows if row[0].text.startswith(f"{name} = ")], limits
            )
            for name in names
        }
        of_name = {name: {text: x for text, x in drawn.items() if text.startswith(f"{name} = ")} for name in names}
        figures |= {
            f"classes-{name}": _grids_figure({text: x[:num_per_class] for text, x in of_name[name].items()}, limits)
            for name in names
        }
        if len(names) > 1:
            images = [torch.stack([x[:num_columns] for x in of_name[name].values()]) for name in names[:2]]
            figures["fixed"] = _fixed_figure(names[:2], images, limits)
        predicted = _predicted(model, image, free[image], generator)
        shown = {name: spread(value, num_rows * num_columns) for name, value in real.items()}
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
    """The range of a continuous block's noise in the user's units; it was fitted to data, but need not reach as far."""
    bounds = model.space[name].decode(model.noise.parameters[name])
    return float(bounds.min()), float(bounds.max())


def grey_range(model: Model, name: str) -> tuple[float, float]:
    """The values that are drawn black and white: [0, 1] for grey levels, even where the data's own noise widens them."""
    low, high = display_range(model, name)
    return (0.0, 1.0) if -MAX_NOISE < low <= 0 and 0.5 < high < 1 + MAX_NOISE else (low, high)


def spread(rows: Tensor, num: int) -> Tensor:
    """At most `num` of the rows, evenly spaced: data may lie in order of what they show.

    Example:
        >>> spread(torch.arange(7), 3)
        tensor([0, 3, 6])
    """
    return rows[torch.linspace(0, len(rows) - 1, min(num, len(rows))).long()]


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


def image_figure(images: Tensor, limits: tuple[float, float], title: str) -> Figure:
    """The first images in a grid as square as it gets."""
    tiles = images[:MAX_TILES]
    if len(images) > MAX_TILES:
        title += f" (the first {MAX_TILES} of {len(images)})"
    num_columns = max(1, round(math.sqrt(len(tiles))))
    num_rows = -(-len(tiles) // num_columns)
    height, width = tiles.shape[1:]
    side = min(0.6, 6 / num_columns)
    figure = Figure(figsize=(side * num_columns, side * num_rows * height / width + 0.3), layout="compressed")
    draw_tiles(figure.subplots(), tiles, num_columns, limits).set_title(title)
    return figure


def _class_figure(name: str, rows: Sequence[tuple[Condition, Tensor, Tensor]], limits: tuple[float, float]) -> Figure:
    """One row of tiles per class: real images on the left, samples on the right."""
    num_columns, height, width = rows[0][1].shape
    side = 3.3 / num_columns
    figure = Figure(figsize=(7, len(rows) * side * height / width + 0.4), layout="compressed")
    axes = figure.subplots(1, 2)
    panels = {f"data given {name}": [row[1] for row in rows], f"samples given {name}": [row[2] for row in rows]}
    for ax, (title, images) in zip(axes, panels.items(), strict=True):
        draw_tiles(ax, torch.cat(images), num_columns, limits).set_title(title)
    labels = [condition.text.rpartition(" ")[2] for condition, _, _ in rows]
    axes[0].set_yticks([row + 0.5 for row in range(len(rows))], labels)
    return figure


def _grids_figure(images: Mapping[str, Tensor], limits: tuple[float, float]) -> Figure:
    """A square grid of images under each title; of more than ten titles, about six are drawn, evenly spaced."""
    titles = list(images)
    titles = titles if len(titles) <= MAX_GRIDS else titles[:: -(-(len(titles) - 1) // 5)]
    num_rows = -(-len(titles) // 5)
    num_columns = -(-len(titles) // num_rows)
    height, width = images[titles[0]].shape[1:]
    figure = Figure(figsize=(7, 7 / num_columns * num_rows * height / width + 0.3 * num_rows), layout="compressed")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
    for ax, title in zip(panels, titles, strict=False):
        draw_tiles(ax, images[title], math.isqrt(len(images[title])), limits).set_title(title)
    for ax in panels[len(titles) :]:
        ax.set_axis_off()
    return figure


def _fixed_figure(names: Sequence[str], images: Sequence[Tensor], limits: tuple[float, float]) -> Figure:
    """Rows fixed on the first variable, left, and columns fixed on the second, right; images (classes, n, height, width)."""
    height, width = images[0].shape[2:]
    columns = images[0].shape[1], len(images[1])
    rows = len(images[0]), images[1].shape[1]
    side = 7 / sum(columns)
    figure = Figure(figsize=(7, max(rows) * side * height / width + 0.5), layout="compressed")
    left, right = figure.subplots(1, 2, width_ratios=columns)
    draw_tiles(left, images[0].flatten(0, 1), columns[0], limits).set_title(f"samples, each row one {names[0]}")
    left.set_yticks([row + 0.5 for row in range(rows[0])], map(str, range(rows[0])))
    draw_tiles(right, images[1].movedim(1, 0).flatten(0, 1), columns[1], limits).set_title(
        f"samples, each column one {names[1]}"
    )
    right.set_xticks([column + 0.5 for column in range(columns[1])], map(str, range(columns[1])))
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
        draw_tiles(ax, pad(images, (0, 0, strip, 0), value=limits[0]), num_columns, limits).set_title(title)
        for index, caption in enumerate(captions):
            row, column = divmod(index, num_columns)
            ax.text(column + 0.12, row + 0.06, caption, va="top", fontsize=5.5, color=MODEL)
    return figure


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


def _predicted(model: Model, image: str, images: Tensor, generator: Generator) -> dict[str, Tensor]:
    exact = model.space.num_configurations <= MAX_CONFIGURATIONS
    method: Literal["exact", "gibbs"] = "exact" if exact else "gibbs"
    return predict(model, {image: images}, model.space.discrete, method=method, generator=generator).labels


def _captions(space: Space, values: Mapping[str, Tensor]) -> list[str]:
    """All labels of each row, separated by commas."""
    joined = torch.cat([values[name].reshape(len(values[name]), -1) for name in space.discrete], dim=1)
    return [",".join(map(str, row)) for row in joined.tolist()]
