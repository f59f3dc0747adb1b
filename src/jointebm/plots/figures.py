"""The figures of a model, as its data set names them, and one picture of samples."""

from collections.abc import Callable, Mapping

from torch import Tensor

from jointebm.data import Dataset
from jointebm.data.datasets import FigureKind
from jointebm.inference.model import Model
from jointebm.plots.image_grids import image_figures
from jointebm.plots.inpainting_figures import inpainting_figures
from jointebm.plots.plane import plane_figure, toy_figures
from jointebm.plots.style import MAX_TITLE, STYLE, Figure, rc_context
from jointebm.plots.tiles import display_range, grey_range, tiles_figure
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import image_block

__all__ = ["FIGURES", "figures_of", "sample_figure"]


def figures_of(model: Model, dataset: Dataset, generator: Generator) -> dict[str, Figure]:
    """The figures for a model of these data, which are drawn next to its samples.

    Raises:
        ValueError: no figures fit the data.
    """
    if dataset.figures is None:
        raise ValueError(
            f"figures: data {dataset.name!r} name none; got {dataset.space}, expected one block of images, (height, "
            "width), or the toy data"
        )
    return FIGURES[dataset.figures](model, dataset, generator)


def _of_images(model: Model, dataset: Dataset, generator: Generator) -> dict[str, Figure]:
    real, image = dataset.test(), image_block(model.space)
    figures = image_figures(model, real, generator)
    assert image is not None  # `image_figures` refuses other data
    return figures | inpainting_figures(model, real, image, generator)


def _of_toy(model: Model, dataset: Dataset, generator: Generator) -> dict[str, Figure]:  # noqa: ARG001  # the signature of `FIGURES`
    return toy_figures(model, generator)


FIGURES: dict[FigureKind, Callable[[Model, Dataset, Generator], dict[str, Figure]]] = {
    "toy": _of_toy,
    "images": _of_images,
}


def sample_figure(model: Model, values: Mapping[str, Tensor], title: str) -> Figure | None:
    """One picture of values that a model drew: a grid of the first images, points in the plane, or None if neither fits."""
    space, image = model.space, image_block(model.space)
    plane = next((name for name in space.continuous if space[name].variable_shape == (2,)), None)
    title = title if len(title) <= MAX_TITLE else f"{title[:MAX_TITLE]}..."
    with rc_context(STYLE):
        if image is not None:
            return tiles_figure(values[image], grey_range(model, image), title)
        if plane is not None:
            return plane_figure(values[plane], display_range(model, plane), plane, title)
    return None
