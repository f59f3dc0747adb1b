"""Figures of the paper, for points in the plane and for images. The only package that imports matplotlib."""

from jointebm.plots.figures import figures_of, sample_figure
from jointebm.plots.image_grids import image_figures
from jointebm.plots.inpainting_figures import inpainting_figures
from jointebm.plots.plane import SquareGrid, grid_densities, square_grid, toy_figures
from jointebm.plots.style import STYLE, Figure, save_figure, save_figures
from jointebm.plots.tiles import mosaic

__all__ = [
    "STYLE",
    "Figure",
    "SquareGrid",
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
