"""Figures of the paper, of images, points and tables. The only package that imports matplotlib."""

from jointebm.plots.entry_plots import plot_cells, plot_missing
from jointebm.plots.figures import figures_of, plot_samples
from jointebm.plots.inpainting_figures import inpainting_figures, plot_accuracies
from jointebm.plots.panel_plots import panels, plot_measurements, plot_strip
from jointebm.plots.plane import plot_density
from jointebm.plots.report_plot import plot_report
from jointebm.plots.sample_plots import plot_calibration, plot_images, plot_points
from jointebm.plots.style import COLOURS, save_figure, save_figures, subplots
from jointebm.plots.table_plots import plot_conditional, plot_pairs

__all__ = [
    "COLOURS",
    "figures_of",
    "inpainting_figures",
    "panels",
    "plot_accuracies",
    "plot_calibration",
    "plot_cells",
    "plot_conditional",
    "plot_density",
    "plot_images",
    "plot_measurements",
    "plot_missing",
    "plot_pairs",
    "plot_points",
    "plot_report",
    "plot_samples",
    "plot_strip",
    "save_figure",
    "save_figures",
    "subplots",
]
