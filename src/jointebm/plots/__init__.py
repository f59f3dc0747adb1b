"""Figures of the paper, for points in the plane and for images. The only package that imports matplotlib."""

from jointebm.plots.figures import figures_of, sample_figure
from jointebm.plots.inpainting_figures import inpainting_figures
from jointebm.plots.style import save_figure, save_figures

__all__ = ["figures_of", "inpainting_figures", "sample_figure", "save_figure", "save_figures"]
