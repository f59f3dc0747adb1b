"""Figures of images given in part: in-painting, and accuracy of labels from the part.

Legend: N rows of data.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from jointebm.inference.inpainting import HALVES, NOTHING, WHOLE, accuracy_given, inpaint, masked
from jointebm.inference.model import Model
from jointebm.plots.style import STYLE, Figure, rc_context
from jointebm.plots.tiles import draw_tiles, grey_range, spread
from jointebm.randomness.draws import Generator

__all__ = ["inpainting_figures"]

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
        figures["labels-from-part"] = _accuracy_figure(accuracies, len(judged[image]))
    return figures


def _rows_figure(rows: list[Tensor], part: str, limits: tuple[float, float]) -> Figure:
    """Named rows of tiles, one below the other."""
    num_columns, height, width = rows[0].shape
    side = 5.6 / num_columns
    figure = Figure(figsize=(7, len(rows) * side * height / width + 0.4), layout="compressed")
    ax = draw_tiles(figure.subplots(), torch.cat(rows), num_columns, limits)
    ax.set_title(f"the rest of an image, given its {part}")
    names = ["data", "given", f"given {part}", f"given {part}\nand labels"]
    ax.set_yticks([row + 0.5 for row in range(len(rows))], names)
    return figure


def _accuracy_figure(accuracies: Mapping[str, Mapping[str, float]], num_rows: int) -> Figure:
    """One group of bars per given part, one bar per block of labels."""
    names = list(next(iter(accuracies.values())))
    figure = Figure(figsize=(7, 0.3 * len(accuracies) * (1 + 0.4 * len(names)) + 0.7), layout="constrained")
    ax = figure.subplots()
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [place + height * (number - (len(names) - 1) / 2) for place in range(len(accuracies))]
        bars = ax.barh(places, [100 * of[name] for of in accuracies.values()], height, color=f"C{number}", label=name)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize=6)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.invert_yaxis()
    ax.set(xlim=(0, 108), xlabel=f"labels predicted correctly, % of {num_rows} test rows")
    ax.set_title("labels given a part of the image")
    if len(names) > 1:
        ax.legend(fontsize=7, loc="upper right")
    return figure
