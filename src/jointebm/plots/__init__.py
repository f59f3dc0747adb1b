"""Figures of the paper, for points in the plane and for images. The only package that imports matplotlib."""

from jointebm.plots.figures import figures_of, sample_figure
from jointebm.plots.inpainting_figures import inpainting_figures
from jointebm.plots.style import save_figure, save_figures
from jointebm.plots.table_plots import plot_conditional, plot_pairs, plot_report

__all__ = [
    "figures_of",
    "inpainting_figures",
    "plot_conditional",
    "plot_pairs",
    "plot_report",
    "sample_figure",
    "save_figure",
    "save_figures",
]
