"""The figures of a model, as its data set names them, and one picture of samples."""

from collections.abc import Callable, Mapping

from torch import Tensor

from jointebm.data import Dataset
from jointebm.data.datasets import FigureKind
from jointebm.inference.model import Model
from jointebm.plots.image_grids import image_figures
from jointebm.plots.inpainting_figures import inpainting_figures
from jointebm.plots.plane import draw_plane, toy_figures
from jointebm.plots.style import MAX_TITLE, STYLE, Axes, Figure, rc_context
from jointebm.plots.tiles import display_range, draw_square, grey_range
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import image_block

__all__ = ["FIGURES", "figures_of", "plot_samples"]


def figures_of(model: Model, dataset: Dataset, generator: Generator) -> dict[str, Figure]:
    """The figures for a model of these data, which are drawn next to its samples.

    Each is a whole figure, since it has several panels; `plot_images`, `plot_points`, `plot_density` and `plot_accuracies`
    draw the panels, and draw them into axes of your own too.

    Raises:
        ValueError: no figures fit the data.

    Example:
        >>> import jointebm, torch
        >>> from jointebm.data import Toy
        >>> sorted(figures_of(jointebm.load("pretrained:toy"), Toy(), torch.Generator().manual_seed(0)))
        ['conditional-samples', 'density-attributes', 'density-configurations', 'unconditional']
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


def plot_samples(model: Model, values: Mapping[str, Tensor], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draws values that a model drew: a grid of the first images, or points in the plane.

    Args:
        model: a model of blocks.
        values: what it drew, by block.
        title: cut to 60 characters.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: no block is an image or a point in the plane.

    Example:
        >>> import jointebm, torch
        >>> model = jointebm.load("pretrained:toy")
        >>> plot_samples(model, {"point": torch.zeros(5, 2)}, title="at the origin").get_title()
        'at the origin'
    """
    space, image = model.space, image_block(model.space)
    plane = next((name for name in space.continuous if space[name].variable_shape == (2,)), None)
    title = title if len(title) <= MAX_TITLE else f"{title[:MAX_TITLE]}..."
    with rc_context(STYLE):
        if image is not None:
            return draw_square(ax, values[image], grey_range(model, image), title)
        if plane is not None:
            return draw_plane(ax, values[plane], display_range(model, plane), plane, title)
    raise ValueError("no block is an image, (height, width), or a point in the plane, (2,)")
