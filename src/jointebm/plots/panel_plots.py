"""Panels of one figure: any plot once per title, strips of images, and measurements next to the expected curve.

Legend: N images or places, S measurements at each place.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jointebm.plots.style import DATA, MODEL, STYLE, Axes, rc_context, subplots

__all__ = ["panels", "plot_measurements", "plot_strip"]

_T = TypeVar("_T")


def panels(
    contents: Mapping[str, _T],
    plot: Callable[[_T, Axes], object],
    *,
    num_columns: int = 1,
    size: tuple[float, float] = (3.2, 2.4),
) -> npt.NDArray[Any]:
    """A new figure with one panel per title, each drawn by the same function into axes of its own.

    Args:
        contents: what is drawn, by the title of its panel.
        plot: draws one of them into axes, such as `lambda points, ax: plot_points(points, ax=ax)`.
        num_columns: panels side by side.
        size: width and height of a panel, inches.

    Returns:
        Axes, shape (rows, num_columns); those without a panel are hidden.

    Raises:
        ValueError: there are no contents.

    Example:
        >>> axes = panels({"zeros": torch.zeros(2, 4, 4), "ones": torch.ones(3, 4, 4)}, lambda x, ax: plot_strip(x, ax=ax))
        >>> [ax.get_title(loc="left") for ax in axes.flat]
        ['zeros', 'ones']
    """
    if not contents:
        raise ValueError("panels: got nothing to draw, expected at least one title")
    axes = subplots(-(-len(contents) // num_columns), num_columns, size=size)
    with rc_context(STYLE):
        for (title, content), ax in zip(contents.items(), axes.flat, strict=False):
            plot(content, ax)
            ax.set_title(title, loc="left", pad=2)
        for ax in axes.flat[len(contents) :]:
            ax.axis("off")
    return axes


def plot_strip(images: Tensor, *, ink: Literal["dark", "light"] = "light", ax: Axes | None = None) -> Axes:
    """Draws images side by side, without gaps, over the range of their values.

    Args:
        images: shape (N, height, width).
        ink: whether large values are dark on light paper, or light on dark paper.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `images` has another shape, or `ink` is neither.

    Example:
        >>> plot_strip(torch.rand(3, 4, 5)).images[0].get_array().shape
        (4, 15)
    """
    if images.ndim != 3:
        raise ValueError(f"plot_strip: got images of shape {tuple(images.shape)}, expected (N, height, width)")
    if ink not in ("dark", "light"):
        raise ValueError(f"plot_strip: ink: got {ink!r}, expected 'dark' or 'light'")
    with rc_context(STYLE):
        ax = subplots(size=(7.5, 0.85))[0, 0] if ax is None else ax
        ax.axis("off")
        joined = torch.cat(list(images.detach().float().cpu()), dim=1)
        ax.imshow(joined.numpy(), cmap="gray_r" if ink == "dark" else "gray")
    return ax


def plot_measurements(
    x: Tensor,
    samples: Tensor,
    *,
    curve: tuple[Sequence[float], Sequence[float]],
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draws independent measurements, as their mean and two standard errors, next to the expected curve.

    Args:
        x: places of the measurements, shape (N,).
        samples: independent measurements at each place, shape (N, S), S >= 2.
        curve: places and expected values.
        label: of the horizontal axis.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `samples` has another shape, or one measurement at each place, whose error is unknown.

    Example:
        >>> ax = plot_measurements(torch.arange(2.0), torch.rand(2, 9), curve=([0, 1], [0.5, 0.5]), label="place")
        >>> ax.get_xlabel(), ax.lines[0].get_ydata().tolist()
        ('place', [0.5, 0.5])
    """
    if samples.ndim != 2 or len(samples) != len(x) or samples.shape[1] < 2:
        raise ValueError(
            f"plot_measurements: got samples of shape {tuple(samples.shape)}, expected ({len(x)}, 2 or more)"
        )
    samples = samples.detach().cpu()
    error = samples.std(dim=1) / samples.shape[1] ** 0.5
    with rc_context(STYLE):
        ax = subplots(size=(2.4, 2.2))[0, 0] if ax is None else ax
        ax.plot(*map(np.asarray, curve), color=DATA, linewidth=1)
        mean = samples.mean(dim=1).numpy()
        ax.errorbar(x.detach().cpu().numpy(), mean, 2 * error.numpy(), fmt="o", markersize=2.5, color=MODEL)
        ax.set_xlabel(label)
    return ax
