"""Figures of images given in part: in-painting, and accuracy of labels from the part.

Legend: N rows of data.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from jointebm.inference.inpainting import HALVES, NOTHING, WHOLE, accuracy_given, inpaint, masked
from jointebm.inference.model import Model
from jointebm.plots.sample_plots import plot_images
from jointebm.plots.style import STYLE, Axes, Figure, rc_context
from jointebm.plots.tiles import grey_range, spread
from jointebm.randomness.draws import Generator

__all__ = ["inpainting_figures", "plot_accuracies"]

SHOWN = (HALVES[0], HALVES[2])  # the top and the left half


def inpainting_figures(
    model: Model,
    real: Mapping[str, Tensor],
    image: str,
    generator: Generator,
    *,
    num_images: int = 10,
    num_rows: int = 50,
    num_sweeps: int = 60,
    num_steps: int | None = None,
) -> dict[str, Figure]:
    """Images and labels that the model draws given a part of an image.

    Args:
        model: a model with one continuous block, of images.
        real: real rows, by block; some are shown, evenly spaced.
        image: name of the block of images.
        generator: source of all draws.
        num_images: images in a row of tiles.
        num_rows: real rows for the accuracies; `benchmarks/half_image.py` takes more rows and longer chains.
        num_sweeps: sweeps of the two chains per row that predict labels.
        num_steps: kernel steps that draw images; None takes the number of the model.

    Returns:
        "inpainting-PART" for the top and the left half: real images, the given part, the rest drawn given the part, and
        given the labels too. "labels-from-part": accuracy of the labels from parts of the image, and with several blocks of
        labels also given the other blocks.

    Example:
        >>> import jointebm
        >>> from jointebm.data import digits
        >>> model, generator = jointebm.load("pretrained:digits"), torch.Generator().manual_seed(0)
        >>> sorted(inpainting_figures(
        ...     model, digits().test(), "image", generator, num_images=2, num_rows=2, num_sweeps=1, num_steps=1
        ... ))
        ['inpainting-left-half', 'inpainting-top-half', 'labels-from-part']
    """
    shown = {name: spread(value, num_images) for name, value in real.items()}
    judged = {name: spread(value, num_rows) for name, value in real.items()}
    limits = grey_range(model, image)
    with rc_context(STYLE):
        figures = {}
        for part in SHOWN:
            drawn = [
                inpaint(model, shown, image, part, labels=labels, num_steps=num_steps, generator=generator)[image]
                for labels in (False, True)
            ]
            rows = [shown[image], masked(shown[image], part), *drawn]
            figures[f"inpainting-{part.text.replace(' ', '-')}"] = _rows_figure(rows, part.text, limits)
        accuracies = {}
        for part in (NOTHING, *SHOWN, WHOLE):
            for others in (False, True) if len(model.space.discrete) > 1 else (False,):
                if part != NOTHING or others:  # without any given entry the accuracy is that of the prior
                    accuracies[part.text + ", other labels" * others] = accuracy_given(
                        model,
                        judged,
                        image,
                        part,
                        others=others,
                        num_chains=2,
                        num_steps=num_sweeps,
                        generator=generator,
                    )
        bars = plot_accuracies(accuracies, num_rows=len(judged[image])).figure
        assert isinstance(bars, Figure)
        figures["labels-from-part"] = bars
    return figures


def _rows_figure(rows: list[Tensor], part: str, limits: tuple[float, float]) -> Figure:
    """Named rows of tiles, one below the other."""
    num_columns, height, width = rows[0].shape
    side = 5.6 / num_columns
    figure = Figure(figsize=(7, len(rows) * side * height / width + 0.4), layout="compressed")
    names = ["data", "given", f"given {part}", f"given {part}\nand labels"]
    ax = plot_images(torch.cat(rows), num_columns=num_columns, limits=limits, rows=names, ax=figure.subplots())
    ax.set_title(f"the rest of an image, given its {part}")
    return figure


def plot_accuracies(accuracies: Mapping[str, Mapping[str, float]], *, num_rows: int, ax: Axes | None = None) -> Axes:
    """Draws how often labels are predicted correctly, one group of bars per given part, one bar per block of labels.

    Args:
        accuracies: shares from 0 to 1 by the given part, and by block of labels.
        num_rows: rows that they are shares of.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: there is no part, or parts are not of the same blocks.

    Example:
        >>> ax = plot_accuracies({"top half": {"digit": 0.75}, "whole image": {"digit": 0.97}}, num_rows=100)
        >>> [text.get_text() for text in ax.texts]
        ['75.0', '97.0']
    """
    blocks = {tuple(of) for of in accuracies.values()}
    if len(blocks) != 1:
        raise ValueError(f"plot_accuracies: got blocks {sorted(blocks)}, expected the same blocks for one part or more")
    (names,) = blocks
    with rc_context(STYLE):
        if ax is None:
            figure = Figure(figsize=(7, 0.3 * len(accuracies) * (1 + 0.4 * len(names)) + 0.7), layout="constrained")
            ax = figure.subplots()
        height = 0.8 / len(names)
        for number, name in enumerate(names):
            places = [at + height * (number - (len(names) - 1) / 2) for at in range(len(accuracies))]
            shares = [100 * of[name] for of in accuracies.values()]
            bars = ax.barh(places, shares, height, color=f"C{number}", label=name)
            ax.bar_label(bars, fmt="%.1f", padding=2, fontsize=6)
        ax.set_yticks(range(len(accuracies)), list(accuracies))
        ax.invert_yaxis()
        ax.set(xlim=(0, 108), xlabel=f"labels predicted correctly, % of {num_rows} test rows")
        ax.set_title("labels given a part of the image")
        if len(names) > 1:
            ax.legend(fontsize=7, loc="upper right")
    return ax
