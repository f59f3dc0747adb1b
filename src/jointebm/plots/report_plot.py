"""A picture of the report of a table fit."""

from textwrap import wrap
from typing import Any, Protocol

from jointebm.plots.style import DATA, GUIDE, MODEL, STYLE, Axes, Figure, rc_context

__all__ = ["plot_report"]


class Reported(Protocol):
    """A fitted `JointEBM`, of which `plot_report` needs the report."""

    report_: Any


def plot_report(model: Reported, *, ax: Axes | None = None) -> Axes:
    """Draws the held-out log-likelihood of the density and of its reference, with two standard errors, and what is wrong.

    Args:
        model: a fitted `JointEBM`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: the model is not fitted, or the fit held no rows out.

    Example:
        >>> from types import SimpleNamespace
        >>> report = SimpleNamespace(log_likelihood=-1.0, log_likelihood_error=0.1, reference_log_likelihood=-1.2,
        ...                          reference_log_likelihood_error=0.1, gain=0.2, gain_error=0.05,
        ...                          num_held_out=9, findings=())
        >>> plot_report(SimpleNamespace(report_=report)).get_title(loc="left").splitlines()  # as of a fitted JointEBM
        ['gain 0.200 +- 0.050 nats per row', 'nothing found wrong']
    """
    if (report := getattr(model, "report_", None)) is None:
        raise ValueError(f"plot_report: this {type(model).__name__} is not fitted; call fit first")
    if report.log_likelihood is None:
        raise ValueError(
            "plot_report: the fit held no rows out, so there is nothing to draw; fit 50 rows or more, with num_visits "
            "above 0"
        )
    with rc_context(STYLE):
        ax = Figure(figsize=(4.2, 1.7), layout="constrained").subplots() if ax is None else ax
        found = (
            ("reference", report.reference_log_likelihood, report.reference_log_likelihood_error, GUIDE),
            ("model", report.log_likelihood, report.log_likelihood_error, MODEL),
        )
        for place, (_, value, error, colour) in enumerate(found):
            ax.errorbar(value, place, xerr=2 * error, fmt="o", color=colour, ecolor=DATA, capsize=3)
        ax.set_yticks([0, 1], [name for name, *_ in found])
        ax.set(
            ylim=(-0.6, 1.6), xlabel=f"log-likelihood of the codes of {report.num_held_out} held-out rows, nats per row"
        )
        findings = report.findings or ("nothing found wrong",)
        title = f"gain {report.gain:.3f} +- {report.gain_error:.3f} nats per row"
        wrapped = [line for finding in findings for line in wrap(finding, 45)]
        ax.set_title("\n".join((title, *wrapped)), loc="left")
    return ax
