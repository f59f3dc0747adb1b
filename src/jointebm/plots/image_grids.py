"""Figures of images: class-conditional and unconditional samples next to data (Figs. 2, 3, 11-23)."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from jointebm.inference.conditions import Condition, sample_each, single_values, variable_names
from jointebm.inference.exact_predictions import MAX_CONFIGURATIONS
from jointebm.inference.model import Model
from jointebm.inference.predict import predict
from jointebm.plots.sample_plots import plot_images
from jointebm.plots.style import STYLE, Figure, rc_context
from jointebm.plots.tiles import grey_range, padded, spread
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Space, image_block

__all__ = ["image_figures"]

MAX_GRIDS = 10


def image_figures(
    model: Model,
    real: Mapping[str, Tensor],
    generator: Generator,
    *,
    num_columns: int = 10,
    num_rows: int = 6,
    num_per_class: int = 36,
) -> dict[str, Figure]:
    """Class-conditional and unconditional samples of images, next to real ones.

    Returns:
        "conditional-NAME" per discrete variable, one row of images per class (Fig. 2, right); "classes-NAME", a grid of
        samples per class, for six classes if there are many (Figs. 11-15, 17-22); "unconditional", with the labels that the
        model predicts for its samples (Figs. 2, left, 16, 23); and with several discrete variables "fixed", rows that share
        the first next to columns that share the second (Fig. 3).
    """
    space, image = model.space, image_block(model.space)
    if image is None or space.continuous != (image,):
        raise ValueError(f"figures: got {space}; expected one block of images, (height, width), or the toy data")
    limits = grey_range(model, image)
    conditions = single_values(space)
    sampled = sample_each(model, conditions, max(num_columns, num_per_class), generator=generator)
    (free,) = sample_each(model, [Condition("", {})], num_rows * num_columns, generator=generator)
    names = [variable for name in space.discrete for variable in variable_names(space, name)]
    drawn: dict[str, dict[str, Tensor]] = {name: {} for name in names}  # by variable and by text of the condition
    shown: dict[str, list[Tensor]] = {name: [] for name in names}
    for condition, values in zip(conditions, sampled, strict=True):
        name = condition.text.rpartition(" = ")[0]
        drawn[name][condition.text] = values[image]
        shown[name].append(padded(spread(real[image][condition.holds(real)], num_columns), num_columns))
    with rc_context(STYLE):
        figures = {
            f"conditional-{name}": _class_figure(
                name, shown[name], {text: x[:num_columns] for text, x in drawn[name].items()}, limits
            )
            for name in names
        }
        figures |= {
            f"classes-{name}": _grids_figure({text: x[:num_per_class] for text, x in drawn[name].items()}, limits)
            for name in names
        }
        if len(names) > 1:
            images = [torch.stack([x[:num_columns] for x in drawn[name].values()]) for name in names[:2]]
            figures["fixed"] = _fixed_figure(names[:2], images, limits)
        method: Literal["exact", "gibbs"] = "exact" if space.num_configurations <= MAX_CONFIGURATIONS else "gibbs"
        predicted = predict(model, {image: free[image]}, space.discrete, method=method, generator=generator).labels
        data = {name: spread(value, num_rows * num_columns) for name, value in real.items()}
        figures["unconditional"] = _labelled_figure(
            {
                "data, true labels": (data[image], _captions(space, data)),
                "samples, predicted labels": (free[image], _captions(space, predicted)),
            },
            num_columns,
            limits,
        )
    return figures


def _class_figure(
    name: str, real: Sequence[Tensor], drawn: Mapping[str, Tensor], limits: tuple[float, float]
) -> Figure:
    """One row of tiles per class: real images on the left, samples on the right."""
    num_columns, height, width = real[0].shape
    side = 3.3 / num_columns
    figure = Figure(figsize=(7, len(real) * side * height / width + 0.4), layout="compressed")
    axes = figure.subplots(1, 2)
    for ax, kind, images in zip(axes, ("data", "samples"), (real, list(drawn.values())), strict=True):
        rows = [text.rpartition(" ")[2] for text in drawn] if ax is axes[0] else None
        plot_images(torch.cat(list(images)), num_columns=num_columns, limits=limits, rows=rows, ax=ax)
        ax.set_title(f"{kind} given {name}")
    return figure


def _grids_figure(images: Mapping[str, Tensor], limits: tuple[float, float]) -> Figure:
    """A square grid of images under each title; with more than ten titles, about six, evenly spaced."""
    titles = list(images)
    titles = titles if len(titles) <= MAX_GRIDS else titles[:: -(-(len(titles) - 1) // 5)]
    num_rows = -(-len(titles) // 5)
    num_columns = -(-len(titles) // num_rows)
    height, width = images[titles[0]].shape[1:]
    figure = Figure(figsize=(7, 7 / num_columns * num_rows * height / width + 0.3 * num_rows), layout="compressed")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
    for ax, title in zip(panels, titles, strict=False):
        plot_images(images[title], num_columns=math.isqrt(len(images[title])), limits=limits, ax=ax).set_title(title)
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
    numbers = [str(row) for row in range(rows[0])]
    plot_images(images[0].flatten(0, 1), num_columns=columns[0], limits=limits, rows=numbers, ax=left)
    left.set_title(f"samples, each row one {names[0]}")
    plot_images(images[1].movedim(1, 0).flatten(0, 1), num_columns=columns[1], limits=limits, ax=right)
    right.set_title(f"samples, each column one {names[1]}")
    right.set_xticks([column + 0.5 for column in range(columns[1])], map(str, range(columns[1])))
    return figure


def _labelled_figure(
    panels: Mapping[str, tuple[Tensor, Sequence[str]]], num_columns: int, limits: tuple[float, float]
) -> Figure:
    """Panels of tiles side by side, with a caption above each image."""
    first = next(iter(panels.values()))[0]
    height, width = first.shape[1:]
    strip = max(1, height // 4)
    side = 3.3 / num_columns
    figure = Figure(
        figsize=(7, -(-len(first) // num_columns) * side * (height + strip) / width + 0.4), layout="compressed"
    )
    for ax, (title, (images, captions)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        plot_images(images, num_columns=num_columns, limits=limits, captions=captions, ax=ax).set_title(title)
    return figure


def _captions(space: Space, values: Mapping[str, Tensor]) -> list[str]:
    """All labels of each row, separated by commas."""
    joined = torch.cat([values[name].reshape(len(values[name]), -1) for name in space.discrete], dim=1)
    return [",".join(map(str, row)) for row in joined.tolist()]
