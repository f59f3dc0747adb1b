"""Figures of structured labels: strips of images, points, and measurements next to the expected curve."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.plots.style import DATA, MODEL, STYLE, Figure, rc_context

__all__ = ["Panel", "measured_figure", "points_figure", "strips_figure"]


class Panel(NamedTuple):
    """Measurements next to a curve.

    Args:
        title: what is measured.
        x: places of the measurements, shape (N,).
        samples: independent measurements at each place, shape (N, S); drawn as mean and two standard errors.
        curve_x: places of the curve, shape (C,).
        curve: expected values, shape (C,).
    """

    title: str
    x: Tensor
    samples: Tensor
    curve_x: Sequence[float]
    curve: Sequence[float]


def measured_figure(panels: Sequence[Panel], pictures: Mapping[str, Tensor], *, label: str) -> Figure:
    """Panels side by side, followed by black and white pictures (height, width).

    Args:
        panels: at least one.
        pictures: by title; may be empty.
        label: meaning of x in all panels.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(panels) + 1.6 * len(pictures), 2.2), layout="constrained")
        axes = figure.subplots(1, len(panels) + len(pictures), squeeze=False, width_ratios=_widths(panels, pictures))[0]
        for panel, axis in zip(panels, axes, strict=False):
            error = panel.samples.std(dim=1) / panel.samples.shape[1] ** 0.5
            axis.plot(panel.curve_x, panel.curve, color=DATA, linewidth=1)
            axis.errorbar(
                panel.x.numpy(),
                panel.samples.mean(dim=1).numpy(),
                2 * error.numpy(),
                fmt="o",
                markersize=2.5,
                color=MODEL,
            )
            axis.set(title=panel.title, xlabel=label)
        for (title, picture), axis in zip(pictures.items(), axes[len(panels) :], strict=True):
            axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(title=title, xticks=[], yticks=[])
    return figure


def strips_figure(strips: Mapping[str, Tensor], *, num_columns: int = 1, cmap: str = "gray") -> Figure:
    """Rows of images with captions.

    Args:
        strips: by caption, images (N, height, width) drawn side by side.
        num_columns: strips side by side.
        cmap: colour map.
    """
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
    """Points in the plane, in panels with the same axes.

    Args:
        panels: by title, points (N, 2).
        marked: by title, which points are drawn solid (N,), bool; None is all.
        num_columns: panels side by side.
        size: area of a point, in the units of matplotlib.
    """
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


def _widths(panels: Sequence[Panel], pictures: Mapping[str, Tensor]) -> list[float]:
    return [1.5] * len(panels) + [1.0] * len(pictures)
