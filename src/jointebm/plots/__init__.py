"""Figures: the paper's, for points in the plane and for images. The only package that imports matplotlib."""

from collections.abc import Mapping

from torch import Tensor

from jointebm.data import Dataset, Toy
from jointebm.draws import Generator
from jointebm.judge import image_block
from jointebm.models import Model
from jointebm.plots.images import display_range, grey_range, image_figure, image_figures, mosaic
from jointebm.plots.inpainting import inpainting_figures
from jointebm.plots.plane import Grid, grid_densities, plane_figure, square_grid, toy_figures
from jointebm.plots.style import MAX_TITLE, STYLE, Figure, rc_context, save_figure, save_figures

__all__ = [
    "STYLE",
    "Figure",
    "Grid",
    "figures_of",
    "grid_densities",
    "image_figures",
    "inpainting_figures",
    "mosaic",
    "sample_figure",
    "save_figure",
    "save_figures",
    "square_grid",
    "toy_figures",
]


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
    real, image = dataset.test(), image_block(model.space)
    figures = image_figures(model, real, generator)
    assert image is not None  # `image_figures` refuses other data
    return figures | inpainting_figures(model, real, image, generator)


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
    with rc_context(STYLE):
        if image is not None:
            return image_figure(values[image], grey_range(model, image), title)
        if plane is not None:
            return plane_figure(values[plane], display_range(model, plane), plane, title)
    return None
