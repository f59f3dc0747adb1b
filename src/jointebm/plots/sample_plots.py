"""Pictures of samples: images as tiles, points in the plane, and how far probabilities can be trusted.

Every function draws into the axes it is given, or makes a figure, and returns axes; `ax.figure` is the figure.

Legend: N rows, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jointebm.evaluation.calibration import reliability
from jointebm.plots.style import COLOURS, DATA, GUIDE, STYLE, Axes, rc_context, subplots
from jointebm.plots.tiles import draw_captioned_tiles, draw_tiles

__all__ = ["plot_calibration", "plot_images", "plot_points"]

SIDE = 0.42  # inches of a tile


def plot_images(
    images: Tensor,
    *,
    num_columns: int = 10,
    limits: tuple[float, float] = (0.0, 1.0),
    rows: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws images as tiles, row by row, in ink on paper; pixels that are NaN are grey.

    Args:
        images: shape (N, height, width).
        num_columns: tiles in a row.
        limits: the values drawn as white and as black.
        rows: name of each row of tiles; None is no names.
        captions: a short text above each image, N of them; None is no texts.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `images` has another shape, or the number of names or captions does not fit.

    Example:
        >>> plot_images(torch.rand(6, 8, 8), num_columns=3, rows=["first", "second"]).get_yticks().tolist()
        [0.5, 1.5]
    """
    if images.ndim != 3:
        raise ValueError(f"plot_images: got images of shape {tuple(images.shape)}, expected (N, height, width)")
    num_rows = -(-len(images) // num_columns)
    for name, texts, expected in (("rows", rows, num_rows), ("captions", captions, len(images))):
        if texts is not None and len(texts) != expected:
            raise ValueError(f"plot_images: got {len(texts)} {name}, expected {expected}")
    height, width = images.shape[1] * (1.25 if captions else 1), images.shape[2]
    with rc_context(STYLE):
        if ax is None:
            ax = subplots(size=(SIDE * num_columns + 0.6, SIDE * num_rows * height / width + 0.3))[0, 0]
        images = images.detach().float().cpu()
        if captions is None:
            draw_tiles(ax, images, num_columns, limits)
        else:
            draw_captioned_tiles(ax, images, captions, num_columns, limits)
        if rows is not None:
            ax.set_yticks([place + 0.5 for place in range(num_rows)], rows)
    return ax


def plot_points(
    points: Tensor,
    *,
    by: Sequence[str] | None = None,
    like: Tensor | None = None,
    marked: Tensor | None = None,
    colours: Sequence[str] = COLOURS,
    size: float = 4.0,
    ax: Axes | None = None,
) -> Axes:
    """Draws points in the plane, with equal units on both axes.

    Args:
        points: shape (N, 2).
        by: group of each point, N texts, which colours it; None is one group without a legend.
        like: points (M, 2) whose range is used, so that panels can be compared; None is `points`.
        marked: which points are filled, (N,) bool; the others are hollow. None fills all of them.
        colours: of the groups, in their order.
        size: area of a point, in square points of print.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `points` or `marked` has another shape, or there are more groups than colours.

    Example:
        >>> ax = plot_points(torch.eye(2), by=["left", "right"])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['left', 'right']
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"plot_points: got points of shape {tuple(points.shape)}, expected (N, 2)")
    groups = ["" for _ in points] if by is None else [str(each) for each in by]
    names = sorted(set(groups))
    if len(names) > len(colours):
        raise ValueError(f"plot_points: got {len(names)} groups, expected at most {len(colours)}")
    if marked is not None and marked.shape != points.shape[:1]:
        raise ValueError(f"plot_points: got marked of shape {tuple(marked.shape)}, expected {tuple(points.shape[:1])}")
    points = points.detach().cpu()
    filled = torch.ones(len(points), dtype=torch.bool) if marked is None else marked.bool().cpu()
    frame = points if like is None else like.detach().cpu()
    low, high = frame.amin(dim=0), frame.amax(dim=0)
    margin = 0.06 * float((high - low).max()) or 0.5
    with rc_context(STYLE):
        ax = subplots(size=(2.6, 2.6))[0, 0] if ax is None else ax
        for colour, name in zip(colours, names, strict=False):
            own = torch.tensor([each == name for each in groups], dtype=torch.bool)
            x, y = points[own & filled].T.numpy()
            ax.scatter(x, y, s=size, color=colour, alpha=0.6, linewidths=0, label=name or None)
            if marked is not None:
                x, y = points[own & ~filled].T.numpy()
                ax.scatter(x, y, s=size, facecolors="none", edgecolors=DATA if by is None else colour, linewidths=0.7)
        ax.set(
            xlim=(float(low[0]) - margin, float(high[0]) + margin),
            ylim=(float(low[1]) - margin, float(high[1]) + margin),
            aspect="equal",
        )
        if by is not None:
            ax.legend(frameon=False, markerscale=2, handletextpad=0.1)
    return ax


def plot_calibration(
    probs: Tensor, true: Tensor, *, label: str = "model", min_rows: int = 10, ax: Axes | None = None
) -> Axes:
    """Draws accuracy over confidence in 15 bins, with two standard errors; a model that is calibrated lies on the diagonal.

    Call it again with the same axes to compare. Bins are those of `jointebm.evaluation.calibration`. The legend states the
    expected calibration error of all bins, which is above 0 for a perfect model of few rows too.

    Args:
        probs: probabilities of one variable, shape (N, K).
        true: its true labels, shape (N,).
        label: name of the model in the legend.
        min_rows: bins with fewer rows are left out of the picture, at least 1.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `min_rows` is below 1.

    Example:
        >>> ax = plot_calibration(torch.tensor([[0.2, 0.8], [0.6, 0.4]]), torch.tensor([1, 0]), min_rows=1)
        >>> ax.get_legend().get_texts()[0].get_text()
        'model, ECE 0.300'
    """
    if min_rows < 1:
        raise ValueError(f"plot_calibration: min_rows must be >= 1, got {min_rows}")
    found = reliability(probs.detach().cpu(), true.cpu())
    filled = found.num_rows >= min_rows
    accuracy, count = found.accuracy[filled], found.num_rows[filled]
    error = (accuracy * (1 - accuracy) / count).sqrt()
    with rc_context(STYLE):
        ax = subplots(size=(2.8, 2.6))[0, 0] if ax is None else ax
        num_before = len(ax.containers)
        if num_before == 0:
            ax.plot([0, 1], [0, 1], color=GUIDE, linewidth=0.8, zorder=0)
        ax.errorbar(
            found.confidence[filled].numpy(),
            accuracy.numpy(),
            2 * error.numpy(),
            fmt="o-",
            markersize=3,
            linewidth=0.8,
            color=COLOURS[num_before % len(COLOURS)],
            ecolor=DATA,
            elinewidth=0.6,
            label=f"{label}, ECE {found.ece:.3f}",
        )
        ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.45), yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.legend(frameon=False, loc="upper left")  # above 1, where no accuracy lies
    return ax
