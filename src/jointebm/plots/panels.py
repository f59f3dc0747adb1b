"""Figures of structured labels: strips of images, points, and measurements next to the expected curve."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.plots.style import DATA, MODEL, STYLE, Figure, rc_context

__all__ = ["Panel", "measured_figure", "points_figure", "strips_figure"]


class Panel(NamedTuple):
    """Measurements next to a curve."""

    title: str
    x: Tensor  # places of the measurements, (N,)
    samples: Tensor  # independent measurements at each place, (N, S); drawn as mean and two standard errors
    curve_x: Sequence[float]  # places of the curve
    curve: Sequence[float]  # expected values


def measured_figure(panels: Sequence[Panel], pictures: Mapping[str, Tensor], *, label: str) -> Figure:
    """Panels side by side over x with this label, followed by black and white pictures (height, width) by title."""
    with rc_context(STYLE):
        widths = [1.5] * len(panels) + [1.0] * len(pictures)
        figure = Figure(figsize=(2.4 * len(panels) + 1.6 * len(pictures), 2.2), layout="constrained")
        axes = figure.subplots(1, len(panels) + len(pictures), squeeze=False, width_ratios=widths)[0]
        for panel, axis in zip(panels, axes, strict=False):
            error = panel.samples.std(dim=1) / panel.samples.shape[1] ** 0.5
            axis.plot(panel.curve_x, panel.curve, color=DATA, linewidth=1)
            mean = panel.samples.mean(dim=1).numpy()
            axis.errorbar(panel.x.numpy(), mean, 2 * error.numpy(), fmt="o", markersize=2.5, color=MODEL)
            axis.set(title=panel.title, xlabel=label)
        for (title, picture), axis in zip(pictures.items(), axes[len(panels) :], strict=True):
            axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(title=title, xticks=[], yticks=[])
    return figure


def strips_figure(strips: Mapping[str, Tensor], *, num_columns: int = 1, cmap: str = "gray") -> Figure:
    """Images (N, height, width) by caption, each drawn side by side."""
    with rc_context(STYLE):
        num_rows = -(-len(strips) // num_columns)
        figure = Figure(figsize=(7.5, 0.85 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
        for axis in axes:
            axis.axis("off")
        for (caption, images), axis in zip(strips.items(), axes, strict=False):
            axis.imshow(torch.cat(list(images.float()), dim=1).numpy(), cmap=cmap)
            axis.set_title(caption, loc="left", pad=2)
    return figure


def points_figure(
    panels: Mapping[str, Tensor], *, marked: Mapping[str, Tensor] | None = None, num_columns: int, size: float
) -> Figure:
    """Points (N, 2) by title, in panels with the same axes; those not `marked`, (N,) bool, are drawn hollow."""
    with rc_context(STYLE):
        num_rows = -(-len(panels) // num_columns)
        figure = Figure(figsize=(1.6 * num_columns, 1.75 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=True).reshape(-1)
        every = torch.cat(list(panels.values()))
        middle, half = (every.amax(dim=0) + every.amin(dim=0)) / 2, 0.55 * float((every.amax(0) - every.amin(0)).max())
        limits = [(float(value) - half, float(value) + half) for value in middle]
        for (title, points), axis in zip(panels.items(), axes, strict=False):
            solid = torch.ones(len(points), dtype=torch.bool) if marked is None else marked[title].bool()
            axis.scatter(*points[solid].T.numpy(), s=size, color=MODEL, linewidths=0)
            axis.scatter(*points[~solid].T.numpy(), s=size, facecolors="none", edgecolors=DATA, linewidths=0.7)
            axis.set(title=title, aspect="equal", xlim=limits[0], ylim=limits[1])
    return figure
